"""A runner's session with a container that says anything: results within the bounds, or a fault, and always an end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cutor.containers.errors import SessionFault
from cutor.containers.host_config import Resources
from cutor.jail import session as session_module
from cutor.jail.protocol import PROTOCOL_VERSION
from cutor.jail.session import (
    NEW_ROOM_BYTES,
    OWN_TASKS,
    EnvironmentMissing,
    Submission,
    WorkerSession,
    hand_over_memory_bytes,
    stage_memory_bytes,
)
from cutor.model.codec import decode, encode
from cutor.model.environments import Programs
from cutor.model.events import Lease, Ran
from cutor.model.limits import DEFAULT_LIMITS, MIB, Limit
from cutor.model.outcome import StageReport
from cutor.model.stages import judge
from tests.property.hostile import Frame, Header, HostileChild, sent, told

LIMIT: Final[Limit] = msgspec.structs.replace(DEFAULT_LIMITS.run.default, wall_time_ms=1, stdout_bytes=10, stderr_bytes=5)
SUBMISSION: Final = Submission({"cutor-run.sh": b"exit 0"}, ((b"A", b"1"),), Programs(bash="/b", sh="/s", env="/e"), ("/nix",))
MADE_WITH: Final = Resources(512 * MIB, 64)
TESTS: Final = 3
SILENCE_S: Final = 0.05

READY: Final[Header] = {
    "type": "ready",
    "protocol": PROTOCOL_VERSION,
    "cgroup": "v2",
    "kernel": "6.18",
    "box": "copy",
    "store": "masked",
}
ACCEPTED: Final[Header] = {"type": "accepted", "missing": None}
RESTED: Final[Header] = {"type": "rested", "resting_bytes": 9 * MIB, "copy_bytes": 2 * MIB}


def report(kind: str, index: int, **changes: object) -> Frame:
    header = {
        "type": "report",
        "kind": kind,
        "index": index,
        "exit_code": 0,
        "signal_number": None,
        "killed_by": None,
        "oom_kills": 0,
        "cpu_time_ms": 1,
        "wall_time_ms": 2,
        "memory_peak_bytes": None,
        "stdout_bytes": 10,
        "stdout_bytes_total": 12,
        "stderr_bytes": 1,
        "stderr_bytes_total": 1,
        "fault": None,
    }
    return header | changes, b"0123456789e"


HONEST: Final[list[Frame | None]] = [
    (READY, b""),
    *(None, (ACCEPTED, b""), (RESTED, b"")),
    *(None, report("compile", 0), (RESTED, b"")),
    *(frame for index in range(TESTS) for frame in (None, report("run", index), (RESTED, b""))),
]
"""What an init sends; null stands for its waiting for a command."""
OTHERS: Final[list[Frame]] = [
    *(frame for frame in HONEST if frame is not None),
    (READY | {"protocol": 99}, b""),
    (ACCEPTED | {"missing": "/nix/store/gone\n\x1b"}, b""),
    (RESTED | {"resting_bytes": 1 << 53, "copy_bytes": 1 << 53}, b""),
    (RESTED | {"resting_bytes": 0, "copy_bytes": 0}, b""),
    ({"type": "fault", "message": "no room\nat all\x1b[2J"}, b""),
    report("run", 0, exit_code=None, signal_number=9),
    report("run", 0, signal_number=9),
    report("run", 0, exit_code=None, killed_by="memory"),
    report("run", 0, exit_code=None, killed_by="stdout", oom_kills=1 << 53),
    report("run", 0, stdout_bytes=11, stdout_bytes_total=11, stderr_bytes=0, stderr_bytes_total=0),
]


@pytest.fixture(scope="module", autouse=True)
def _short_waits() -> Iterator[None]:
    """Whoever is silent is waited for so long; who is not has sent everything before."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("READY_S", "HAND_OVER_S", "REST_S", "STAGE_GRACE_S"):
            patch.setattr(session_module, name, SILENCE_S)
        patch.setattr(session_module, "LOWERING", tuple((0.0, more) for _, more in session_module.LOWERING))
        yield


async def submission(child: HostileChild) -> tuple[list[StageReport], Exception | None]:
    """Run a whole submission; return its stages' reports, and what ended it early."""
    session = WorkerSession(cast("Any", child), MADE_WITH)
    reports: list[StageReport] = []
    try:
        await session.ready()
        await session.hand_over(SUBMISSION)
        reports.append(await session.run_compile(LIMIT))
        for index in range(TESTS):
            report = await session.run_test(index, args=("a",), stdin=b"in", limit=LIMIT)
            reports.append(report)
    except (SessionFault, EnvironmentMissing) as error:
        return reports, error
    finally:
        await session.close()
    return reports, None


def check_report(report: StageReport) -> None:
    """What was handed over is within the limits, holds together, and can be judged and stored."""
    for kept, total, most in (
        (report.stdout, report.stdout_bytes_total, LIMIT.stdout_bytes),
        (report.stderr, report.stderr_bytes_total, LIMIT.stderr_bytes),
    ):
        assert len(kept) == min(total, most)
    assert report.exit_code is None or report.signal_number is None
    assert report.exit_code in {None, *range(256)}
    assert report.signal_number in {None, *range(1, 65)}
    for number in (report.cpu_time_ms, report.wall_time_ms, report.memory_peak_bytes, report.oom_kills):
        assert number is None or (type(number) is int and 0 <= number <= 1 << 53)
    lease = Lease(role="runner", worker="w", token="t", number=1)
    ran = Ran(lease=lease, index=0, stages=(judge(report, LIMIT, expected_output=b"0"),))
    assert decode(encode(ran)) == ran


def check_limits(limits: list[tuple[int, int]]) -> None:
    """A container gets no more than its stage's own limits, and what it can have held before: twice that for a copied box."""
    held_bytes = MADE_WITH.memory_bytes
    for memory_bytes, processes in limits:
        most_bytes = (
            max(stage_memory_bytes(LIMIT, 2 * held_bytes, len(b"in")), hand_over_memory_bytes(1, 1000)) + NEW_ROOM_BYTES
        )
        assert LIMIT.memory_bytes < memory_bytes <= most_bytes
        assert processes == LIMIT.processes + OWN_TASKS
        held_bytes = memory_bytes


def check_fault(error: Exception | None) -> None:
    if isinstance(error, SessionFault):
        assert str(error)
        assert str(error).isprintable()


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(told(HONEST, OTHERS), st.integers(0, 19), st.booleans(), st.sampled_from([0, 0, 0, 1, 5, 20]))
def test_whatever_a_container_says_there_are_results_within_the_bounds_or_a_fault(
    turns: list[list[bytes]], silent: int, deaf: bool, refusals: int
) -> None:
    child = HostileChild(turns, silent=silent == 19, deaf=deaf, refusals=refusals)
    reports, error = asyncio.run(submission(child))
    assert error is not None or len(reports) == 1 + TESTS
    for one in reports:
        check_report(one)
    check_limits(child.limits)
    check_fault(error)
    assert child.discarded
    event(f"{type(error).__name__} after {len(reports)} stages")


def test_an_honest_container_runs_the_whole_submission() -> None:
    """Else the test above would show nothing."""
    child = HostileChild(sent(HONEST), silent=True)
    reports, error = asyncio.run(submission(child))
    assert error is None
    assert [report.stdout for report in reports] == [b"0123456789"] * (1 + TESTS)


@pytest.mark.parametrize("said", range(TESTS + 3))
@pytest.mark.parametrize("last", [0, 1])
def test_a_container_that_falls_silent_is_not_waited_for(said: int, last: int) -> None:
    """In any turn, before its last frame or at its very beginning. The last frame of all is one that nobody waits for."""
    turns = sent(HONEST)
    child = HostileChild([*turns[:said], turns[said][: -1 if last else 0]], silent=True)
    reports, error = asyncio.run(submission(child))
    if (said, last) == (TESTS + 2, 1):
        assert error is None
    else:
        assert str(error).endswith(" in time")
    for one in reports:
        check_report(one)
