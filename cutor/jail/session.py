"""The host's end of a runner's child container: a submission handed over, its stages run one after the other.

Everything that comes back is hostile until decoded; every wait has a deadline. Whatever goes wrong with the container is a
`SessionFault`: the step is tried again elsewhere, and the container is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from cutor.containers.child import Child
from cutor.containers.control_group import Watermark
from cutor.containers.errors import EngineFailure, EngineRefused, SessionFault, one_line
from cutor.containers.host_config import Resources
from cutor.containers.occupancy import Occupancy
from cutor.containers.surplus import Surplus
from cutor.jail.frames import Frames
from cutor.jail.inside.worker_init import LOOK_BYTES, REST_SLACK_BYTES
from cutor.jail.protocol import PROTOCOL_VERSION, ProtocolError, encode
from cutor.jail.report import MAX_HEADER_BYTES, Accepted, Fault, Ready, Report, Rested, WorkerFrame, decode_frame, report_of
from cutor.model.environments import Programs, pack_variables
from cutor.model.limits import MIB, Limit
from cutor.model.outcome import StageReport
from cutor.model.request import COMPILE_SCRIPT, RUN_SCRIPT

INIT_MEMORY_BYTES: Final = 5 * MIB
"""What a container holds between stages but for the jail that waits (measured: 4.4 to 5.5 MiB): the first estimate of what it
rests at."""
OWN_MEMORY_BYTES: Final = 4 * MIB
"""What comes beside it while a stage runs: nsjail, jail-init, a jail's mounts (1.7 MiB), and what kernels differ in."""
KEPT_MEMORY_BYTES: Final = 2 * MIB
"""What the jail that is kept for a run takes while a compile stage has one of its own."""
ROOM_MEMORY_BYTES: Final = 3 * MIB
"""How much more than needed a container is left with: changing a limit takes Docker 20 ms, and what it rests at varies."""
NEW_ROOM_BYTES: Final = 2 * MIB
"""How much more than needed a changed limit gives: what comes next may need a little more, or a little less."""
FILE_BYTES: Final = 5 << 10
"""What a file takes in the box beside its size, at the most: its last page, and what the kernel holds for it."""
OWN_TASKS: Final = 5
"""The init, and nsjail and jail-init of the stage's jail and of one that is kept: beside the program's own processes and
threads, whose number is bounded in its jail."""

READY_S: Final = 30.0
HAND_OVER_S: Final = 60.0
STAGE_GRACE_S: Final = 45.0
"""Beyond a stage's wall time: a jail may take 20 s to stand and 10 to vanish on a busy machine, then its report is sent."""
REST_S: Final = 15.0
RESET_S: Final = 10.0
"""How long clearing a container away may take before it is removed instead."""
LEFT_BYTES: Final = 4 * MIB
"""How much more than before its first submission a container's processes and files may hold once it is cleared away."""
IDLE_TASKS: Final = 3
"""The init, nsjail, and the jail-init of a jail that waits: all that there is where nothing runs."""
STOP_S: Final = 0.5
"""How long the report of a stage that is stopped is waited for: what it printed is worth half of the second that a stop may
take, the container's removal has the other half. A jail is gone after some 10 ms."""
END_S: Final = 0.5
"""How long an init that has nothing to do may take to end, before it is killed: it takes 5 ms, and Docker 60 to notice."""
LAST_WORDS: Final = 300
LOWERING: Final = (
    *((0.0, 0), (0.05, 0), (0.2, 0), (0.5, 0)),
    *((0.5, 4 * MIB), (0.5, 8 * MIB), (0.5, 12 * MIB), (0.5, 16 * MIB)),
)
"""How a refused lowering of the memory limit is tried again: after how many seconds, with how much more.

The kernel refuses where it could take nothing back any more, so what is over the limit is held: a stage that is given a step
more gets less than that step of it. Over the last step a container is given up: its stages would not have the limits that their
reports name."""

F = TypeVar("F", Ready, Accepted, Report, Rested)

log = logging.getLogger(__name__)


class EnvironmentMissing(Exception):
    """The store of this host does not hold the whole environment, or did not until the end of a stage; ``path`` is the first
    of it that is missing. Whatever else the stage reported says nothing of the submission.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is not in the store")
        self.path = path


@dataclass(frozen=True)
class Submission:
    """What a runner's container is given: the files by name, the exact variables of every stage, and where its programs are.

    ``closure`` is every store path of the environment: the init looks whether they are there before anything runs.
    """

    files: Mapping[str, bytes]
    variables: Sequence[tuple[bytes, bytes]]
    programs: Programs
    closure: Sequence[str] = ()


class Held(NamedTuple):
    """What a container holds between two stages, and what a run needs for its copy of the box beside it."""

    resting_bytes: int
    copy_bytes: int


def believed(rested: Rested, box: Held | None, memory_bytes: int) -> Held:
    """Return what a container is believed to hold: user code may have taken over the init that says so.

    ``box`` is what it held before its first run: no run leaves anything but noise, so every later word is believed up to
    that, with the slack that an init gives itself. Null says that the box has changed since the last word: there it is
    ``memory_bytes``, what the container was allowed while that happened. A copy is no more than what it is made from.
    """
    most_bytes = memory_bytes if box is None else box.resting_bytes + REST_SLACK_BYTES
    most_copy_bytes = memory_bytes if box is None else box.copy_bytes + REST_SLACK_BYTES
    resting_bytes = min(rested.resting_bytes, most_bytes, memory_bytes)
    return Held(resting_bytes, min(rested.copy_bytes, most_copy_bytes, resting_bytes))


def ended_by_itself(report: StageReport) -> bool:
    """Return whether a stage's program ended without anybody's help, so that its container may serve another submission.

    What was killed, by the kernel for memory or by cutor for a limit or a cancel, left its end to others; what was killed for a
    system call (SIGSYS) tried the walls. Nothing is known of a stage with a fault.
    """
    killed = report.killed_by is not None or report.oom_kills > 0 or report.signal_number == signal.SIGSYS
    return not killed and report.fault is None and (report.exit_code is not None or report.signal_number is not None)


def stage_memory_bytes(limit: Limit, resting_bytes: int, stdin_bytes: int) -> int:
    """Return the container's memory limit for a stage: what the stage may take, and beside it what is there without it.

    That is what the container holds between stages (the init, the box, the kernel's own for it; and a copy of the box where a
    run needs one), `OWN_MEMORY_BYTES`, the stage's input, and its output up to the caps.
    """
    return limit.memory_bytes + OWN_MEMORY_BYTES + resting_bytes + stdin_bytes + limit.stdout_bytes + limit.stderr_bytes


def first_memory_bytes(limit: Limit, files: Mapping[str, bytes], other_bytes: int, stdin_bytes: int) -> int:
    """Return the memory limit that a container is best made with: enough to take a submission, and to run its first stage.

    ``other_bytes`` are its variables and its closure's paths.
    """
    files_bytes = sum(map(len, files.values()))
    resting_bytes = INIT_MEMORY_BYTES + files_bytes + FILE_BYTES * len(files) + 2 * other_bytes
    resting_bytes += KEPT_MEMORY_BYTES if COMPILE_SCRIPT in files else 0
    stage_bytes = stage_memory_bytes(limit, resting_bytes, stdin_bytes) + NEW_ROOM_BYTES
    return max(stage_bytes, hand_over_memory_bytes(len(files), files_bytes + other_bytes))


def hand_over_memory_bytes(files: int, body_bytes: int) -> int:
    """Return what it takes to take a submission: the frame once, and once more in the box and as variables."""
    return INIT_MEMORY_BYTES + OWN_MEMORY_BYTES + 3 * FILE_BYTES * files + 2 * body_bytes + body_bytes // 8


class WorkerSession:
    """One submission in one started container. In order: `ready`, `hand_over`, `run_compile`, `run_test` …, `close`.

    In place of `close`, `reset` makes a container fit for another submission's `hand_over`, where ``clean`` says that all ended
    well (and runs had no copies of the box): as far as its init, and with an ``occupancy`` the host, can tell.
    One task at a time; only `close` may come from another one. ``resources`` is what the container was made with; without a
    ``watermark`` only a stage that needs more memory than those before it has a peak; without a ``surplus`` the kernel may not
    have freed what it keeps of a stage when the next one needs it. Where the task is cancelled while a stage runs, the init is
    made to stop it; its report, if one comes within `STOP_S`, is in ``interrupted``, and the session is over.
    """

    def __init__(
        self,
        child: Child,
        resources: Resources,
        watermark: Watermark | None = None,
        surplus: Surplus | None = None,
        occupancy: Occupancy | None = None,
    ) -> None:
        self._child = child
        self._occupancy = occupancy
        self._watermark = watermark
        self._surplus = surplus
        self._memory_bytes = resources.memory_bytes
        self._processes = resources.processes
        self._frames = Frames(max_header_bytes=MAX_HEADER_BYTES, max_body_bytes=0)
        self._held = Held(INIT_MEMORY_BYTES, 0)
        self._box: Held | None = self._held  # what was held when the box had changed last; null until the init says so
        self._said: Ready | None = None
        self._copied = True  # whether a run has a copy of the box
        self._resting = True  # false from a frame that asks for something until the init has let go of it
        self._idle = False  # whether the init is up, and nothing runs in its container
        self._over = False  # whether the last run was said to be it
        self.clean = False
        self.interrupted: StageReport | None = None

    @property
    def name(self) -> str:
        """The container's name in Docker."""
        return self._child.name

    async def ready(self) -> Ready:
        """Wait until the init is up, and return what it says of itself: at once the second time. Raises `SessionFault`."""
        if self._said is not None:
            return self._said
        async with self._deadline(READY_S, "the container did not become ready"):
            header, _ = await self._expect(Ready)
        if header.protocol != PROTOCOL_VERSION:
            raise SessionFault(f"the child image speaks protocol {header.protocol}, not {PROTOCOL_VERSION}: run make setup")
        self._copied = header.box == "copy"
        self._said = header
        self._idle = True
        if self._occupancy is not None:
            self._occupancy.remember()
        return header

    async def failed(self) -> str:
        """Return, while nothing is asked of an init that is ready, why it can't be used any more: it says nothing by itself."""
        if await self._child.receive():
            return f"{self._child.name}: its init said something unasked"
        return f"{self._child.name}: {await self._lost()}"

    async def hand_over(self, submission: Submission) -> None:
        """Send files and environment; they are in the box when this returns.

        Raises `EnvironmentMissing`, `SessionFault`, `EngineFailure`.
        """
        closure = "\n".join(submission.closure).encode()
        body = b"".join([*submission.files.values(), closure, pack_variables(tuple(submission.variables))])
        header = {
            "type": "job",
            "files": [{"name": name, "bytes": len(data)} for name, data in submission.files.items()],
            "closure_bytes": len(closure),
            "programs": msgspec.to_builtins(submission.programs),
        }
        needed_bytes = hand_over_memory_bytes(len(submission.files), len(body) + LOOK_BYTES * len(submission.closure))
        if needed_bytes > self._memory_bytes:
            await self._make_room(needed_bytes, self._processes)
        self._box = None
        async with self._deadline(HAND_OVER_S, "the container did not take the submission"):
            await self._send(header, body)
            accepted, _ = await self._expect(Accepted)
        self._idle = True
        if accepted.missing is not None:
            raise EnvironmentMissing(accepted.missing)
        self.clean = True

    async def run_compile(self, limit: Limit) -> StageReport:
        """Run ``cutor-compile.sh``; what it changes in the box stays.

        Raises `EnvironmentMissing`, `SessionFault`, `EngineFailure`.
        """
        report = await self._stage("compile", 0, COMPILE_SCRIPT, (), b"", limit, more=True)
        self._box = None
        return report

    async def run_test(self, index: int, *, args: Sequence[str], stdin: bytes, limit: Limit, more: bool = True) -> StageReport:
        """Run ``cutor-run.sh`` for one test case; what it changes is thrown away. Without ``more`` it is the last one.

        Raises `EnvironmentMissing`, `SessionFault`, `EngineFailure`.
        """
        return await self._stage("run", index, RUN_SCRIPT, args, stdin, limit, more=more)

    async def reset(self) -> None:
        """Have everything of the submission cleared away, and look whether it is; `hand_over` may come next.

        Raises `SessionFault` where it is not, not in time, or not to be tried: then the container is to be closed.
        """
        if not self.clean:
            raise SessionFault("the container is of no more use: its submission did not end well")
        self.clean = False
        async with self._deadline(RESET_S, "the container could not be cleared away"):
            if not self._over:
                await self._rest()
            await self._send({"type": "reset"})
            self._box, self._over = Held(INIT_MEMORY_BYTES, 0), False
            await self._rest()
            self._idle = True
            stays_bytes = await self._all_taken_back()
        if stays_bytes:
            raise SessionFault(f"a container that was cleared away is not empty: the kernel keeps {stays_bytes} bytes for it")
        if self._occupancy is not None and (found := self._occupancy.found(IDLE_TASKS, LEFT_BYTES)):
            raise SessionFault(f"a container that was cleared away is not empty: {found}")

    async def _all_taken_back(self) -> int:
        """Have the kernel give back what it keeps for a former submission; return how much of it stays, in bytes.

        A program can make it keep tens of MiB for seconds after its end: what is in a chain of sockets on their way in sockets.
        """
        if self._surplus is None:
            return 0
        self._surplus.forget()
        return await self._surplus.take_back(self._held.resting_bytes)

    async def close(self) -> None:
        """Remove the container, whatever state it is in, and however long Docker takes. Safe to call again.

        An init that has nothing to do is asked to end before that.
        """
        if self._occupancy is not None:
            self._occupancy.close()
            self._occupancy = None
        if self._watermark is not None:
            self._watermark.close()
            self._watermark = None
        if self._idle:
            self._idle = False
            await self._child.end(END_S)
        await self._child.discard()

    async def _stage(
        self,
        kind: Literal["compile", "run"],
        index: int,
        script: str,
        args: Sequence[str],
        stdin: bytes,
        limit: Limit,
        *,
        more: bool,
    ) -> StageReport:
        if self._over:
            raise SessionFault(f"the {kind} stage comes after the last run")
        await self._rest()
        if self._surplus is not None:
            await self._surplus.take_back(self._held.resting_bytes)
        held_bytes = self._held.resting_bytes + (self._held.copy_bytes if kind == "run" else KEPT_MEMORY_BYTES)
        memory_bytes = stage_memory_bytes(limit, held_bytes, len(stdin))
        await self._make_room(memory_bytes, limit.processes + OWN_TASKS)
        header = {
            "type": "stage",
            "kind": kind,
            "index": index,
            "script": script,
            "args": list(args),
            "limit": msgspec.to_builtins(limit),
            "more": more,
        }
        seconds = limit.wall_time_ms / 1000 + STAGE_GRACE_S
        clean, self.clean = self.clean, False
        self._frames.reader.max_body_bytes = limit.stdout_bytes + limit.stderr_bytes
        if self._watermark is not None:
            self._watermark.reset()
        try:
            async with self._deadline(seconds, f"the container did not report the {kind} stage"):
                await self._send(header, stdin)
                self._over = not more
                report = await self._reported(kind, index, limit)
        except asyncio.CancelledError:
            self.interrupted = await self._stopped(kind, index, limit)
            raise
        self.clean = clean and not self._copied and ended_by_itself(report)
        return report

    async def _reported(self, kind: str, index: int, limit: Limit) -> StageReport:
        """Return the report of the running stage. Raises `SessionFault`, and `EnvironmentMissing` for one that says nothing."""
        report, body = await self._expect(Report)
        self._idle = True
        if report.missing is not None:
            raise EnvironmentMissing(report.missing)
        return self._with_peak(self._judge(kind, index, report, body, limit))

    async def _stopped(self, kind: str, index: int, limit: Limit) -> StageReport | None:
        """Stop the running stage by the host's end, which is all that an init looks at meanwhile; null where nothing comes."""
        try:
            async with asyncio.timeout(STOP_S):
                await self._child.close_stdin()
                return await self._reported(kind, index, limit)
        except (TimeoutError, SessionFault, EngineFailure, EnvironmentMissing) as error:
            log.info("%s: nothing is known of the stage that was stopped: %s", self._child.name, error or "it did not end")
            return None

    def _with_peak(self, report: StageReport) -> StageReport:
        """Return the report with the host's view of the memory peak where the init had none: it stood below a jail's making."""
        if report.memory_peak_bytes is not None or self._watermark is None:
            return report
        return msgspec.structs.replace(report, memory_peak_bytes=self._watermark.added_bytes())

    def _judge(self, kind: str, index: int, report: Report, body: bytes, limit: Limit) -> StageReport:
        """Return the stage's report. Raises `SessionFault` for one that can't be true."""
        if (report.kind, report.index) != (kind, index):
            raise SessionFault(f"the container reported {report.kind} {report.index}, not {kind} {index}")
        try:
            return report_of(report, body, limit)
        except ProtocolError as error:
            raise SessionFault(f"the container broke the protocol: {error}") from error

    async def _rest(self) -> None:
        """Wait until the init has let go of the last command and its answer: before that its memory may not be lowered.

        What it says it holds is `believed` up to what it can hold: no number from inside gives a container more than that.
        """
        if not self._resting:
            async with self._deadline(REST_S, "the container did not come to rest"):
                rested, _ = await self._expect(Rested)
            held = believed(rested, self._box, self._memory_bytes)
            self._held = held if self._copied else held._replace(copy_bytes=0)
            self._box = self._box or self._held
            self._resting = True

    async def _make_room(self, memory_bytes: int, processes: int) -> None:
        """Give the container the limits of what comes next (20 ms), unless its own are as good."""
        enough = memory_bytes <= self._memory_bytes <= memory_bytes + ROOM_MEMORY_BYTES
        if enough and processes == self._processes:
            return
        target_bytes = self._memory_bytes if enough else memory_bytes + NEW_ROOM_BYTES
        if target_bytes < self._memory_bytes:
            await self._lower(target_bytes, processes)
        else:
            await self._update(target_bytes, processes)

    async def _lower(self, memory_bytes: int, processes: int) -> None:
        """Lower the memory limit; on version 1 the kernel takes back what it can, and refuses where that is not enough.

        It may refuse while it still frees what an earlier stage had: no fault of anybody's. Raises `SessionFault` where it
        keeps refusing more than `LOWERING` allows.
        """
        refused: EngineRefused | None = None
        for pause_s, more_bytes in LOWERING:
            await asyncio.sleep(pause_s)
            try:
                await self._update(min(memory_bytes + more_bytes, self._memory_bytes), processes)
            except EngineRefused as error:
                refused = error
                log.warning("%s: its memory limit stays for now: %s", self._child.name, error)
            else:
                return
        raise SessionFault(f"the container's memory limit could not be lowered to {memory_bytes} bytes: {refused}")

    async def _update(self, memory_bytes: int, processes: int) -> None:
        await self._child.update(memory_bytes=memory_bytes, processes=processes)
        self._memory_bytes, self._processes = memory_bytes, processes

    async def _send(self, header: dict[str, Any], body: bytes = b"") -> None:
        self._resting = self._idle = False
        try:
            await self._child.send(encode(header, body))
        except EngineFailure as error:
            raise await self._lost() from error
        except ProtocolError as error:
            raise SessionFault(f"the submission is too large for the protocol: {error}") from error

    async def _expect(self, kind: type[F]) -> tuple[F, bytes]:
        """Return the next frame, which must be of ``kind``. Raises `SessionFault`."""
        try:
            frame = await self._frames.next(self._child)
            if frame is None:
                raise await self._lost()
            header = decode_frame(frame)
        except ProtocolError as error:
            raise SessionFault(f"the container broke the protocol: {error}") from error
        if not isinstance(header, kind):
            raise SessionFault(self._unexpected(header))
        return header, frame.body

    @staticmethod
    def _unexpected(header: WorkerFrame) -> str:
        if isinstance(header, Fault):
            return f"the container's init failed: {one_line(header.message)}"
        return f"the container sent {type(header).__name__} where it may not"

    async def _lost(self) -> SessionFault:
        """Return what to say of a container that is no longer there: one line of what it printed, the rest goes to the log."""
        state = await self._child.state()
        tail = self._child.stderr_tail.decode(errors="replace").strip()
        if "\n" in tail:
            log.warning("%s printed before its end:\n%s", self._child.name, tail)
        last = one_line(tail.rpartition("\n")[2])[:LAST_WORDS]
        return SessionFault(f"the connection to the container ended: {state.describe()}{'; ' + repr(last) if last else ''}")

    @asynccontextmanager
    async def _deadline(self, seconds: float, fault: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise SessionFault(f"{fault} in time") from error
