"""A runner's session with a container that says anything: results within the bounds, or a fault, and always an end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cutor.containers.errors import EngineRefused, SessionFault
from cutor.containers.host_config import Resources
from cutor.jail import session as session_module
from cutor.jail.inside.protocol import PROTOCOL_VERSION
from cutor.jail.inside.resting import REST_SLACK_BYTES
from cutor.jail.job import EnvironmentMissing, RunnerJob
from cutor.jail.memory import KEPT_MEMORY_BYTES, NEW_ROOM_BYTES, hand_over_memory_bytes, stage_memory_bytes
from cutor.jail.room import LOWERING, OWN_TASKS, ROOM_MEMORY_BYTES
from cutor.jail.session import WorkerSession
from cutor.model.codec import decode, encode
from cutor.model.environments import Programs
from cutor.model.events import Lease, Ran
from cutor.model.limits import DEFAULT_LIMITS, MIB, Limit
from cutor.model.outcome import StageReport
from cutor.model.stages import judge
from tests.property.hostile import Frame, Header, HostileChild, sent, told

LIMIT: Final[Limit] = msgspec.structs.replace(DEFAULT_LIMITS.run.default, wall_time_ms=1, stdout_bytes=10, stderr_bytes=5)
SUBMISSION: Final = RunnerJob({"cutor-run.sh": b"exit 0"}, ((b"A", b"1"),), Programs(bash="/b", sh="/s", env="/e"), ("/nix",))
MADE_WITH: Final = Resources(512 * MIB, 64)
TESTS: Final = 3
SILENCE_S: Final = 0.05
PATIENCE_S: Final = 180.0

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


@contextmanager
def waits(seconds: float) -> Iterator[None]:
    """Let a session wait so long for whatever a container is to say."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("READY_S", "HAND_OVER_S", "REST_S", "STAGE_GRACE_S"):
            patch.setattr(session_module, name, seconds)
        yield


@pytest.fixture(scope="module", autouse=True)
def _short_waits() -> Iterator[None]:
    """Whoever is silent is waited for so long; who is not has sent everything before."""
    with waits(SILENCE_S), pytest.MonkeyPatch.context() as patch:
        patch.setattr("cutor.jail.room.LOWERING", tuple((0.0, more) for _, more in LOWERING))
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
    except (SessionFault, EnvironmentMissing, EngineRefused) as error:  # Docker's own refusal to raise a limit is passed on
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
    """A container gets no more than its stage's own limits, and what its box can hold: twice that for a copied one.

    The box can hold all that the compile stage had, which had all that the hand-over left. Runs add nothing.
    """
    step_bytes = NEW_ROOM_BYTES + max(more_bytes for _, more_bytes in LOWERING)
    handed_bytes = max(MADE_WITH.memory_bytes, hand_over_memory_bytes(1, 1000) + NEW_ROOM_BYTES)
    compiled_bytes = stage_memory_bytes(LIMIT, handed_bytes + KEPT_MEMORY_BYTES, 0) + step_bytes
    most_bytes = stage_memory_bytes(LIMIT, 2 * (compiled_bytes + REST_SLACK_BYTES), len(b"in")) + step_bytes
    for memory_bytes, processes in limits:
        assert LIMIT.memory_bytes < memory_bytes <= most_bytes
        assert processes == LIMIT.processes + OWN_TASKS


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


sizes = st.integers(0, 64 * MIB) | st.integers(0, 1 << 53) | st.sampled_from([0, 9 * MIB, 1 << 53])
rests = st.tuples(sizes, sizes)


async def limits_of(box: str, words: list[tuple[int, int]]) -> list[int]:
    """Return the memory limits that compile and runs have in a container that says it rests at these, copies beside them."""
    said = [(RESTED | {"resting_bytes": resting, "copy_bytes": copy}, b"") for resting, copy in words]
    runs = len(words) - 2
    frames: list[Frame | None] = [(READY | {"box": box}, b""), None, (ACCEPTED, b""), said[0]]
    frames += [None, report("compile", 0), said[1]]
    for index in range(runs):
        frames += [None, report("run", index), said[2 + index]]
    child = HostileChild(sent(frames), silent=True)
    session = WorkerSession(cast("Any", child), MADE_WITH)
    with waits(PATIENCE_S):
        await session.ready()
        await session.hand_over(SUBMISSION)
        await session.run_compile(LIMIT)
        limits = [child.limits[-1][0]]
        for index in range(runs):
            await session.run_test(index, args=(), stdin=b"", limit=LIMIT)
            limits.append(child.limits[-1][0])
    return limits


@settings(deadline=None)
@given(st.sampled_from(["copy", "overlay"]), rests, rests, st.lists(rests, min_size=1, max_size=12))
def test_no_sequence_of_lies_gives_a_container_more_than_its_box_can_need(
    box: str, handed: tuple[int, int], compiled: tuple[int, int], words: list[tuple[int, int]]
) -> None:
    """However many test cases it lies in: what it said before the first of them counts, up to what it can have held then."""
    compile_bytes, *runs = asyncio.run(limits_of(box, [handed, compiled, *words]))
    handed_bytes = min(handed[0], MADE_WITH.memory_bytes) + KEPT_MEMORY_BYTES
    assert compile_bytes <= stage_memory_bytes(LIMIT, handed_bytes, 0) + ROOM_MEMORY_BYTES
    resting_bytes = min(compiled[0], compile_bytes)
    copy_bytes = min(compiled[1], resting_bytes) + REST_SLACK_BYTES if box == "copy" else 0
    most_bytes = stage_memory_bytes(LIMIT, resting_bytes + REST_SLACK_BYTES + copy_bytes, 0) + ROOM_MEMORY_BYTES
    assert max(runs) <= most_bytes


noise = st.integers(0, REST_SLACK_BYTES)


@settings(deadline=None)
@given(st.integers(8 * MIB, LIMIT.memory_bytes), st.lists(noise, min_size=1, max_size=12))
def test_an_honest_container_always_has_what_it_holds_and_the_whole_limit_beside_it(held: int, noises: list[int]) -> None:
    resting = [held + more for more in (0, *noises)]
    words = [(one, one - 7 * MIB) for one in resting]
    _, *runs = asyncio.run(limits_of("copy", [(8 * MIB, MIB), *words]))
    for (resting_bytes, copy_bytes), run_bytes in zip(words, runs, strict=False):
        assert run_bytes >= stage_memory_bytes(LIMIT, resting_bytes + copy_bytes, 0)


def test_an_honest_container_runs_the_whole_submission() -> None:
    """Else the test above would show nothing."""
    child = HostileChild(sent(HONEST), silent=True)
    with waits(PATIENCE_S):
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
