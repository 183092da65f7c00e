"""Requests: what is accepted, and the one line that says why something is not."""

import base64
import json
from typing import Any

import msgspec
import pytest

from cutor.model.errors import InvalidRequest
from cutor.model.limits import Bounds, Policy
from cutor.model.request import ValidRequest, digest, parse_request, validate

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
    ({"files": file("a", "0g", encoding="hex")}, "files: the content of 'a' is not valid hex: "),
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
    ({"labels": {"k": "v" * 300}}, "labels.k: key and value are more than the maximum of 256 bytes"),
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
    ("bounds", "message"),
    [
        ({"request_bytes": 5}, "request: 6 bytes of files and inputs are more than the maximum of 5 bytes"),
        ({"files": 1}, "files: 2 are more than the maximum of 1 files"),
        ({"test_cases": 1}, "test_cases: 2 are more than the maximum of 1 test cases"),
        ({"args": 1}, "test_cases[0].args: 2 are more than the maximum of 1 arguments"),
        ({"arg_bytes": 3}, "test_cases[0].args: together more than the maximum of 3 bytes"),
        ({"label_bytes": 1}, "test_cases[0].name: more than the maximum of 1 bytes"),
    ],
)
def test_bounds(bounds: dict[str, int], message: str) -> None:
    document = request(test_cases=[{"args": ["a", "b"], "name": "nn"}, {}])
    with pytest.raises(InvalidRequest) as error:
        check(document, Policy(bounds=Bounds(**bounds)))
    assert str(error.value) == message


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
