"""The host's end against a container that says anything: every lie is a `SessionFault`, every silence ends."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from cutor.containers.child import ContainerState
from cutor.containers.errors import EngineFailure, EngineRefused, SessionFault
from cutor.containers.host_config import Resources
from cutor.jail import session as session_module
from cutor.jail.inside.protocol import PROTOCOL_VERSION, FrameReader, decode_header, encode
from cutor.jail.inside.resting import REST_SLACK_BYTES
from cutor.jail.job import EnvironmentMissing, RunnerJob
from cutor.jail.memory import (
    INIT_MEMORY_BYTES,
    KEPT_MEMORY_BYTES,
    NEW_ROOM_BYTES,
    OWN_MEMORY_BYTES,
    first_memory_bytes,
    stage_memory_bytes,
)
from cutor.jail.room import LOWERING, OWN_TASKS, ROOM_MEMORY_BYTES
from cutor.jail.session import WorkerSession
from cutor.model.environments import Programs
from cutor.model.limits import DEFAULT_LIMITS, HANDED_TEXT_BYTES, MIB, Limit
from cutor.model.request_checks import handed_names_bytes
from cutor.nix.session import encode_job
from cutor.nix.settings import NixSettings

LIMIT: Limit = msgspec.structs.replace(DEFAULT_LIMITS.run.default, stdout_bytes=10, stderr_bytes=10)
SUBMISSION = RunnerJob({"cutor-run.sh": b"exit 0"}, ((b"A", b"1"),), Programs(bash="/b", sh="/s", env="/e"))
READY = {"type": "ready", "protocol": PROTOCOL_VERSION, "cgroup": "v2", "kernel": "6.18", "box": "overlay", "store": "masked"}
ACCEPTED = {"type": "accepted", "missing": None}
RESTED = {"type": "rested", "resting_bytes": 7 * MIB, "copy_bytes": 0}
REPORT: dict[str, Any] = {
    "type": "report",
    "kind": "run",
    "index": 0,
    "missing": None,
    "exit_code": 0,
    "signal_number": None,
    "killed_by": None,
    "oom_kills": 0,
    "cpu_time_ms": 1,
    "wall_time_ms": 2,
    "memory_peak_bytes": None,
    "stdout_bytes": 2,
    "stdout_bytes_total": 2,
    "stderr_bytes": 1,
    "stderr_bytes_total": 1,
    "fault": None,
}


class Scripted:
    """A container that answers with what it was given, then is silent or gone; it notes what it was asked."""

    def __init__(self, *answers: bytes, gone: bool = False) -> None:
        self._answers = list(answers)
        self._gone = gone
        self._reader = FrameReader()
        self.commands: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.updates: list[tuple[int | None, int | None]] = []
        self.stderr_tail = b"Traceback:\n  a line\nlast  words\n"
        self.name = "scripted"
        self.refusals = 0
        self.at_end: list[bytes] = []
        self._stdin_closed = asyncio.Event()

    async def send(self, data: bytes) -> None:
        if self._gone and not self._answers:
            raise EngineFailure("its standard input is closed")
        for frame in self._reader.feed(data):
            self.commands.append(decode_header(frame.header))
            self.bodies.append(frame.body)

    async def receive(self) -> bytes:
        if self._answers:
            return self._answers.pop(0)
        if self._gone:
            return b""
        await self._stdin_closed.wait()
        while not self.at_end:
            await asyncio.sleep(3600)
        return self.at_end.pop(0)

    async def close_stdin(self) -> None:
        self._stdin_closed.set()

    async def update(self, *, memory_bytes: int | None = None, processes: int | None = None) -> None:
        if self.refusals:
            self.refusals -= 1
            raise EngineRefused("unable to set memory limit")
        self.updates.append((memory_bytes, processes))

    async def state(self) -> ContainerState:
        return ContainerState(exists=True, exit_code=137, oom_killed=True)


def made(*answers: bytes, gone: bool = False) -> tuple[WorkerSession, Scripted]:
    """Return a session with a scripted container."""
    child = Scripted(*answers, gone=gone)
    return WorkerSession(child, Resources(512 * MIB, 64)), child  # type: ignore[arg-type]


def report(body: bytes = b"oue", **changed: object) -> bytes:
    """Return a report's frame."""
    return encode({**REPORT, **changed}, body)


async def run(session: WorkerSession, index: int = 0) -> object:
    """Run a test case."""
    return await session.run_test(index, args=("a",), stdin=b"in", limit=LIMIT)


def rested(resting_bytes: int = 7 * MIB, copy_bytes: int = 0) -> bytes:
    """Return what an init says once it has let go of what it sent."""
    return encode({**RESTED, "resting_bytes": resting_bytes, "copy_bytes": copy_bytes})


async def test_a_submission_in_order() -> None:
    first = report(kind="compile")
    answers = encode(READY), encode(ACCEPTED), rested(), first + rested(), report(), rested(), report(index=1)
    session, child = made(*answers)
    assert (await session.ready()).box == "overlay"
    await session.hand_over(SUBMISSION)
    compiled = await session.run_compile(LIMIT)
    ran = await session.run_test(0, args=("a",), stdin=b"in", limit=LIMIT)
    await run(session, 1)
    assert (compiled.stdout, compiled.stderr, ran.exit_code) == (b"ou", b"e", 0)
    assert [command["type"] for command in child.commands] == ["job", "stage", "stage", "stage"]
    assert child.bodies == [b"exit 0A=1\0", b"", b"in", b"in"]
    assert child.commands[0]["files"] == [{"name": "cutor-run.sh", "bytes": 6}]
    assert child.commands[2]["args"] == ["a"]


@pytest.mark.parametrize("ended", [{}, {"exit_code": 127}, {"exit_code": None, "fault": "no bash"}])
async def test_a_stage_that_lost_its_environment_says_nothing_else(ended: dict[str, object]) -> None:
    """However it ended: the path is all that is told."""
    session, _ = made(encode(ACCEPTED), rested(), report(missing="/nix/store/gone", **ended))
    await session.hand_over(SUBMISSION)
    with pytest.raises(EnvironmentMissing) as caught:
        await run(session)
    assert caught.value.path == "/nix/store/gone"


TASKS = LIMIT.processes + OWN_TASKS


async def test_limits_are_changed_where_they_differ_and_only_there() -> None:
    box = 7 * MIB + 30 * MIB
    session, child = made(
        *(encode(ACCEPTED), rested(), report(kind="compile"), rested(box), report()),
        *(rested(box + MIB), report(index=1), rested(box - MIB), report(index=2)),
    )
    await session.hand_over(SUBMISSION)
    await session.run_compile(LIMIT)
    for index, stdin_bytes in enumerate((0, MIB // 2, MIB)):  # test cases with inputs of any size share a limit
        await session.run_test(index, args=(), stdin=bytes(stdin_bytes), limit=LIMIT)
    assert child.updates == [
        (stage_memory_bytes(LIMIT, 7 * MIB + KEPT_MEMORY_BYTES, 0) + NEW_ROOM_BYTES, TASKS),
        (stage_memory_bytes(LIMIT, box, 0) + NEW_ROOM_BYTES, TASKS),
    ]
    assert stage_memory_bytes(LIMIT, 5, 6) == LIMIT.memory_bytes + OWN_MEMORY_BYTES + 5 + 6 + 20


async def test_a_run_has_room_for_its_copy_of_the_box_and_compile_needs_none() -> None:
    session, child = made(encode(ACCEPTED), rested(), report(kind="compile"), rested(100 * MIB, 93 * MIB), report())
    await session.hand_over(SUBMISSION)
    await session.run_compile(LIMIT)
    await run(session)
    assert [memory for memory, _ in child.updates] == [
        stage_memory_bytes(LIMIT, 7 * MIB + KEPT_MEMORY_BYTES, 0) + NEW_ROOM_BYTES,
        stage_memory_bytes(LIMIT, 193 * MIB, 2) + NEW_ROOM_BYTES,
    ]


async def test_memory_is_lowered_only_after_the_init_let_go_of_its_answer() -> None:
    session, child = made(encode(ACCEPTED))
    await session.hand_over(SUBMISSION)
    task = asyncio.create_task(run(session))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    assert (child.updates, len(child.commands)) == ([], 1)
    task.cancel()


async def test_a_container_gets_no_memory_for_what_it_could_not_hold() -> None:
    session, child = made(encode(ACCEPTED), rested(1 << 50, 1 << 50), report())
    await session.hand_over(SUBMISSION)
    await run(session)
    assert child.updates == [(stage_memory_bytes(LIMIT, 2 * 512 * MIB, 2) + NEW_ROOM_BYTES, TASKS)]


async def test_a_run_leaves_nothing_in_the_box_whatever_the_init_says() -> None:
    """Else one that user code has taken over would nearly double its memory with every test case."""
    lie = rested(1 << 50, 1 << 50)
    session, child = made(
        *(encode(ACCEPTED), rested(), report(kind="compile"), rested(40 * MIB, 30 * MIB), report(), lie),
        *(report(index=1), lie, report(index=2), lie, report(index=3)),
    )
    await session.hand_over(SUBMISSION)
    await session.run_compile(LIMIT)
    for index in range(4):
        await run(session, index)
    most = stage_memory_bytes(LIMIT, 70 * MIB + 2 * REST_SLACK_BYTES, 2) + NEW_ROOM_BYTES
    assert [memory for memory, _ in child.updates[1:]] == [stage_memory_bytes(LIMIT, 70 * MIB, 2) + NEW_ROOM_BYTES, most]


async def test_compile_may_fill_the_box_up_to_its_limit_and_no_further() -> None:
    session, child = made(encode(ACCEPTED), rested(), report(kind="compile"), rested(1 << 50), report())
    await session.hand_over(SUBMISSION)
    await session.run_compile(LIMIT)
    await run(session)
    compiled = stage_memory_bytes(LIMIT, 7 * MIB + KEPT_MEMORY_BYTES, 0) + NEW_ROOM_BYTES
    assert [memory for memory, _ in child.updates] == [compiled, stage_memory_bytes(LIMIT, compiled, 2) + NEW_ROOM_BYTES]


async def test_a_box_that_no_run_copies_gets_no_memory_for_a_copy() -> None:
    session, child = made(encode(READY), encode(ACCEPTED), rested(9 * MIB, 8 * MIB), report())
    await session.ready()
    await session.hand_over(SUBMISSION)
    await run(session)
    assert child.updates == [(stage_memory_bytes(LIMIT, 9 * MIB, 2) + NEW_ROOM_BYTES, TASKS)]


async def test_what_a_header_holds_is_no_command_to_a_terminal() -> None:
    session, _ = made(encode({**REPORT, "\x1b[2J\u202e": 1}, b"oue"))
    with pytest.raises(SessionFault, match="no runner's init sends") as fault:
        await run(session)
    assert str(fault.value).isprintable()


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.jail.room.LOWERING", tuple((0.0, more) for _, more in LOWERING))


@pytest.mark.usefixtures("_no_pauses")
@pytest.mark.parametrize(("refusals", "more_bytes"), [(1, 0), (3, 0), (4, 4 * MIB), (7, 16 * MIB)])
async def test_a_refused_lowering_is_tried_again_with_a_little_more_and_is_no_fault(refusals: int, more_bytes: int) -> None:
    session, child = made(encode(ACCEPTED), rested(), report())
    child.refusals = refusals
    await session.hand_over(SUBMISSION)
    await run(session)
    wanted = stage_memory_bytes(LIMIT, 7 * MIB, 2) + NEW_ROOM_BYTES
    assert child.updates == [(wanted + more_bytes, TASKS)]


@pytest.mark.usefixtures("_no_pauses")
async def test_a_container_whose_limit_can_not_be_lowered_is_given_up() -> None:
    session, child = made(encode(ACCEPTED), rested(), report())
    child.refusals = len(LOWERING)
    await session.hand_over(SUBMISSION)
    with pytest.raises(SessionFault, match="memory limit could not be lowered"):
        await run(session)
    assert (child.updates, [command["type"] for command in child.commands]) == ([], ["job"])  # no stage ran in it


@pytest.mark.usefixtures("_no_pauses")
async def test_a_limit_that_is_nearly_low_enough_is_not_raised_on_the_way() -> None:
    session, child = made(encode(ACCEPTED), rested(), report(), rested(), report())
    await session.hand_over(SUBMISSION)
    await run(session)
    (given, _), child.refusals = child.updates[0], 5
    assert given is not None
    await session.run_test(
        0, args=(), stdin=b"", limit=msgspec.structs.replace(LIMIT, memory_bytes=LIMIT.memory_bytes - 5 * MIB)
    )
    assert child.updates[-1] == (given, TASKS)


async def test_a_large_submission_gets_room_to_be_taken_apart() -> None:
    files = {"cutor-run.sh": bytes(240 * MIB)}
    session, child = made(encode(ACCEPTED))
    await session.hand_over(RunnerJob(files, (), SUBMISSION.programs))
    ((given, processes),) = child.updates
    assert given is not None
    assert INIT_MEMORY_BYTES + 480 * MIB < given < 530 * MIB
    assert processes == 64
    assert given - first_memory_bytes(LIMIT, files, 0, 0) <= ROOM_MEMORY_BYTES  # what a container is made with suffices


@pytest.mark.parametrize("character", ["x", "\x01", "\n", '"', "é", "\x7f"])
async def test_as_many_names_as_a_request_may_have_are_told_to_runner_and_builder(character: str) -> None:
    """Whatever JSON makes of their characters: it is what the check of a request counts."""
    name = character * 200
    files = {f"{number:06}{name}": b"" for number in range(HANDED_TEXT_BYTES // handed_names_bytes([f"000000{name}"]))}
    assert HANDED_TEXT_BYTES - 2000 < handed_names_bytes(files) <= HANDED_TEXT_BYTES
    programs = Programs(bash="/b" * 120, sh="/s" * 120, env="/e" * 120)
    session, child = made(encode(ACCEPTED))
    await session.hand_over(RunnerJob(files, (), programs))
    assert len(child.commands[0]["files"]) == len(files)
    encode_job(NixSettings(), "k" * 64, files, LIMIT)


LIES = {
    "another index": (report(index=1), "reported run 1, not run 0"),
    "another kind": (report(kind="compile"), "reported compile 0, not run 0"),
    "an output over its limit": (report(b"x" * 12, stdout_bytes=11, stdout_bytes_total=11), "under a limit of 10"),
    "a prefix that is too short": (report(stdout_bytes_total=5), "keeps 2 of 5 bytes of stdout"),
    "lengths beside the body": (report(b"ou"), "outputs are not in its body"),
    "exit code and signal": (report(signal_number=9), "both an exit code and a signal"),
    "a body over everything": (report(b"x" * 21), "a body of 21 bytes: more than 20"),
    "a negative time": (report(cpu_time_ms=-1), "no runner's init sends"),
    "an exit code over 255": (report(exit_code=256), "no runner's init sends"),
    "an unknown field": (report(extra=1), "no runner's init sends"),
    "a missing field": (
        encode({name: value for name, value in REPORT.items() if name != "fault"}, b"oue"),
        "no runner's init sends",
    ),
    "text for a number": (report(wall_time_ms="2"), "no runner's init sends"),
    "a frame of another time": (encode(READY), "sent Ready where it may not"),
    "a body where there is none": (encode(ACCEPTED, b"x"), "a body where there is none"),
    "its own failure": (encode({"type": "fault", "message": "no room"}), "the container's init failed: no room"),
    "no JSON": (b"\0\0\0\1\0\0\0\0{", "no runner's init sends"),
    "a huge header": (b"\xff" * 8, "more than 65536"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_lies_are_faults(lie: str) -> None:
    answer, message = LIES[lie]
    session, _ = made(answer)
    with pytest.raises(SessionFault, match=message):
        await run(session)


async def test_an_image_of_another_version_says_what_to_do() -> None:
    session, _ = made(encode({**READY, "protocol": 7}))
    with pytest.raises(SessionFault, match=f"speaks protocol 7, not {PROTOCOL_VERSION}: run make setup"):
        await session.ready()


async def test_a_container_that_is_gone_is_described() -> None:
    session, _ = made(gone=True)
    with pytest.raises(SessionFault, match="the container ended with 137, killed for want of memory; 'last words'"):
        await session.ready()
    with pytest.raises(SessionFault, match="the container ended with 137"):
        await run(session)


async def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READY_S", "HAND_OVER_S", "REST_S"):
        monkeypatch.setattr(session_module, name, 0.01)
    monkeypatch.setattr(session_module, "STAGE_GRACE_S", 0.01 - LIMIT.wall_time_ms / 1000)
    session, _ = made()
    with pytest.raises(SessionFault, match="did not become ready in time"):
        await session.ready()
    with pytest.raises(SessionFault, match="did not take the submission in time"):
        await session.hand_over(SUBMISSION)
    session, _ = made()
    with pytest.raises(SessionFault, match="did not report the run stage in time"):
        await run(session)
    with pytest.raises(SessionFault, match="did not come to rest in time"):
        await run(session)


async def test_a_submission_over_the_protocols_maximum_is_refused_here() -> None:
    session, _ = made()
    with pytest.raises(SessionFault, match="too large for the protocol"):
        await session.run_test(0, args=("x" * (2 * MIB),), stdin=b"", limit=LIMIT)


async def cancelled(session: WorkerSession) -> None:
    """Cancel a test case once the container has been asked to run it."""
    running = asyncio.create_task(run(session))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_stage_is_stopped_by_the_hosts_end_and_its_report_is_kept() -> None:
    session, child = made()
    child.at_end = [report(exit_code=None, killed_by="cancel")]
    await cancelled(session)
    assert session.interrupted is not None
    assert (session.interrupted.killed_by, session.interrupted.stdout, session.interrupted.stderr) == ("cancel", b"ou", b"e")


@pytest.mark.parametrize("at_end", [[], [b""], [report(index=1)], [encode(ACCEPTED)], [report(b"")]])
async def test_a_container_that_reports_nothing_of_a_cancelled_stage_is_not_waited_for_long(
    at_end: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "STOP_S", 0.05)
    session, child = made()
    child.at_end = at_end
    await cancelled(session)
    assert session.interrupted is None


async def served(*answers: bytes, **ended: object) -> tuple[WorkerSession, Scripted]:
    """Return a session whose only test case ended so, and its container, which goes on to say ``answers``."""
    session, child = made(encode(READY), encode(ACCEPTED), rested(), report(**ended), *answers)
    await session.ready()
    await session.hand_over(SUBMISSION)
    await session.run_test(0, args=(), stdin=b"", limit=LIMIT, more=False)
    return session, child


async def test_a_container_that_is_cleared_away_takes_another_submission() -> None:
    session, child = await served(rested(), encode(ACCEPTED), rested(), report())
    for _ in range(2):
        with pytest.raises(SessionFault, match="comes after the last run"):
            await run(session)
    assert session.clean
    await session.reset()
    assert not session.clean
    await session.hand_over(SUBMISSION)
    await run(session)
    assert [command["type"] for command in child.commands] == ["job", "stage", "reset", "job", "stage"]
    assert len(child.updates) == 1, "the second has the same limits"


@pytest.mark.parametrize(
    "ended",
    [
        {"exit_code": None, "killed_by": "wall_time"},
        {"killed_by": "stdout"},
        {"oom_kills": 1},
        {"exit_code": None, "signal_number": 31},
        {"exit_code": None, "fault": "the jail did not end"},
        {"exit_code": None},
    ],
)
async def test_a_container_whose_program_did_not_end_by_itself_is_of_no_more_use(ended: dict[str, object]) -> None:
    session, child = await served(rested(), **ended)
    with pytest.raises(SessionFault, match="its submission did not end well"):
        await session.reset()
    assert child.commands[-1]["type"] == "stage"


async def test_an_early_end_counts_as_well_and_one_bad_stage_is_enough() -> None:
    session, _ = made(encode(READY), encode(ACCEPTED), rested(), report(oom_kills=1), rested(), report(index=1), rested())
    await session.ready()
    await session.hand_over(SUBMISSION)
    await run(session)
    await run(session, 1)
    assert not session.clean
    session, child = made(encode(READY), encode(ACCEPTED), rested(), report(exit_code=3), rested(), rested())
    await session.ready()
    await session.hand_over(SUBMISSION)
    await run(session)
    await session.reset()
    assert child.commands[-1]["type"] == "reset"


@pytest.mark.parametrize("answer", [encode(ACCEPTED), report(index=0), encode({"type": "fault", "message": "a file is left"})])
async def test_a_container_that_answers_anything_else_is_not_used_again(answer: bytes) -> None:
    session, _ = await served(answer)
    with pytest.raises(SessionFault):
        await session.reset()


async def test_a_reset_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "RESET_S", 0.01)
    session, _ = await served()
    with pytest.raises(SessionFault, match="could not be cleared away in time"):
        await session.reset()


async def test_a_lost_environment_or_a_cancel_leaves_nothing_to_be_used_again() -> None:
    session, _ = made(encode(READY), encode(ACCEPTED), rested(), report(missing="/nix/store/gone"))
    await session.ready()
    await session.hand_over(SUBMISSION)
    with pytest.raises(EnvironmentMissing):
        await run(session)
    assert not session.clean
