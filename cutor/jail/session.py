"""The host's end of a runner's child container: one submission handed over, its stages run one after the other.

Everything that comes back is hostile until decoded; every wait has a deadline. Whatever goes wrong with the container is a
`SessionFault`: the step is tried again elsewhere, and the container is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import msgspec

from cutor.containers.engine import Child
from cutor.containers.errors import EngineFailure, SessionFault
from cutor.containers.host_config import Resources
from cutor.containers.seccomp import program_policy
from cutor.jail.protocol import PROTOCOL_VERSION, Frame, FrameReader, ProtocolError, encode
from cutor.jail.report import MAX_HEADER_BYTES, Accepted, Fault, Ready, Report, WorkerFrame, decode_frame, report_of
from cutor.model.environments import Programs, pack_variables
from cutor.model.limits import MIB, Limit
from cutor.model.outcome import StageReport
from cutor.model.request import COMPILE_SCRIPT, RUN_SCRIPT

OWN_MEMORY_BYTES: Final = 12 * MIB
"""What cutor's own processes in the container hold beside a stage: see `stage_memory_bytes`."""
OWN_TASKS: Final = 3
"""The init, nsjail, jail-init: beside the program's own processes and threads."""

READY_S: Final = 30.0
HAND_OVER_S: Final = 60.0
STAGE_GRACE_S: Final = 45.0
"""Beyond a stage's wall time: a jail may take 20 s to stand and 10 to vanish on a busy machine, then its report is sent."""
CANCEL_S: Final = 1.0
"""How long the init may take to report after a cancel; then the container is as good as lost."""

F = TypeVar("F", Ready, Accepted, Report)


class EnvironmentMissing(Exception):
    """The store of this host does not hold the whole environment; ``path`` is the first of it that is missing."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is not in the store")
        self.path = path


@dataclass(frozen=True)
class Submission:
    """What a runner's container is given: the files by name, the exact variables of every stage, and where its programs are.

    ``closure`` is every store path of the environment: the init looks whether they are there before anything runs.
    ``copy_box`` makes every run work in a copy of the box, for a host whose kernel refuses the overlay.
    """

    files: Mapping[str, bytes]
    variables: Sequence[tuple[bytes, bytes]]
    programs: Programs
    closure: Sequence[str] = ()
    copy_box: bool = False


def stage_memory_bytes(limit: Limit, box_bytes: int, stdin_bytes: int) -> int:
    """Return the container's memory limit for a stage: what the stage may take, and beside it what cutor itself holds then.

    That is `OWN_MEMORY_BYTES`, the box as it is before the stage, the stage's input, and its output up to the caps.
    """
    return limit.memory_bytes + OWN_MEMORY_BYTES + box_bytes + stdin_bytes + limit.stdout_bytes + limit.stderr_bytes


class WorkerSession:
    """One submission in one started container. In order: `ready`, `hand_over`, `run_compile`, `run_test` …, `close`.

    One task at a time; only `cancel` and `close` may come from another one. ``resources`` is what the container was made with.
    """

    def __init__(self, child: Child, resources: Resources) -> None:
        self._child = child
        self._memory_bytes = resources.memory_bytes
        self._processes = resources.processes
        self._reader = FrameReader(max_header_bytes=MAX_HEADER_BYTES, max_body_bytes=0)
        self._frames: list[Frame] = []
        self._box_bytes = 0
        self._waiting: asyncio.Timeout | None = None
        self._cancelled = False

    async def ready(self) -> Ready:
        """Wait until the init is up, and return what it says of itself. Raises `SessionFault`."""
        async with self._deadline(READY_S, "the container did not become ready"):
            header, _ = await self._expect(Ready)
        if header.protocol != PROTOCOL_VERSION:
            raise SessionFault(f"the child image speaks protocol {header.protocol}, not {PROTOCOL_VERSION}: run make setup")
        return header

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
            "policy": program_policy(),
            "copy_box": submission.copy_box,
        }
        # the init holds the frame twice while it takes it apart, and the files a third time in the box
        await self._make_room(max(self._memory_bytes, OWN_MEMORY_BYTES + 3 * len(body)), self._processes)
        async with self._deadline(HAND_OVER_S, "the container did not take the submission"):
            await self._send(header, body)
            accepted, _ = await self._expect(Accepted)
        self._box_bytes = accepted.box_bytes
        if accepted.missing is not None:
            raise EnvironmentMissing(accepted.missing)

    async def run_compile(self, limit: Limit) -> StageReport:
        """Run ``cutor-compile.sh``; what it changes in the box stays. Raises `SessionFault`, `EngineFailure`."""
        return await self._stage("compile", 0, COMPILE_SCRIPT, (), b"", limit)

    async def run_test(self, index: int, *, args: Sequence[str], stdin: bytes, limit: Limit) -> StageReport:
        """Run ``cutor-run.sh`` for one test case; what it changes is thrown away. Raises `SessionFault`, `EngineFailure`."""
        return await self._stage("run", index, RUN_SCRIPT, args, stdin, limit)

    async def cancel(self) -> None:
        """Kill the running stage, whose report then says so within a second; later stages report the same at once."""
        self._cancelled = True
        await self._send({"type": "cancel"})
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time() + CANCEL_S)

    async def close(self) -> None:
        """Remove the container, whatever state it is in. Safe to call again. Raises `EngineFailure`."""
        await self._child.remove()

    async def _stage(
        self, kind: Literal["compile", "run"], index: int, script: str, args: Sequence[str], stdin: bytes, limit: Limit
    ) -> StageReport:
        memory_bytes = stage_memory_bytes(limit, self._box_bytes, len(stdin))
        await self._make_room(memory_bytes, limit.processes + OWN_TASKS)
        header = {
            "type": "stage",
            "kind": kind,
            "index": index,
            "script": script,
            "args": list(args),
            "limit": msgspec.to_builtins(limit),
            "memory_bytes": memory_bytes,
        }
        seconds = CANCEL_S if self._cancelled else limit.wall_time_ms / 1000 + STAGE_GRACE_S
        self._reader.max_body_bytes = limit.stdout_bytes + limit.stderr_bytes
        async with self._deadline(seconds, f"the container did not report the {kind} stage"):
            await self._send(header, stdin)
            report, body = await self._expect(Report)
        return self._judge(kind, index, report, body, limit)

    def _judge(self, kind: str, index: int, report: Report, body: bytes, limit: Limit) -> StageReport:
        """Return the stage's report. Raises `SessionFault` for one that can't be true."""
        if (report.kind, report.index) != (kind, index):
            raise SessionFault(f"the container reported {report.kind} {report.index}, not {kind} {index}")
        self._box_bytes = report.box_bytes
        try:
            return report_of(report, body, limit)
        except ProtocolError as error:
            raise SessionFault(f"the container broke the protocol: {error}") from error

    async def _make_room(self, memory_bytes: int, processes: int) -> None:
        """Give the container other limits where they differ (13 ms)."""
        if (memory_bytes, processes) != (self._memory_bytes, self._processes):
            await self._child.update(memory_bytes=memory_bytes, processes=processes)
            self._memory_bytes, self._processes = memory_bytes, processes

    async def _send(self, header: dict[str, Any], body: bytes = b"") -> None:
        try:
            await self._child.send(encode(header, body))
        except EngineFailure as error:
            raise await self._lost() from error
        except ProtocolError as error:
            raise SessionFault(f"the submission is too large for the protocol: {error}") from error

    async def _expect(self, kind: type[F]) -> tuple[F, bytes]:
        """Return the next frame, which must be of ``kind``. Raises `SessionFault`."""
        try:
            while not self._frames:
                data = await self._child.receive()
                if not data:
                    raise await self._lost()
                self._frames += self._reader.feed(data)
            frame = self._frames.pop(0)
            header = decode_frame(frame)
        except ProtocolError as error:
            raise SessionFault(f"the container broke the protocol: {error}") from error
        if not isinstance(header, kind):
            raise SessionFault(self._unexpected(header))
        return header, frame.body

    @staticmethod
    def _unexpected(header: WorkerFrame) -> str:
        if isinstance(header, Fault):
            return f"the container's init failed: {header.message}"
        return f"the container sent {type(header).__name__} where it may not"

    async def _lost(self) -> SessionFault:
        state = await self._child.state()
        tail = self._child.stderr_tail.decode(errors="replace").strip()
        return SessionFault(f"the connection to the container ended: {state.describe()}{'; ' + repr(tail) if tail else ''}")

    @asynccontextmanager
    async def _deadline(self, seconds: float, fault: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds) as self._waiting:
                yield
        except TimeoutError as error:
            raise SessionFault(f"{fault} in time") from error
        finally:
            self._waiting = None
