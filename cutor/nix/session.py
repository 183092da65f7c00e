"""The host's end of an environment build: one child container, one build, nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from types import TracebackType
from typing import Final, Self

import msgspec

from cutor.containers.child import Child
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError, SessionFault, one_line
from cutor.containers.host_config import (
    BUILD_UID,
    NO_NETWORK,
    BuilderStorage,
    ContainerSpec,
    Identity,
    Resources,
    Tmpfs,
    builder_spec,
)
from cutor.containers.seccomp import program_policy
from cutor.jail.inside.protocol import ProtocolError, encode
from cutor.jail.measured import stage_report
from cutor.model.limits import MIB, Limit
from cutor.model.outcome import StageReport, classify
from cutor.model.stages import explain
from cutor.nix.init_frames import InitFrames, check_image, printed
from cutor.nix.inside.jails import WORK
from cutor.nix.inside.mending import MENDINGS_AT_MOST
from cutor.nix.messages import advised, ending_message, error_message, limits_named, shorten
from cutor.nix.report import (
    MAX_CLOSURE_TEXT_BYTES,
    MAX_PROGRESS_BYTES,
    BuildFrame,
    BuildReport,
    Built,
    BuiltHeader,
    Failed,
    FailedHeader,
    FaultHeader,
    Mending,
    Progress,
    Ready,
    Waiting,
    decode_environment,
    decode_header,
)
from cutor.nix.settings import NixSettings, daemon_configuration, evaluation_options
from cutor.undisturbed import to_the_end

INIT_MODULE: Final = "cutor.nix.inside.build_init"
OWN_MEMORY_BYTES: Final = 64 * MIB
"""What cutor's own processes in the container may take beside the limit: two small Pythons, nsjail, an idle nix-daemon.

A kernel counts pages, not owners: what they don't use is slack of the build's, up to this much over ``memory_bytes``."""
OWN_PROCESSES: Final = 16
"""Processes that a build's container has for itself, beside those that the build may have."""
WORK_TMPFS: Final = Tmpfs(WORK, 256 * MIB, 65_536, BUILD_UID, "0755", executable=True)
"""The directory with the submission's files and the evaluation's home (Nix's caches): memory of the build's."""
GRACE_S: Final = 30.0
"""Beyond the wall time limit: the start of the daemon, the kill at the limit, the roots, the transfer."""
TASKS_REFUSED: Final = "the build was refused more than {} processes and threads at one time; then it failed:"
STOP_S: Final = 0.5
"""How long the report of a build that is stopped is waited for."""
MIN_BUILD_BYTES: Final = 4 * MIB
"""Of the directory in which builders work, however little memory a build may have: a tmpfs of size 0 has no bound."""

WAITS: Final = b"a garbage collection of the store has to end first\n"
MENDS: Final = b"paths are missing from the store that its database promises: it is mended, and the build begins anew\n"
"""Progress that is none of Nix's."""

OnProgress = Callable[[bytes], None]

log = logging.getLogger(__name__)


class NoRoomLeft(SessionFault):
    """The store's volume is as good as full: no build of this host can begin, or go on."""


def encode_job(settings: NixSettings, key: str, files: Mapping[str, bytes], limit: Limit) -> bytes:
    """Return the frame that asks the init of a build container for an environment."""
    header = {
        "type": "build",
        "key": key,
        "files": [[name, len(data)] for name, data in files.items()],
        "limit": msgspec.to_builtins(limit),
        "nix_path": settings.nix_path,
        "cores": settings.cores,
        "options": list(evaluation_options(settings)),
        "daemon_configuration": daemon_configuration(settings),
        "policy": program_policy(),
        "network": settings.network != NO_NETWORK,
        "store_bytes": settings.store_bytes,
        "min_free_bytes": settings.min_free_bytes,
    }
    return encode(header, b"".join(files.values()))


class BuildSession:
    """One build in one container: ``async with BuildSession(engine, settings, instance=…, submission=…) as session``.

    The container is removed when the block is left, however it is left; a cancelled build is killed with it. Where the task is
    cancelled during the build, the init is made to stop it; its report, if one comes within `STOP_S`, is in ``interrupted``.
    """

    def __init__(
        self,
        engine: Engine,
        settings: NixSettings,
        *,
        instance: str,
        submission: str,
        data: PurePath | None = None,
        refused: Sequence[str] = (),
    ) -> None:
        """``refused``: networks or addresses that the build must not reach, should it have a network."""
        self._engine = engine
        self._settings = settings
        self._refused = (*settings.refused_networks, *refused)
        self._identity = Identity(instance, secrets.token_hex(6), submission, data)
        self.interrupted: StageReport | None = None
        self._child: Child | None = None
        self._frames = InitFrames("build container", MAX_PROGRESS_BYTES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            await to_the_end(self._child.discard())

    async def build(
        self, key: str, files: Mapping[str, bytes], limit: Limit, on_progress: OnProgress | None = None
    ) -> BuildReport:
        """Build the environment of ``files`` (``shell.nix`` and what it imports, by name) under ``key``.

        ``limit`` holds for evaluation, builders and capture together. ``on_progress`` is given what Nix prints,
        piece by piece, and what is waited for.
        Raises `SessionFault`, or an error of `cutor.containers` where Docker fails. To be called once.
        """
        assert self._child is None, "a session builds once"
        child = self._child = await self._engine.start(self._spec(limit))
        await self._until_ready(child, on_progress)
        self._frames.reader.max_body_bytes = limit.stdout_bytes + limit.stderr_bytes + MAX_CLOSURE_TEXT_BYTES + (2 * MIB)
        try:
            async with asyncio.timeout(limit.wall_time_ms / 1000 + GRACE_S) as deadline:
                await child.send(encode_job(self._settings, key, files, limit))
                return await self._until_done(child, key, limit, on_progress, deadline)
        except TimeoutError as error:
            raise SessionFault(f"the build container says nothing {GRACE_S:.0f} s after the build's time was up") from error
        except asyncio.CancelledError:
            self.interrupted = await self._stopped(child, key, limit)
            raise

    async def _stopped(self, child: Child, key: str, limit: Limit) -> StageReport | None:
        """Stop the build by the host's end; null where no report comes: between its two jails the init looks at nothing."""
        try:
            async with asyncio.timeout(STOP_S):
                await child.close_stdin()
                return (await self._until_done(child, key, limit)).report
        except (TimeoutError, ContainerError) as error:
            log.info("%s: nothing is known of the build that was stopped: %s", child.name, error or "it did not end")
            return None

    def _spec(self, limit: Limit) -> ContainerSpec:
        settings = self._settings
        return builder_spec(
            self._identity,
            image=settings.image,
            module=INIT_MODULE,
            resources=Resources(limit.memory_bytes + OWN_MEMORY_BYTES, limit.processes + OWN_PROCESSES, settings.cores),
            storage=BuilderStorage(
                store_volume=settings.store_volume,
                var_volume=settings.var_volume,
                packages_volume=settings.packages_volume,
                build_bytes=self._build_bytes(limit),
                extra=(WORK_TMPFS,),
            ),
            network=settings.network,
            refused=self._refused,
        )

    async def _until_ready(self, child: Child, on_progress: OnProgress | None) -> None:
        """Wait for the init to take a job; longer, once, where a garbage collection has to end first."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.start_timeout_ms / 1000) as deadline:
                header = decode_header(await self._frames.next(child))
                if isinstance(header, Waiting):
                    if on_progress is not None:
                        on_progress(WAITS)
                    deadline.reschedule(asyncio.get_running_loop().time() + settings.collection_timeout_ms / 1000)
                    header = decode_header(await self._frames.next(child))
                if not isinstance(header, Ready):
                    raise self._unexpected(header, child)
        except TimeoutError as error:
            raise SessionFault(f"the build container did not become ready in time{printed(child)}") from error
        except ProtocolError as error:
            raise self._frames.broken(error) from error
        check_image(header.protocol, header.nix_version)

    async def _until_done(
        self,
        child: Child,
        key: str,
        limit: Limit,
        on_progress: OnProgress | None = None,
        deadline: asyncio.Timeout | None = None,
    ) -> BuildReport:
        mendings = 0
        try:
            while True:
                frame = await self._frames.next(child)
                match decode_header(frame):
                    case Mending() as header if mendings < MENDINGS_AT_MOST:
                        mendings += 1
                        self._begins_anew(child, header, limit, deadline)
                        if on_progress is not None:
                            on_progress(MENDS)
                    case Progress():
                        if on_progress is not None:
                            on_progress(frame.body)
                    case BuiltHeader() as header:
                        return self._built(key, header, frame.body, limit)
                    case FailedHeader() as header:
                        report, _ = stage_report(header.report, frame.body, limit)
                        return self._failed(report, header, limit)
                    case header:
                        raise self._unexpected(header, child)
        except ProtocolError as error:
            raise self._frames.broken(error) from error

    def _begins_anew(self, child: Child, header: Mending, limit: Limit, deadline: asyncio.Timeout | None) -> None:
        """Give the build the time to wait for others and to mend the store, and all of its own again."""
        log.warning(
            "%s: %d paths are missing from the store that its database promises, %s among them: it is mended",
            child.name, header.count, one_line(header.missing),
        )  # fmt: skip
        if deadline is not None:
            seconds = self._settings.collection_timeout_ms / 1000 + limit.wall_time_ms / 1000 + GRACE_S
            deadline.reschedule(asyncio.get_running_loop().time() + seconds)

    @staticmethod
    def _built(key: str, header: BuiltHeader, body: bytes, limit: Limit) -> Built:
        """Return the environment. Raises `ProtocolError` where the report tells of a failure."""
        report, block = stage_report(header.report, body, limit)
        if classify(report) != "OK":
            raise ProtocolError("a build succeeded with a report that says otherwise")
        return Built(environment=decode_environment(key, header, block), report=report)

    def _build_bytes(self, limit: Limit) -> int:
        """Return the size of the directory in which builders work: smaller than the memory that it is part of."""
        return max(min(self._settings.build_directory_bytes, limit.memory_bytes * 3 // 4), MIN_BUILD_BYTES)

    def _failed(self, report: StageReport, header: FailedHeader, limit: Limit) -> Failed:
        """Return the failure in words: the limit that was passed, else the init's word, else Nix's own error with advice."""
        outcome = classify(report)
        if outcome == "XX":
            raise SessionFault(explain(outcome, report, limit) or "the build failed for no known reason")
        if outcome == "OK":
            raise ProtocolError("a build failed with a report that says otherwise")
        told = explain(outcome, report, limit) or header.message or error_message(report.stderr) or ending_message(report)
        if outcome == "RE":
            told = advised(limits_named(told, limit, self._build_bytes(limit)))
        if outcome == "RE" and header.tasks_refused:
            told = f"{TASKS_REFUSED.format(limit.processes)}\n{told}"
        return Failed(report=report, message=shorten(told))

    def _unexpected(self, header: BuildFrame, child: Child) -> SessionFault:
        if isinstance(header, FaultHeader):
            kind = NoRoomLeft if header.no_room else SessionFault
            return kind(f"the build container failed: {header.message}")
        return self._frames.unexpected(header, child)
