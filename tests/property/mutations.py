"""Ways to make a good request bad: each changes a document in place and returns what the message about it begins with."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final, NamedTuple

from cutor.model.limits import STAGE_KINDS, UNITS
from tests.property.good_requests import BOUNDS, POLICY, Document

Apply = Callable[[Random, Document], str]

# what may be where, by JSON's own types

TYPES: Final[dict[str, str]] = {
    "files": "array",
    "files[]": "object",
    "files[].name": "str",
    "files[].content": "str",
    "files[].encoding": "str",
    "test_cases": "array",
    "test_cases[]": "object",
    "test_cases[].name": "str null",
    "test_cases[].input": "str null",
    "test_cases[].expected_output": "str null",
    "test_cases[].args": "array",
    "test_cases[].args[]": "str",
    "test_cases[].encoding": "str",
    "id": "str null",
    "tenant": "str",
    "environment_files": "array",
    "environment_files[]": "str",
    "cache": "bool",
    "stop_on_failure": "bool",
    "compare": "str",
    "limits": "object",
    **{f"limits.{kind}": "object" for kind in STAGE_KINDS},
    **{f"limits.{kind}.{name}": "int null" for kind in STAGE_KINDS for name in UNITS},
    "labels": "object",
    "labels[...]": "str",
}
VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "null": (None,),
    "bool": (True, False),
    "int": (0, 1, -1, 1 << 70),
    "float": (0.5, 1.0, -1e300),
    "str": ("", "true", "1"),
    "array": ([], [1], [[]]),
    "object": ({}, {"a": 1}),
}
PYTHON_VALUES: Final[tuple[Any, ...]] = (object(), b"x", 1j, range(3), dt.date(2020, 1, 1), iter([]), ..., int)


class Place(NamedTuple):
    """A value in a document: its path as messages have it, its path in `TYPES`, and how to set it."""

    path: str
    shape: str
    holder: Any
    key: Any


def places(document: Document) -> Iterator[Place]:
    """Yield every value of a good request that has a type of its own."""
    for key in document:
        yield from _beneath(Place(key, key, document, key))


def _beneath(place: Place) -> Iterator[Place]:
    yield place
    value = place.holder[place.key]
    if isinstance(value, list):
        for index in range(len(value)):
            yield from _beneath(Place(f"{place.path}[{index}]", f"{place.shape}[]", value, index))
    elif isinstance(value, dict):
        for key in value:
            tail = "[...]" if place.shape == "labels" else f".{key}"
            yield from _beneath(Place(place.path + tail, place.shape + tail, value, key))


def objects(document: Document) -> list[tuple[str, Document]]:
    """Return every object of fixed fields, the request itself included, with what a message says before it names a field."""
    inner = [place for place in places(document) if TYPES.get(place.shape) == "object" and place.path != "labels"]
    values = [(f"request: {place.path}: ", place.holder[place.key]) for place in inner]
    return [("request: ", document), *((where, value) for where, value in values if isinstance(value, dict))]


# anywhere


def mistype(random: Random, document: Document) -> str:
    place = random.choice([place for place in places(document) if place.shape in TYPES])
    wrong = random.choice([kind for kind in VALUES if kind not in TYPES[place.shape].split()])
    place.holder[place.key] = random.choice(VALUES[wrong])
    return f"request: {place.path}: Expected `"


def leave_out(random: Random, document: Document) -> str:
    files = [(f"request: files[{n}]: ", file) for n, file in enumerate(document["files"])]
    where, holder = random.choice([("request: ", document), *files])
    field = random.choice(["files", "test_cases"] if holder is document else ["name", "content"])
    holder.pop(field)
    return f"{where}Object missing required field `{field}`"


def add_unknown(random: Random, document: Document) -> str:
    where, holder = random.choice(objects(document))
    field = random.choice(["", "wish", "stdin", "Name", "FILES", "wall_time", "memory", "env", "limit", "test_case", "$", "é"])
    holder[field] = random.choice(["", 1, None, {}, [], "x" * 3000])
    return f"{where}Object contains unknown field `{field}`"


def add_hostile(random: Random, document: Document) -> str:
    where, holder = random.choice(objects(document))
    field = random.choice(
        ["\x1b]0;title\x07", "a\nb\r", "\0", "\u202egnp.exe", "x" * 5000, "\x1b" * 500, "`", "\U000e0041" * 99]
    )
    holder[field] = 1
    return f"{where}Object contains unknown field `"


def surrogate_field(random: Random, document: Document) -> str:
    random.choice(objects(document))[1]["\udc00wish"] = 1
    return "request: "


def put_python_value(random: Random, document: Document) -> str:
    place = random.choice([place for place in places(document) if place.shape in TYPES])
    place.holder[place.key] = random.choice(PYTHON_VALUES)
    return "request: "


def nest_deeply(random: Random, document: Document) -> str:
    nest: list[Any] = []
    for _ in range(random.choice([1500, 5000])):
        nest = [nest]
    place = random.choice([place for place in places(document) if place.shape in TYPES])
    place.holder[place.key] = nest
    return "request: nested too deeply"


# files


def add_file(random: Random, document: Document, **file: str) -> None:
    document["files"].insert(random.randint(0, len(document["files"])), {"content": "", **file})


def bad_name(*names: str) -> Apply:
    def apply(random: Random, document: Document) -> str:
        name = random.choice(names)
        add_file(random, document, name=name)
        return f"files: the name {name!r} "

    return apply


def long_name(random: Random, document: Document) -> str:
    long = BOUNDS.file_name_bytes + 1
    add_file(random, document, name=random.choice(["a" * long, "é" * long, "\x1b" * long, "a/" * long + "a", "/" * 5000]))
    return "files: the name '"


def without(script: str) -> Apply:
    def apply(random: Random, document: Document) -> str:
        document["files"] = [file for file in document["files"] if file["name"] != script]
        return f"files: {script} is missing"

    return apply


def no_files(random: Random, document: Document) -> str:
    document["files"] = []
    return "files: shell.nix is missing"


def same_name(random: Random, document: Document) -> str:
    """One name twice: the same file, the same name with another content, or in another encoding."""
    file = dict(random.choice(document["files"]))
    change = random.choice([{}, {"content": "", "encoding": "utf8"}, {"content": "AAAA", "encoding": "base64"}])
    add_file(random, document, **{**file, **change})
    return f"files: {file['name']!r} is there twice"


def file_as_directory(random: Random, document: Document) -> str:
    parent = random.choice(document["files"])["name"]
    add_file(random, document, name=parent + random.choice(["/x", "/y/z", "/shell.nix"]))
    return f"files: {parent!r} is a file and the directory of "


def too_many_files(random: Random, document: Document) -> str:
    document["files"] += [{"name": f"more-{n}", "content": ""} for n in range(BOUNDS.files + random.randrange(3))]
    return "files: "


def too_many_bytes(random: Random, document: Document) -> str:
    add_file(random, document, name="large", content="x" * (BOUNDS.request_bytes + 1 + random.randrange(99)))
    return "request: "


def bad_file(field: str, make: Callable[[Random], str], beginning: str, **more: str) -> Apply:
    """One more file whose content or encoding is bad."""

    def apply(random: Random, document: Document) -> str:
        file = {"name": "bad", "content": "", **more, field: make(random)}
        document["files"].append(file)
        return beginning.format(len(document["files"]) - 1)

    return apply


# contents


def not_base64(random: Random) -> str:
    """Return what is not the one base64 text of any bytes, but nearly."""
    text = base64.b64encode(random.randbytes(random.randint(1, 9))).decode()
    place = random.randrange(len(text.rstrip("=")))
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bare = text.rstrip("=")
    ways = [
        text[:place] + random.choice(["\n", " ", "\r\n", "\0", "="]) + text[place:],
        text[:place] + random.choice("-_%.éА") + text[place + 1 :],
        text + "=",
        text + "\n",
        text[:-1],
        "QQ==" + text,
    ]
    if bare != text:  # bits behind the last byte
        ways.append(bare[:-1] + digits[digits.index(bare[-1]) | 1] + text[len(bare) :])
    return random.choice(ways)


def not_hex(random: Random) -> str:
    text = random.randbytes(random.randint(1, 9)).hex()
    place = random.randrange(len(text))
    return random.choice(
        [
            text[:-1],
            text + random.choice(" \n0g"),
            text[:place] + random.choice("gG-. \n\0é٣") + text[place + 1 :],
            "0x" + text,
            text[:2] + " " + text,
        ]
    )


def no_encoding(random: Random) -> str:
    return random.choice(["", "utf-8", "UTF8", "ascii", "base32", "BASE64", "hex ", "\x1b[31m", "x" * 3000])


def surrogate(random: Random) -> str:
    return random.choice(["\udc80", "a\ud800", "\udfff\ud800 b"])


# test cases


def a_case(random: Random, document: Document) -> tuple[str, Document]:
    number = random.randrange(len(document["test_cases"]))
    return f"test_cases[{number}]", document["test_cases"][number]


def no_cases(random: Random, document: Document) -> str:
    document["test_cases"] = []
    return "test_cases: at least one is needed"


def too_many_cases(random: Random, document: Document) -> str:
    document["test_cases"] += [{} for _ in range(BOUNDS.test_cases)]
    return f"test_cases: {len(document['test_cases'])} are more than the maximum of {BOUNDS.test_cases} test cases"


def bad_case(change: Callable[[Random], Document], beginning: str) -> Apply:
    def apply(random: Random, document: Document) -> str:
        where, case = a_case(random, document)
        case |= change(random)
        return beginning.format(where)

    return apply


def bad_text(make: Callable[[Random], str], encoding: str, beginning: str) -> Apply:
    """Input or expected output of a test case that is not what the encoding says."""

    def apply(random: Random, document: Document) -> str:
        where, case = a_case(random, document)
        field, other = random.sample(["input", "expected_output"], 2)
        case |= {"encoding": encoding, field: make(random), other: None}
        return f"{where}.{field} {beginning}"

    return apply


# limits


def bad_limit(make: Callable[[Random, int], Any], beginning: str) -> Apply:
    """One limit of one stage; ``make`` is given its maximum."""

    def apply(random: Random, document: Document) -> str:
        kind, name = random.choice(STAGE_KINDS), random.choice(list(UNITS))
        value = make(random, getattr(getattr(POLICY.limits, kind).maximum, name))
        document.setdefault("limits", {})[kind] = {name: value}
        return beginning.format(place=f"limits.{kind}.{name}", value=value)

    return apply


# labels, tenant, id


def bad_labels(make: Callable[[Random], Document], beginning: str) -> Apply:
    def apply(random: Random, document: Document) -> str:
        document["labels"] = make(random)
        return beginning.format(len(document["labels"]))

    return apply


def long_label(random: Random) -> Document:
    long = BOUNDS.label_bytes
    return random.choice(
        [{"a": "é" * long}, {"k" * (long + 1): ""}, {"\n" * 5000: ""}, {"a" * long: "b"}, {"\U000e0041" * long: ""}]
    )


def set_to(field: str, values: tuple[str, ...], beginning: str) -> Apply:
    def apply(random: Random, document: Document) -> str:
        document[field] = random.choice(values)
        return beginning

    return apply


def strange_environment_file(random: Random, document: Document) -> str:
    names = ["nowhere.nix", "", "../shell.nix", "shell.nix/", "SHELL.NIX", "./shell.nix", "\x1b.nix", "x" * 5000]
    document.setdefault("environment_files", []).insert(0, random.choice(names))
    return "environment_files: "
