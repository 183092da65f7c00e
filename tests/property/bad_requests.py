"""Requests that are bad for sure: a good one, and known mutations of it, each with the words that its refusal begins with.

A mutation makes a request bad whatever others were made before it: two of one area are never made together, and what may hit
anything is made last. So the message of a request with several of them begins with the words of one of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal, NamedTuple

from tests.property.good_requests import BOUNDS, Document, good_request
from tests.property.mutations import (
    Apply,
    add_hostile,
    add_unknown,
    bad_case,
    bad_file,
    bad_labels,
    bad_limit,
    bad_name,
    bad_text,
    file_as_directory,
    leave_out,
    long_label,
    long_name,
    mistype,
    nest_deeply,
    no_cases,
    no_encoding,
    no_files,
    not_base64,
    not_hex,
    objects,
    put_python_value,
    same_name,
    set_to,
    strange_environment_file,
    surrogate,
    surrogate_field,
    too_many_bytes,
    too_many_cases,
    too_many_files,
    without,
)

ANYWHERE: Final = "anywhere"
NO_JSON: Final = ("request: JSON is malformed: ", "request: Input data was truncated", "request: not valid UTF-8")
NO_NUMBERS: Final = (float("nan"), float("inf"), float("-inf"))


class Mutation(NamedTuple):
    """One way to be wrong. ``area`` is the field it changes.

    ``json`` says what becomes of it as JSON: the same, something that is no JSON, or nothing, because only Python has such
    values.
    """

    name: str
    area: str
    apply: Apply
    json: Literal["same", "malformed", "python"] = "same"


MUTATIONS: Final = (
    Mutation("a value of another type", ANYWHERE, mistype),
    Mutation("a field that is missing", ANYWHERE, leave_out),
    Mutation("an unknown field", ANYWHERE, add_unknown),
    Mutation("an unknown field with a hostile name", ANYWHERE, add_hostile),
    Mutation("an unknown field that is no text", ANYWHERE, surrogate_field, "malformed"),
    Mutation("a value that JSON does not have", ANYWHERE, put_python_value, "python"),
    Mutation("a deep nest", ANYWHERE, nest_deeply, "python"),
    Mutation("no shell.nix", "files", without("shell.nix")),
    Mutation("no cutor-run.sh", "files", without("cutor-run.sh")),
    Mutation("no files", "files", no_files),
    Mutation("an absolute name", "files", bad_name("/etc/passwd", "/", "//x", "/shell.nix", "/\x1b")),
    Mutation("a name with ..", "files", bad_name("..", "../x", "a/../b", "a/..", "x/../../y")),
    Mutation("a name with .", "files", bad_name(".", "./x", "a/./b", "a/.")),
    Mutation("a name with an empty segment", "files", bad_name("", "a//b", "a/", "a/b//")),
    Mutation("a name with NUL", "files", bad_name("\0", "a\0b", "a/\0/b", "shell.nix\0")),
    Mutation("a long name", "files", long_name),
    Mutation("a name twice", "files", same_name),
    Mutation("a file as a directory", "files", file_as_directory),
    Mutation("too many files", "files", too_many_files),
    Mutation("too many bytes", "files", too_many_bytes),
    Mutation(
        "a file that is no base64",
        "files",
        bad_file("content", not_base64, "files: the content of 'bad' is not valid base64: ", encoding="base64"),
    ),
    Mutation(
        "a file that is no hex",
        "files",
        bad_file("content", not_hex, "files: the content of 'bad' is not valid hex: ", encoding="hex"),
    ),
    Mutation(
        "a file's encoding", "files", bad_file("encoding", no_encoding, "request: files[{}].encoding: Invalid enum value ")
    ),
    Mutation("a file that is no text", "files", bad_file("content", surrogate, "files: the content of 'bad' "), "malformed"),
    Mutation("a name that is no text", "files", bad_file("name", surrogate, "files: the name "), "malformed"),
    Mutation("no test case", "test_cases", no_cases),
    Mutation("too many test cases", "test_cases", too_many_cases),
    Mutation("an input that is no base64", "test_cases", bad_text(not_base64, "base64", "is not valid base64: ")),
    Mutation("an input that is no hex", "test_cases", bad_text(not_hex, "hex", "is not valid hex: ")),
    Mutation("an input that is no text", "test_cases", bad_text(surrogate, "utf8", "is not Unicode text: "), "malformed"),
    Mutation(
        "a test case's encoding",
        "test_cases",
        bad_case(lambda random: {"encoding": no_encoding(random)}, "request: {}.encoding: Invalid enum value "),
    ),
    Mutation(
        "too many arguments", "test_cases", bad_case(lambda _: {"args": [""] * (BOUNDS.args + 1)}, "{}.args: 5 are more than ")
    ),
    Mutation(
        "long arguments",
        "test_cases",
        bad_case(lambda _: {"args": ["é" * (BOUNDS.arg_bytes // 4)] * 2}, "{}.args: together "),
    ),
    Mutation(
        "an argument with NUL",
        "test_cases",
        bad_case(lambda random: {"args": ["-v", random.choice(["\0", "a\0", "\0b"])]}, "{}.args: an argument holds a NUL "),
    ),
    Mutation(
        "an argument that is no text", "test_cases", bad_case(lambda r: {"args": [surrogate(r)]}, "{}.args "), "malformed"
    ),
    Mutation(
        "a test case's long name",
        "test_cases",
        bad_case(lambda random: {"name": random.choice(["n" * 17, "é" * 9, "\x1b" * 5000])}, "{}.name: "),
    ),
    Mutation(
        "a test case's name that is no text", "test_cases", bad_case(lambda r: {"name": surrogate(r)}, "{}.name "), "malformed"
    ),
    Mutation("a limit of zero", "limits", bad_limit(lambda *_: 0, "{place} is 0: it must be from 1 to ")),
    Mutation(
        "a negative limit",
        "limits",
        bad_limit(lambda random, most: -random.choice([1, 7, most, 1 << 63]), "{place} is {value}: it must be from 1 to "),
    ),
    Mutation(
        "a limit over the maximum",
        "limits",
        bad_limit(lambda random, most: most + random.choice([1, 2, most]), "{place} is {value}: more than the maximum of "),
    ),
    Mutation(
        "a huge limit",
        "limits",
        bad_limit(
            lambda random, _: random.choice([1, -1]) * random.choice([1 << 63, 1 << 64, 10**30, 10**39, 10**41, 10**4000]),
            "{place} is ",
        ),
    ),
    Mutation("a limit of too many digits", "limits", bad_limit(lambda *_: 10**5000, "{place} is a number of more than ")),
    Mutation(
        "a limit that is no integer",
        "limits",
        bad_limit(
            lambda random, _: random.choice([True, False, 1.5, 1000.0, "1000", "", [1], {}]),
            "request: {place}: Expected `int | null`, got ",
        ),
    ),
    Mutation(
        "a limit that is no number",
        "limits",
        bad_limit(lambda random, _: random.choice(NO_NUMBERS), "request: {place}: Expected `int | null`, got `float`"),
        "malformed",
    ),
    Mutation(
        "too many labels",
        "labels",
        bad_labels(lambda _: {str(n): "" for n in range(BOUNDS.labels + 1)}, "labels: 4 are more than "),
    ),
    Mutation("a long label", "labels", bad_labels(long_label, "labels")),
    Mutation("a label without a key", "labels", bad_labels(lambda _: {"a": "b", "": "x"}, "labels: a key is empty")),
    Mutation("a label that is no text", "labels", bad_labels(lambda r: {"k": surrogate(r)}, "labels.k is not "), "malformed"),
    Mutation("a label's key that is no text", "labels", bad_labels(lambda r: {surrogate(r): "v"}, "labels['"), "malformed"),
    Mutation(
        "a malformed tenant",
        "tenant",
        set_to(
            "tenant", ("", "UPPER", "a.b", "a b", "x" * 33, "é", "a\n", "*", ">", "\x1b[2J", "../x", "x" * 9000), "tenant '"
        ),
    ),
    Mutation("an undeclared tenant", "tenant", set_to("tenant", ("nobody", "other-9", "x" * 32, "-", "0"), "tenant '")),
    Mutation(
        "a malformed id",
        "id",
        set_to("id", ("", "a.b", "x" * 65, "a/b", "é", "a ", "*", "\x1b]0;x\x07", "a\n", "\U000e0041" * 999), "id '"),
    ),
    Mutation("an id that is no text", "id", set_to("id", ("\udc80", "a\ud800"), "id '"), "malformed"),
    Mutation("a strange environment file", "environment_files", strange_environment_file),
    Mutation(
        "an unknown comparison",
        "compare",
        set_to("compare", ("", "fuzzy", "EXACT", "exact ", "\x1b[31m", "x" * 5000), "request: compare: Invalid enum value "),
    ),
)


class Breakage(NamedTuple):
    """One way for bytes to be wrong: ``apply`` is given a request and its JSON, and returns other bytes."""

    name: str
    apply: Callable[[Random, Document, bytes], bytes]
    beginning: str = "request: "


def truncate(random: Random, _: Document, raw: bytes) -> bytes:
    return raw[: random.randrange(len(raw))]


def put_no_utf8(random: Random, _: Document, raw: bytes) -> bytes:
    place = random.randrange(len(raw))
    return raw[:place] + random.choice([b"\xff", b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"]) + raw[place:]


def repeat_key(random: Random, document: Document, raw: bytes) -> bytes:
    """A key that one of the objects has already comes once more, with its own value or another one."""
    labels = document["labels"] if isinstance(document.get("labels"), dict) else {}
    holder = random.choice([holder for holder in (*(holder for _, holder in objects(document)), labels) if holder])
    key = random.choice(list(holder))
    holder["again"] = None
    marked = dumps(document)
    del holder["again"]
    value = random.choice(list(holder.values())) if holder is labels else holder[key]
    return marked.replace('"again": null', f"{json.dumps(key)}: {dumps(value)}").encode()


def add_text(*texts: bytes) -> Callable[[Random, Document, bytes], bytes]:
    """One more field that is no JSON, or what no request has."""
    return lambda random, _, raw: raw[:-1] + b"," + random.choice(texts) + b"}"


def nest(random: Random, _: Document, raw: bytes) -> bytes:
    depth = random.choice([1500, 100_000])
    opening, closing = random.choice([(b"[", b"]"), (b'{"a":', b"}")])
    field = random.choice([b"labels", b"files", b"wish", b"limits"])
    return raw[:-1] + b',"%s":%s1%s}' % (field, opening * depth, closing * depth)


def another_type(random: Random, _: Document, raw: bytes) -> bytes:
    return random.choice([b"[%s]" % raw, b"[]", b'"x"', b"1", b"null", b"true", json.dumps(raw.decode()).encode()])


BREAKAGES: Final = (
    Breakage("truncated", truncate),
    Breakage("no UTF-8", put_no_utf8),
    Breakage("a key twice", repeat_key, "request: the key '"),
    Breakage("no JSON", add_text(b"", b"'a':1", b'"a":NaN', b'"a":.5', b'"a":01', b'"a":0x1', b"/**/", b'"a"', b'"a":"\\x"')),
    Breakage("deep", nest),
    Breakage("something behind it", lambda random, _, raw: raw + random.choice([b"x", b"{}", b"\0", b",", raw])),
    Breakage(
        "something before it", lambda random, _, raw: random.choice([b"\xef\xbb\xbf", b"x", b"\0", b"//\n", b")]}',"]) + raw
    ),
    Breakage("another type", another_type, "request: Expected `object`, got "),
    Breakage("nothing", lambda random, *_: random.choice([b"", b" ", b"\n\n"])),
    Breakage("another encoding", lambda random, _, raw: raw.decode().encode(random.choice(["utf-16", "utf-32", "utf-16-le"]))),
    Breakage("single quotes", lambda random, _, raw: raw.replace(b'"', b"'")),
)


class Bad(NamedTuple):
    """A bad request: as a document (null where bytes alone can be so wrong), as JSON (null where JSON has no word for it)."""

    mutations: tuple[str, ...]
    document: Document | None
    raw: bytes | None
    beginnings: tuple[str, ...]
    """What the message begins with: one of these."""


def bad_request(random: Random, first: Mutation | Breakage) -> Bad:
    """Return a request with ``first``, and maybe with up to two more mutations that don't meet it."""
    chosen = [] if isinstance(first, Breakage) else [first]
    pool = [mutation for mutation in MUTATIONS if chosen or mutation.json == "same"]
    for mutation in random.sample(pool, random.choice([0, 0, 1, 2])):
        if mutation.area not in {one.area for one in chosen}:
            chosen.append(mutation)
    chosen.sort(key=lambda mutation: mutation.area == ANYWHERE)
    document = good_request(random)
    beginnings = tuple(mutation.apply(random, document) for mutation in chosen)
    names = tuple(mutation.name for mutation in chosen)
    if isinstance(first, Breakage):
        raw = first.apply(random, document, dumps(document).encode())
        return Bad((*names, first.name), None, raw, (*beginnings, first.beginning))
    ways = {mutation.json for mutation in chosen}
    if "malformed" in ways:
        beginnings += NO_JSON
    return Bad(names, document, None if "python" in ways else _dumped(random, document), beginnings)


def _dumped(random: Random, document: Any) -> bytes:
    """Return JSON, with or without escapes for what is not ASCII; half a surrogate pair becomes one, or no UTF-8."""
    return dumps(document, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")


def dumps(document: Any, *, ensure_ascii: bool = True) -> str:
    """Return JSON with numbers of any length; Python writes none of more than 4300 digits if it is not told to."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(document, ensure_ascii=ensure_ascii)
    finally:
        sys.set_int_max_str_digits(most)
