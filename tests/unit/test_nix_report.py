"""Frames of a build container: what is taken, and that anything else is refused."""

from typing import Any

import msgspec
import pytest

from cutor.jail.inside.protocol import Frame, ProtocolError
from cutor.jail.measured import stage_report
from cutor.model.environments import pack_variables
from cutor.model.limits import DEFAULT_LIMITS
from cutor.nix.inside.store import MAX_CLOSURE_PATHS
from cutor.nix.report import (
    MAX_CLOSURE_TEXT_BYTES,
    BuiltHeader,
    Progress,
    Ready,
    Waiting,
    decode_environment,
    decode_header,
)

LIMIT = DEFAULT_LIMITS.dependencies.default
BASH = "/nix/store/pibc6zqd6iq2q3jh5z8kkkdggi8ix3fb-bash"
PYTHON = "/nix/store/k43f9q6jabdy2286gi9qaad00gf097d7-python3"
DERIVATION = "/nix/store/r895xlcxkq9y2hyh33ri5bwn0qdl123f-nix-shell.drv"
VARIABLES = ((b"A", b"1\n2"), (b"B", b"\xff"))

REPORT: dict[str, Any] = {
    "exit_code": 0,
    "signal_number": None,
    "killed_by": None,
    "oom_kills": 0,
    "cpu_time_ms": 12,
    "wall_time_ms": 34,
    "memory_peak_bytes": None,
    "stdout_bytes": 3,
    "stdout_bytes_total": 3,
    "stderr_bytes": 2,
    "stderr_bytes_total": 2,
    "fault": None,
}
CLOSURE = f"{PYTHON}\n{BASH}\n".encode()
BUILT: dict[str, Any] = {
    "type": "built",
    "report": REPORT,
    "derivation": DERIVATION,
    "closure_text_bytes": len(CLOSURE),
    "closure_bytes": 1000,
    "programs": {"bash": f"{BASH}/bin/bash", "sh": f"{BASH}/bin/sh", "env": f"{PYTHON}/bin/env"},
}


def frame(header: object, body: bytes = b"") -> Frame:
    return Frame(msgspec.json.encode(header), body)


def built(**changes: object) -> BuiltHeader:
    header = decode_header(frame(BUILT | changes))
    assert isinstance(header, BuiltHeader)
    return header


def test_a_finished_build() -> None:
    header = built()
    report, rest = stage_report(header.report, b"outer" + CLOSURE + pack_variables(VARIABLES), LIMIT)
    assert (report.stdout, report.stderr, report.stderr_bytes_total, report.wall_time_ms) == (b"out", b"er", 2, 34)
    environment = decode_environment("k", header, rest)
    assert environment.closure == (PYTHON, BASH)
    assert environment.variables == VARIABLES
    assert environment.programs.env == f"{PYTHON}/bin/env"


def test_small_frames() -> None:
    assert decode_header(frame({"type": "ready", "protocol": 1, "nix_version": "2.34.8"})) == Ready(
        protocol=1, nix_version="2.34.8"
    )
    assert decode_header(frame({"type": "waiting"})) == Waiting()
    assert decode_header(frame({"type": "progress"}, b"x")) == Progress()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{}",
        b'{"type":"other"}',
        b'{"type":"waiting","more":1}',
        b'{"type":"ready","protocol":"1","nix_version":"2"}',
        b"\xff",
        b'{"type":' + b"[" * 100_000,
        msgspec.json.encode(BUILT | {"closure_text_bytes": MAX_CLOSURE_TEXT_BYTES + 1}),
        msgspec.json.encode(BUILT | {"closure_bytes": -1}),
        msgspec.json.encode(BUILT | {"report": REPORT | {"exit_code": 256}}),
        msgspec.json.encode(BUILT | {"report": REPORT | {"killed_by": "me"}}),
        msgspec.json.encode(BUILT | {"report": REPORT | {"cpu_time_ms": 1 << 60}}),
        msgspec.json.encode({"type": "failed", "report": REPORT, "message": "x" * 8193, "tasks_refused": False}),
    ],
)
def test_a_header_that_no_build_sends(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_header(Frame(header, b""))


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, b"oute"),
        ({"stdout_bytes": LIMIT.stdout_bytes + 1, "stdout_bytes_total": 1 << 30}, b"x" * (LIMIT.stdout_bytes + 10)),
        ({"stderr_bytes_total": 1}, b"outer"),
        ({"stdout_bytes_total": 2}, b"outer"),
        ({"stderr_bytes_total": 9}, b"outer"),
    ],
)
def test_lengths_that_do_not_agree(changes: dict[str, Any], body: bytes) -> None:
    with pytest.raises(ProtocolError, match="a report"):
        stage_report(built(report=REPORT | changes).report, body, LIMIT)


def test_an_exit_code_and_a_signal_exclude_each_other() -> None:
    with pytest.raises(ProtocolError, match="both"):
        stage_report(built(report=REPORT | {"signal_number": 9}).report, b"outer", LIMIT)


@pytest.mark.parametrize(
    "changes",
    [
        {"derivation": BASH},
        {"derivation": "/etc/passwd.drv"},
        {"programs": BUILT["programs"] | {"sh": "/bin/sh"}},
        {"programs": BUILT["programs"] | {"sh": BASH}},
        {"programs": BUILT["programs"] | {"sh": f"{BASH}/../x/sh"}},
        {"programs": BUILT["programs"] | {"sh": f"{BASH}-other/bin/sh"}},
        {"programs": BUILT["programs"] | {"sh": f"{BASH}/./bin/sh"}},
        {"programs": BUILT["programs"] | {"bash": f"{BASH}/b@d/bash"}},
        {"programs": BUILT["programs"] | {"env": f"{BASH}/bin/env:/etc"}},
    ],
)
def test_paths_that_are_not_of_the_store_or_not_of_the_closure(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"program|derivation"):
        decode_environment("k", built(**changes), CLOSURE)


@pytest.mark.parametrize(
    "paths",
    [[BASH, PYTHON, "/etc"], [BASH, BASH, PYTHON], [BASH, PYTHON, f"{BASH}/bin"], [BASH, PYTHON, ""], [PYTHON, f"{BASH}ü"]],
)
def test_a_closure_that_is_none(paths: list[str]) -> None:
    text = "".join(f"{path}\n" for path in paths).encode()
    with pytest.raises(ProtocolError, match="the closure"):
        decode_environment("k", built(closure_text_bytes=len(text)), text)
    for cut in (CLOSURE[:-1], CLOSURE[1:], b""):
        with pytest.raises(ProtocolError):
            decode_environment("k", built(closure_text_bytes=len(cut)), cut)


def test_the_largest_closure_is_taken_and_one_path_more_is_not() -> None:
    def closure(count: int) -> bytes:
        names = (f"/nix/store/{number:032d}-{'x' * 211}" for number in range(count - 2))
        return CLOSURE + "".join(f"{name}\n" for name in names).encode()

    most = closure(MAX_CLOSURE_PATHS)
    environment = decode_environment("k", built(closure_text_bytes=len(most)), most + pack_variables(VARIABLES))
    assert len(environment.closure) == MAX_CLOSURE_PATHS
    assert environment.variables == VARIABLES
    more = CLOSURE + b"".join(b"/nix/store/%032d-x\n" % number for number in range(MAX_CLOSURE_PATHS - 1))
    with pytest.raises(ProtocolError, match="too many"):
        decode_environment("k", built(closure_text_bytes=len(more)), more)


@pytest.mark.parametrize(
    "block",
    [b"A=1", b"A=1\0A=2\0", b"B=1\0A=1\0", b"=1\0", b"A=" + b"x" * 200_000 + b"\0", b"A=1\0" * 500_000],
)
def test_variables_that_are_none(block: bytes) -> None:
    with pytest.raises(ProtocolError, match="variables"):
        decode_environment("k", built(), CLOSURE + block)
