"""The host's end of a runner's child container: a submission handed over, its stages run one after the other.

Everything that comes back is hostile until decoded; every wait has a deadline. Whatever goes wrong with the container is a
`SessionFault`: the step is tried again elsewhere, and the container is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import msgspec

from cutor.containers.child import Child
from cutor.containers.control_group import Watermark
from cutor.containers.errors import EngineFailure, SessionFault, one_line
from cutor.containers.host_config import Resources
from cutor.containers.occupancy import Occupancy
from cutor.containers.surplus import Surplus
from cutor.installation import setup_command
from cutor.jail.frames import Frames
from cutor.jail.inside.closure import LOOK_BYTES
from cutor.jail.inside.protocol import CHANGING, PROTOCOL_VERSION, ProtocolError, encode
from cutor.jail.job import EnvironmentMissing, RunnerJob
from cutor.jail.memory import (
    INIT_MEMORY_BYTES,
    KEPT_MEMORY_BYTES,
    Held,
    believed,
    hand_over_memory_bytes,
    stage_memory_bytes,
)
from cutor.jail.report import MAX_HEADER_BYTES, Accepted, Fault, Ready, Report, Rested, WorkerFrame, decode_frame, report_of
from cutor.jail.room import OWN_TASKS, Room
from cutor.model.environments import pack_variables
from cutor.model.limits import MIB, JailedStage, Limit
from cutor.model.outcome import StageReport
from cutor.model.request import COMPILE_SCRIPT, RUN_SCRIPT

READY_S: Final = 30.0
"""An init is ready within a second: the rest is for a busy machine. Then it is a fault."""
HAND_OVER_S: Final = 60.0
"""Files are written to memory and paths of the closure looked at, which takes milliseconds; the rest is for a busy machine."""
STAGE_GRACE_S: Final = 45.0
"""Beyond a stage's wall time: a jail may take 20 s to stand and 10 to vanish on a busy machine, then its report is sent."""
REST_S: Final = 15.0
"""Above what the init's own bounds come to (`SETTLE_S`, `resting.REST_S`): it says itself what is wrong."""
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
"""Most characters of the last line that a lost container printed, in the fault that tells of it."""

F = TypeVar("F", Ready, Accepted, Report, Rested)

log = logging.getLogger(__name__)


def ended_by_itself(report: StageReport) -> bool:
    """Return whether a stage's program ended without anybody's help, so that its container may serve another submission.

    What was killed, by the kernel for memory or by cutor for a limit or a cancel, left its end to others; what was killed for a
    system call (SIGSYS) tried the walls. Nothing is known of a stage with a fault.
    """
    killed = report.killed_by is not None or report.oom_kills > 0 or report.signal_number == signal.SIGSYS
    return not killed and report.fault is None and (report.exit_code is not None or report.signal_number is not None)


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
        self._room = Room(child, resources)
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
            spoken = f"the child image speaks protocol {header.protocol}, not {PROTOCOL_VERSION}"
            raise SessionFault(f"{spoken}: run {setup_command()}")
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

    async def hand_over(self, submission: RunnerJob) -> None:
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
        if needed_bytes > self._room.memory_bytes:
            await self._room.make(needed_bytes, self._room.processes)
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
        kind: JailedStage,
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
        await self._make_room(kind, limit, len(stdin))
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

    async def _make_room(self, kind: JailedStage, limit: Limit, stdin_bytes: int) -> None:
        """Let the container have what a stage may take, beside what it holds."""
        if self._surplus is not None:
            await self._surplus.take_back(self._held.resting_bytes)
        held_bytes = self._held.resting_bytes + (KEPT_MEMORY_BYTES if kind == CHANGING else self._held.copy_bytes)
        await self._room.make(stage_memory_bytes(limit, held_bytes, stdin_bytes), limit.processes + OWN_TASKS)

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
            held = believed(rested, self._box, self._room.memory_bytes)
            self._held = held if self._copied else held._replace(copy_bytes=0)
            self._box = self._box or self._held
            self._resting = True

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
