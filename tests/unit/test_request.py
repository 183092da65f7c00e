"""Requests: what is accepted, and the one line that says why something is not."""

import base64
import json
import re
import uuid
from typing import Any

import msgspec
import pytest

from cutor.model.errors import InvalidRequest
from cutor.model.limits import BOUND_CEILINGS, Bounds, Policy, RequestedLimit, RequestedLimits
from cutor.model.request import File, Request, TestCase, ValidRequest, digest, parse_request, request_from, size_bytes
from cutor.model.request_checks import validate

FILES = [{"name": "shell.nix", "content": "{}"}, {"name": "cutor-run.sh", "content": "true"}]


def request(**changes: Any) -> dict[str, Any]:
    return {"files": FILES, "test_cases": [{}], **changes}


def check(document: dict[str, Any], policy: Policy | None = None) -> ValidRequest:
    return validate(parse_request(json.dumps(document).encode()), policy or Policy(), "made-up")


def file(name: str, content: str = "", **more: str) -> list[dict[str, str]]:
    return [*FILES, {"name": name, "content": content, **more}]


def test_the_smallest_request() -> None:
    valid = check(request())
    assert (valid.address.tenant, valid.address.id, valid.cache, valid.stop_on_failure) == ("default", "made-up", True, True)
    assert valid.files == {"shell.nix": b"{}", "cutor-run.sh": b"true"}
    assert (valid.test_cases[0].input, valid.test_cases[0].expected_output) == (b"", None)


@pytest.mark.parametrize(
    ("encoding", "content", "data"),
    [("utf8", "é\0", "é\0".encode()), ("base64", base64.b64encode(b"\xff\0").decode(), b"\xff\0"), ("hex", "ff00", b"\xff\0")],
)
def test_encodings(encoding: str, content: str, data: bytes) -> None:
    assert check(request(files=file("a", content, encoding=encoding))).files["a"] == data
    cases = [{"input": content, "expected_output": content, "encoding": encoding}]
    case = check(request(test_cases=cases)).test_cases[0]
    assert (case.input, case.expected_output) == (data, data)


REFUSED = [
    ({"files": FILES[:1]}, "files: cutor-run.sh is missing; every submission needs it"),
    ({"files": FILES[1:]}, "files: shell.nix is missing; every submission needs it"),
    ({"files": file("/etc/passwd")}, "files: the name '/etc/passwd' is absolute; it must be relative to the submission"),
    ({"files": file("../x")}, "files: the name '../x' has the segment '..'; empty, '.' and '..' are refused"),
    ({"files": file("a/./b")}, "files: the name 'a/./b' has the segment '.'; empty, '.' and '..' are refused"),
    ({"files": file("a//b")}, "files: the name 'a//b' has the segment ''; empty, '.' and '..' are refused"),
    ({"files": file("")}, "files: the name '' has the segment ''; empty, '.' and '..' are refused"),
    ({"files": file("a/")}, "files: the name 'a/' has the segment ''; empty, '.' and '..' are refused"),
    ({"files": file("a\0b")}, "files: the name 'a\\x00b' holds a NUL character"),
    ({"files": file("a" * 256)}, f"files: the name '{'a' * 40}'… has 256 bytes; the maximum is 255 bytes"),
    ({"files": file("shell.nix")}, "files: 'shell.nix' is there twice"),
    ({"files": file("shell.nix/x")}, "files: 'shell.nix' is a file and the directory of 'shell.nix/x'"),
    ({"files": file("a", "%%%", encoding="base64")}, "files: the content of 'a' is not valid base64: "),
    ({"files": file("a", "QUJD=", encoding="base64")}, "files: the content of 'a' is not valid base64: its padding or"),
    ({"files": file("a", "QR==", encoding="base64")}, "files: the content of 'a' is not valid base64: its padding or"),
    ({"files": file("a", "QQ", encoding="base64")}, "files: the content of 'a' is not valid base64: "),
    ({"files": file("a", "QUJD\n", encoding="base64")}, "files: the content of 'a' is not valid base64: "),
    ({"files": file("a", "-_-_", encoding="base64")}, "files: the content of 'a' is not valid base64: "),
    ({"files": file("a", "é", encoding="base64")}, "files: the content of 'a' is not valid base64: "),
    ({"files": file("a", "0g", encoding="hex")}, "files: the content of 'a' is not valid hex: it must be pairs of the digits"),
    (
        {"files": file("a", "ff 00", encoding="hex")},
        "files: the content of 'a' is not valid hex: it must be pairs of the digits",
    ),
    ({"files": file("a", " ", encoding="hex")}, "files: the content of 'a' is not valid hex: it must be pairs of the digits"),
    ({"files": file("a", "f", encoding="hex")}, "files: the content of 'a' is not valid hex: it must be pairs of the digits"),
    ({"files": file("a", "", encoding="rot13")}, "request: files[2].encoding: Invalid enum value 'rot13'"),
    ({"files": [{"name": "a"}]}, "request: files[0]: Object missing required field `content`"),
    ({"test_cases": []}, "test_cases: at least one is needed"),
    ({"test_cases": [{"args": ["a\0"]}]}, "test_cases[0].args: an argument holds a NUL character"),
    ({"test_cases": [{"input": "x", "encoding": "base64"}]}, "test_cases[0].input is not valid base64: "),
    ({"test_cases": [{"args": "x"}]}, "request: test_cases[0].args: Expected `array`, got `str`"),
    ({"tenant": "No Such"}, "tenant 'No Such': it must be 1 to 32 characters of a-z, 0-9 and '-'"),
    ({"tenant": "other"}, "tenant 'other' is not declared; this stack has: default"),
    ({"id": "a.b"}, "id 'a.b': it must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'"),
    ({"id": "a\n"}, "id 'a\\n': it must be"),
    ({"environment_files": ["lib.nix"]}, "environment_files: 'lib.nix' is not among the files"),
    ({"labels": {"": "x"}}, "labels: a key is empty"),
    ({"labels": {"k": "v" * 300}}, "labels.k: key and value are 301 bytes, more than the maximum of 256 bytes"),
    ({"labels": {"a\nb": "v" * 300}}, "labels['a\\nb']: key and value are 303 bytes, more than the maximum of 256 bytes"),
    ({"labels": {str(n): "" for n in range(33)}}, "labels: 33 are more than the maximum of 32 labels"),
    ({"limits": {"run": {"memory_bytes": 0}}}, "limits.run.memory_bytes is 0: it must be from 1 to "),
    ({"limits": {"run": {"cpu_time_ms": 10**12}}}, "limits.run.cpu_time_ms is 1000000000000: more than the maximum of "),
    ({"limits": {"run": {"memory": 1}}}, "request: limits.run: Object contains unknown field `memory`"),
    ({"compare": "fuzzy"}, "request: compare: Invalid enum value 'fuzzy'"),
    ({"env": {}}, "request: Object contains unknown field `env`"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_refused_with_one_line_that_names_the_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        check(request(**change))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"files": "\xff"}', b"null"])
def test_bytes_that_are_no_request(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^request: "):
        parse_request(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"files": [{"name": "a", "content": "\xff"}], "test_cases": [{}]}',
        b'{"files": [{"name": "\xff", "content": ""}], "test_cases": [{}]}',
        b'{"files": [], "test_cases": [], "labels": {"\xff": ""}}',
        b'{"files": [], "test_cases": [], "\xff": ""}',
    ],
)
def test_bytes_that_are_no_text_within_a_string(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^request: not valid UTF-8$"):
        parse_request(raw)


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    """Where a string is wanted, the first bracket is wrong; where anything is skipped, or built in Python, the depth is."""
    nest = b"[" * depth + b"]" * depth
    for raw in (nest, b'{"files": %b}' % nest, b'{"wish": %b}' % nest):
        with pytest.raises(InvalidRequest, match=r"^request: "):
            parse_request(raw)
    built: list[Any] = []
    for _ in range(depth):
        built = [built]
    with pytest.raises(InvalidRequest, match=r"^request: nested too deeply$"):
        request_from(request(labels=built))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"a": 1}}, "request: labels[...]: Expected `str`, got `int`"),
        ({"labels": None}, "request: labels: Expected `object`, got `null`"),
        ({"labels": [("a", "b")]}, "request: labels: Expected `object`, got `array`"),
        ({"id": 5}, "request: id: Expected `str | null`, got `int`"),
        ({"id": uuid.UUID(int=1)}, "request: id: Expected `str | null`, got `uuid`"),
        ({"files": (File(name="a", content=b"x"),)}, "request: files[0].content: Expected `str`, got `bytes`"),
        ({"files": (File(name="a", content="x", encoding="rot13"),)}, "request: files[0].encoding: Invalid enum value"),
        ({"files": (object(),)}, "request: files[0]: Expected `object`, got `object`"),
        ({"test_cases": (TestCase(args="ls"),)}, "request: test_cases[0].args: Expected `array`, got `str`"),
        ({"limits": RequestedLimits(run=5)}, "request: limits.run: Expected `object`, got `int`"),
    ],
)
def test_a_struct_whose_types_nobody_checked(changes: dict[str, Any], message: str) -> None:
    """Structs built in Python take anything; in a request, or in a mapping that is one, they are read like JSON."""
    good = {"files": tuple(File(**one) for one in FILES), "test_cases": (TestCase(),)}
    for built in (Request(**good | changes), good | changes):
        with pytest.raises(InvalidRequest) as error:
            request_from(built)
        assert str(error.value).startswith(message)


def test_a_struct_is_the_request_that_it_is() -> None:
    built = Request(
        files=tuple(File(**one) for one in FILES),
        test_cases=[TestCase(args=["a"])],  # type: ignore[arg-type]
        limits=RequestedLimits(run=RequestedLimit(open_files=9)),
    )
    assert request_from(built) == parse_request(
        json.dumps(request(test_cases=[{"args": ["a"]}], limits={"run": {"open_files": 9}})).encode()
    )


def surrogates() -> list[tuple[dict[str, Any], str]]:
    said = "is not Unicode text: it holds the lone surrogate '\\udcff'"
    return [
        ({"files": file("a", "x\udcff")}, f"files: the content of 'a' {said}"),
        ({"files": file("x\udcff")}, f"files: the name 'x\\udcff' {said}"),
        ({"test_cases": [{"input": "\udcff"}]}, f"test_cases[0].input {said}"),
        ({"test_cases": [{"args": ["\udcff"]}]}, f"test_cases[0].args {said}"),
        ({"test_cases": [{"name": "\udcff"}]}, f"test_cases[0].name {said}"),
        ({"labels": {"key": "\udcff"}}, f"labels.key {said}"),
        ({"labels": {"k\udcff": ""}}, f"labels['k\\udcff'] {said}"),
    ]


@pytest.mark.parametrize(("change", "message"), surrogates(), ids=[message[:30] for _, message in surrogates()])
def test_text_that_no_file_could_hold(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        validate(request_from(request(**change)), Policy(), "made-up")
    assert str(error.value) == message


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "change",
    [
        {LONG: 1},
        {"compare": LONG},
        {"files": file(LONG)},
        {"files": file("\0" + LONG)},
        {"files": [*FILES, *[{"name": LONG, "content": ""}] * 2]},
        {"files": file(LONG, "%", encoding="base64")},
        {"environment_files": [LONG]},
        {"labels": {LONG: ""}},
        {"labels": {"\n" * 100_000: ""}},
    ],
)
def test_a_message_is_no_longer_than_a_line(change: dict[str, Any]) -> None:
    """A builder says the same of what nobody had checked, and `rejected` has to fit into an event."""
    with pytest.raises(InvalidRequest) as error:
        check(request(**change))
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            {"request_bytes": 42},
            "request: 43 bytes of contents, names, arguments and labels are more than the maximum of 42 bytes",
        ),
        ({"files": 1}, "files: 2 are more than the maximum of 1 files"),
        ({"test_cases": 1}, "test_cases: 2 are more than the maximum of 1 test cases"),
        ({"args": 1}, "test_cases[0].args: 2 are more than the maximum of 1 arguments"),
        ({"arg_bytes": 3}, "test_cases[0].args: together 4 bytes, more than the maximum of 3 bytes"),
        ({"test_case_name_bytes": 1}, "test_cases[0].name: 2 bytes are more than the maximum of 1 bytes"),
    ],
)
def test_bounds(bounds: dict[str, int], message: str) -> None:
    document = request(
        test_cases=[{"args": ["a", "b"], "name": "nn"}, {}], labels={"k": "é"}, environment_files=["shell.nix", "shell.nix"]
    )
    with pytest.raises(InvalidRequest) as error:
        check(document, Policy(bounds=Bounds(**bounds)))
    assert str(error.value) == message


def test_an_argument_is_no_longer_than_what_linux_passes_whatever_all_of_them_may_be() -> None:
    policy = Policy(bounds=Bounds(arg_bytes=BOUND_CEILINGS["arg_bytes"]))
    check(request(test_cases=[{"args": ["é" * 65_535 + "x", "y" * 30_000]}]), policy)
    with pytest.raises(InvalidRequest) as error:
        check(request(test_cases=[{}, {"args": ["y", "é" * 65_536]}]), policy)
    assert str(error.value) == (
        "test_cases[1].args: an argument of 131072 bytes, more than the 131071 that Linux passes to a program"
    )


def test_names_of_files_are_bounded_so_that_a_container_can_be_told_of_them() -> None:
    """However many files and however long names are allowed: an event holds more than a frame's header."""
    policy = Policy(bounds=Bounds(files=1000, file_name_bytes=5000))
    with pytest.raises(InvalidRequest) as error:
        check(request(files=[*FILES, *({"name": long_name(n), "content": ""} for n in range(244))]), policy)
    assert str(error.value) == (
        "files: the names take 984385 bytes where a container is told of them, more than the maximum of 983040 bytes"
    )
    check(request(files=[*FILES, *({"name": long_name(n), "content": ""} for n in range(243))]), policy)


def long_name(number: int) -> str:
    """Return a path of 4000 characters, which JSON writes as they are."""
    return f"{number:04}" + f"/{'d' * 221}" * 18


def test_names_arguments_and_labels_count_as_well() -> None:
    """Contents 6, file names 21, environment files 9, a test case's name 2 and arguments 2, a label 3."""
    plain = check(request())
    assert size_bytes(plain) == 6 + 21
    more = request(test_cases=[{"args": ["a", "b"], "name": "nn"}, {}], labels={"k": "é"}, environment_files=["shell.nix"])
    assert size_bytes(check(more, Policy(bounds=Bounds(request_bytes=43)))) == 6 + 21 + 9 + 2 + 2 + 3


def test_what_cannot_be_stored_apart_is_bounded_so_that_an_event_holds_it() -> None:
    """Two hundred test cases with 60 KB of arguments each: every one is within its bound, together they are no event."""
    with pytest.raises(InvalidRequest) as error:
        check(request(test_cases=[{"args": ["x" * 60_000]}] * 200))
    assert re.fullmatch(
        r"request: names, arguments, labels and limits take 12\d{6} bytes of its event, more than the maximum of 1572864 "
        r"bytes; what is large belongs into files and inputs",
        str(error.value),
    )
    check(request(test_cases=[{"args": ["x" * 60_000]}] * 25))
    check(request(test_cases=[{"name": "n" * 256, "args": ["x"] * 200}] * 1000))


def test_the_digest_sees_through_encodings_order_and_defaults() -> None:
    plain = check(request())
    same = request(
        id="other",
        files=[{"name": "cutor-run.sh", "content": "dHJ1ZQ==", "encoding": "base64"}, FILES[0]],
        test_cases=[{"input": "", "args": []}],
        cache=True,
        limits={"run": {}},
    )
    assert digest(check(same)) == digest(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"files": [FILES[0], {"name": "cutor-run.sh", "content": "false"}]},
        {"files": file("empty")},
        {"test_cases": [{}, {}]},
        {"test_cases": [{"input": "x"}]},
        {"test_cases": [{"args": ["x"]}]},
        {"test_cases": [{"expected_output": ""}]},
        {"test_cases": [{"name": "x"}]},
        {"cache": False},
        {"compare": "exact"},
        {"stop_on_failure": False},
        {"labels": {"a": "b"}},
        {"limits": {"run": {"open_files": 9}}},
        {"limits": {"compile": {"open_files": 9}}},
        {"environment_files": ["shell.nix"]},
    ],
)
def test_the_digest_sees_every_difference(change: dict[str, Any]) -> None:
    assert digest(check(request(**change))) != digest(check(request()))


def test_the_digest_does_not_depend_on_the_deployers_limits() -> None:
    defaults = Policy()
    run = msgspec.structs.replace(defaults.limits.run.default, open_files=3)
    limits = msgspec.structs.replace(defaults.limits, run=msgspec.structs.replace(defaults.limits.run, default=run))
    assert digest(check(request(), Policy(limits=limits))) == digest(check(request()))
