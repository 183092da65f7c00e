"""A build's job as it comes from the host, and one limit shared by two stages."""

from typing import Any

import pytest

from cutor.jail.inside.host_link import Command
from cutor.jail.inside.measure import Limits, Output, Result
from cutor.jail.inside.protocol import FrameReader, ProtocolError, decode_header
from cutor.model.limits import DEFAULT_LIMITS
from cutor.nix.inside.job import decode_job, refused, remaining, succeeded, together
from cutor.nix.session import encode_job
from cutor.nix.settings import NixSettings

LIMITS = Limits(*[1 << 20] * len(Limits._fields))._replace(
    wall_time_ms=1000, cpu_time_ms=500, stdout_bytes=100, stderr_bytes=50
)
FIRST = Result(exit_code=0, cpu_time_ms=200, wall_time_ms=300, stdout=Output([b"ab"], 2), stderr=Output([b"x", b"yz"], 9))


def command(**changes: Any) -> Command:
    files = {"shell.nix": b"{ }", "lib/a": b"", "b": b"12"}
    (frame,) = FrameReader().feed(encode_job(NixSettings(), "k" * 64, files, DEFAULT_LIMITS.dependencies.default))
    return Command(decode_header(frame.header) | changes, frame.body)


def test_what_the_host_encodes_the_init_decodes() -> None:
    job = decode_job(command())
    assert job.files == (("shell.nix", b"{ }"), ("lib/a", b""), ("b", b"12"))
    assert job.limits.wall_time_ms == DEFAULT_LIMITS.dependencies.default.wall_time_ms
    assert job.key == "k" * 64
    assert not job.network
    assert "restrict-eval" in job.options


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "stage"},
        {"key": 1},
        {"limit": {"wall_time_ms": 1}},
        {"files": [["shell.nix", 3]]},
        {"files": [["shell.nix", 6]]},
        {"files": [["shell.nix", -1], ["b", 6]]},
        {"files": [[1, 5]]},
        {"options": None},
    ],
)
def test_a_job_of_another_version_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode_job(command(**changes))


def test_the_second_stage_gets_what_the_first_left() -> None:
    left = remaining(LIMITS, FIRST, 400)
    assert (left.wall_time_ms, left.cpu_time_ms, left.stdout_bytes, left.stderr_bytes) == (600, 300, 98, 47)
    assert left.processes == LIMITS.processes
    none_left = remaining(LIMITS, FIRST._replace(cpu_time_ms=900), 5000)
    assert (none_left.wall_time_ms, none_left.cpu_time_ms) == (1, 1)


def test_two_stages_make_one_report() -> None:
    second = Result(
        exit_code=3,
        oom_kills=1,
        cpu_time_ms=10,
        wall_time_ms=20,
        memory_peak_bytes=7,
        stdout=Output([b"c"], 1),
        stderr=Output([], 4),
    )
    both = together(FIRST, second, 400)
    assert (both.exit_code, both.oom_kills, both.cpu_time_ms, both.wall_time_ms, both.memory_peak_bytes) == (3, 1, 210, 420, 7)
    assert both.stdout == Output((b"ab", b"c"), 3)
    assert both.stderr == Output((b"x", b"yz"), 13)


def test_what_was_not_measured_stays_unknown() -> None:
    assert together(FIRST, Result(), 400).cpu_time_ms is None
    assert together(FIRST, Result(), 400).memory_peak_bytes is None


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (FIRST, True),
        (FIRST._replace(exit_code=1), False),
        (FIRST._replace(killed_by="wall_time"), False),
        (FIRST._replace(oom_kills=1), False),
        (FIRST._replace(fault="lost"), False),
        (Result(), False),
    ],
)
def test_success_needs_an_exit_code_of_0_and_no_kill(result: Result, expected: bool) -> None:
    assert succeeded(result) is expected
    assert refused(result).exit_code == (1 if expected else result.exit_code)
