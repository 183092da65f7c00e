"""From what was seen of a stage to its report, case by case; and the clock that looks at CPU time."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from cutor.jail.inside import channel
from cutor.jail.inside.channel import Kind, Program, Report, pack_job, pack_variables, parse_report
from cutor.jail.inside.measure import KilledBy, Limits, Output, Seen, conclude, cpu_wait_ns, rlimits

LIMITS = Limits(*[1 << 20] * len(Limits._fields))._replace(
    wall_time_ms=1000,
    cpu_time_ms=500,
    processes=10,
    stdout_bytes=100,
    stderr_bytes=100,
    file_size_bytes=4096,
    open_files=64,
)
MS = 1_000_000
NOTHING = Seen(
    status=None,
    exec_errno=None,
    killed_by=None,
    oom_kills=0,
    cpu_ns=10 * MS,
    wall_ns=20 * MS,
    memory_before=(1000, 2000),
    peak_after_bytes=5000,
    stdout=Output([b"out"], 3),
    stderr=Output([b"e", b"rr"], 3),
    fault=None,
)
ENDED = NOTHING._replace(status=0)


def test_a_program_that_ended() -> None:
    result = conclude(ENDED._replace(status=3 << 8), LIMITS)
    assert (result.exit_code, result.signal_number, result.killed_by, result.fault) == (3, None, None, None)
    assert (result.cpu_time_ms, result.wall_time_ms, result.memory_peak_bytes) == (10, 20, 4000)


def test_exit_139_is_not_a_segmentation_fault() -> None:
    assert conclude(ENDED._replace(status=139 << 8), LIMITS)[:2] == (139, None)
    assert conclude(ENDED._replace(status=11), LIMITS)[:2] == (None, 11)
    assert conclude(ENDED._replace(status=11 | 0x80), LIMITS)[:2] == (None, 11)  # with a core dump


def test_a_limit_passed_between_two_looks_counts() -> None:
    assert conclude(ENDED._replace(cpu_ns=500 * MS), LIMITS).killed_by is None
    assert conclude(ENDED._replace(cpu_ns=500 * MS + 1), LIMITS).killed_by == "cpu_time"
    assert conclude(ENDED._replace(wall_ns=1000 * MS + 1), LIMITS).killed_by == "wall_time"
    assert conclude(ENDED._replace(cpu_ns=501 * MS, wall_ns=1001 * MS), LIMITS).killed_by == "cpu_time"
    assert conclude(ENDED._replace(cpu_ns=501 * MS, killed_by="stdout"), LIMITS).killed_by == "stdout"


@pytest.mark.parametrize("killed_by", [None, "wall_time", "cpu_time", "store", "stderr", "stdout", "memory", "cancel"])
def test_of_several_limits_the_weightiest_counts_whichever_was_killed_for(killed_by: KilledBy | None) -> None:
    order = ["cancel", "memory", "stdout", "stderr", "store", "cpu_time", "wall_time", None]
    passed: dict[KilledBy, dict[str, Any]] = {
        "wall_time": {"wall_ns": 1001 * MS},
        "cpu_time": {"cpu_ns": 501 * MS},
        "stderr": {"stderr": Output([b"x" * 100], 101)},
        "stdout": {"stdout": Output([b"x" * 100], 101)},
    }
    for cause, fields in passed.items():
        expected = min(cause, killed_by, key=order.index)
        assert conclude(ENDED._replace(killed_by=killed_by, **fields), LIMITS).killed_by == expected


def test_a_time_over_its_limit_never_reads_like_the_limit() -> None:
    result = conclude(ENDED._replace(cpu_ns=500 * MS + 300_000, wall_ns=1000 * MS + 1), LIMITS)
    assert (result.cpu_time_ms, result.wall_time_ms) == (501, 1001)
    result = conclude(ENDED._replace(cpu_ns=499 * MS + 600_000, wall_ns=1000 * MS), LIMITS)
    assert (result.cpu_time_ms, result.wall_time_ms) == (500, 1000)


def test_a_sigkill_beside_an_oom_kill_is_no_end_of_the_programs_own() -> None:
    assert conclude(ENDED._replace(status=9), LIMITS).signal_number == 9
    assert conclude(ENDED._replace(status=9, oom_kills=1), LIMITS).signal_number is None
    assert conclude(ENDED._replace(status=11, oom_kills=1), LIMITS).signal_number == 11
    assert conclude(ENDED._replace(status=137 << 8, oom_kills=1), LIMITS).exit_code == 137


def test_a_jail_that_vanished_is_a_fault_unless_the_kernel_took_it() -> None:
    assert conclude(NOTHING, LIMITS).fault == "the jail ended without a report"
    assert conclude(NOTHING._replace(fault="nsjail ended"), LIMITS).fault == "nsjail ended"
    assert conclude(NOTHING._replace(oom_kills=1), LIMITS).fault is None
    assert conclude(NOTHING._replace(oom_kills=1, fault="nsjail ended"), LIMITS).fault is None
    assert conclude(NOTHING._replace(killed_by="cancel"), LIMITS).fault is None
    assert conclude(ENDED._replace(fault="would not end"), LIMITS).fault == "would not end"


@pytest.mark.parametrize(
    ("number", "exit_code"), [(errno.ENOENT, 127), (errno.E2BIG, 126), (errno.EACCES, 126), (errno.ENOEXEC, 126)]
)
def test_an_environment_whose_bash_can_not_be_executed_is_its_own_fault(number: int, exit_code: int) -> None:
    result = conclude(NOTHING._replace(exec_errno=number, stderr=Output()), LIMITS)
    assert (result.exit_code, result.fault) == (exit_code, None)
    assert b"".join(result.stderr.kept).startswith(b"cutor: the environment's bash can't be executed: ")
    short = conclude(NOTHING._replace(exec_errno=number, stderr=Output()), LIMITS._replace(stderr_bytes=5))
    assert short.stderr.kept == [b"cutor"]
    assert short.stderr.total_bytes > 5


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN, errno.EPERM])
def test_a_machine_that_can_not_start_it_is_ours(number: int) -> None:
    result = conclude(NOTHING._replace(exec_errno=number), LIMITS)
    assert result.exit_code is None
    assert result.fault is not None
    assert result.fault.startswith("the program could not be started: ")


def test_a_peak_is_only_told_where_this_stage_raised_the_watermark() -> None:
    assert conclude(ENDED._replace(peak_after_bytes=2000), LIMITS).memory_peak_bytes is None
    assert conclude(ENDED._replace(peak_after_bytes=2001), LIMITS).memory_peak_bytes == 1001
    assert conclude(ENDED._replace(peak_after_bytes=None), LIMITS).memory_peak_bytes is None
    assert conclude(ENDED._replace(memory_before=None), LIMITS).memory_peak_bytes is None


def test_times_are_whole_milliseconds_and_never_negative() -> None:
    assert conclude(ENDED._replace(cpu_ns=-5, wall_ns=1_499_999), LIMITS)[4:6] == (0, 1)
    assert conclude(ENDED._replace(cpu_ns=None, wall_ns=None), LIMITS)[4:6] == (None, None)


def test_the_frame_says_the_same() -> None:
    result = conclude(ENDED, LIMITS)
    header = result.header()
    assert (header["stdout_bytes"], header["stderr_bytes"], b"".join(result.body())) == (3, 3, b"outerr")
    assert "stdout" not in header
    assert header["exit_code"] == 0


def test_the_programs_own_limits() -> None:
    limits = rlimits(LIMITS)
    assert limits[channel.NOFILE] == (64, 64)
    assert limits[channel.FSIZE] == (4096, 4096)
    assert limits[channel.CORE] == (0, 0)
    assert limits[channel.NPROC] == (11, 11)
    assert limits[channel.STACK] == (64 << 20, channel.UNLIMITED)


def test_the_next_look_at_cpu_time() -> None:
    assert cpu_wait_ns(1000 * MS, 2, None) == 500 * MS
    assert cpu_wait_ns(1000 * MS, 64, 1.0) == 800 * MS
    assert cpu_wait_ns(100 * MS, 2, 1.0) == 50 * MS
    assert cpu_wait_ns(1, 2, 1.0) == 1 * MS


@pytest.mark.parametrize("program", [Program([b"/b\0"], b""), Program([b"/b"], b"A=1")])
def test_a_program_that_no_process_can_be_is_refused(program: Program) -> None:
    with pytest.raises(ValueError, match="NUL byte"):
        pack_job(program, {})


@pytest.mark.parametrize("variables", [{b"": b"x"}, {b"A=B": b"x"}, {b"A": b"x\0y"}, {b"A\0": b""}])
def test_variables_that_no_process_can_have_are_refused(variables: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match=r"NUL byte|not a name of a variable"):
        pack_variables(variables)


def test_reports_of_jail_init() -> None:
    assert parse_report(bytes.fromhex("040000000b0000000100000000000000")) == Report(Kind.ENDED, 11, 1)
    for packet in (b"", b"x" * 15, bytes.fromhex("090000000b0000000100000000000000")):
        with pytest.raises(ValueError, match=r"report|Kind"):
            parse_report(packet)
