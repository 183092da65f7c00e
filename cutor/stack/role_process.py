"""The process of one role: what ``cutor builder``, ``cutor runner`` and ``cutor projector`` do around the role itself.

By itself, a role has a data directory with an instance name and a lock of its own. Under ``cutor up`` it belongs to the stack's
instance, holds the stack's lock through an inherited descriptor, starts containers of the stack's images, ends when the
supervisor dies, and says when it is ready.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from cutor import logs
from cutor.bond import HURRY, end_with_parent
from cutor.config import Config
from cutor.containers.connecting import connected
from cutor.errors import DONE, REFUSED, CutorError
from cutor.process.context import RoleContext
from cutor.process.exposing import exposing
from cutor.process.measures import Measures
from cutor.stack.data import DataDirectory, DataDirectoryUnusable
from cutor.stack.images import pinned
from cutor.stack.leftovers import remove_leftovers
from cutor.stack.lock import Lock
from cutor.stack.process import announce_ready
from cutor.stack.stop_times import HURRIED, StopTimes
from cutor.stack.sweep import CONTAINER_ROLES

log = logging.getLogger("cutor")

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)

Role = Callable[[RoleContext], Awaitable[None]]


class BadWorkerName(CutorError):
    """The name of a worker has characters that it may not have."""

    exit_code = REFUSED


@dataclass(frozen=True)
class Supervision:
    """What a supervisor gives its role processes: its pid, and the descriptors of readiness pipe and lock (`Lock`)."""

    parent_pid: int
    ready_descriptor: int
    lock_descriptors: tuple[int, ...]


@dataclass(frozen=True)
class RoleSettings:
    """One role process: its name in messages, where it works, for which server.

    ``name`` is what `worker_name` begins with; null: the role's.
    """

    role: str
    server: str
    data: Path
    config: Config
    name: str | None = None
    supervision: Supervision | None = None


def worker_name(name: str, instance: str) -> str:
    """Return the name of a role process in leases, unique among those of its role: one instance runs one of each at a time.

    What a role concludes from its own name in the log (this lease is my former life's) rests on that.
    """
    return f"{name}-{instance}"


def run_role(settings: RoleSettings, role: Role) -> int:
    """Run a role until it is told to stop (`Stop`). Returns the exit code.

    What it writes is its user's alone, wherever the configuration puts it.

    Raises what the role raises, `PieceMissing`, `AlreadyRunning` and `DataDirectoryUnusable`.
    """
    if settings.supervision is not None:
        _join(settings.supervision, settings.data)
    if settings.name is not None and not NAME.fullmatch(settings.name):
        raise BadWorkerName(f"worker {settings.name!r}: it must be 1 to 64 characters of A-Z, a-z, 0-9, '_', '.' and '-'")
    process = {"role": settings.role}
    logs.set_up(settings.config.log.format, process)
    os.umask(0o077)
    data = DataDirectory(settings.data)
    data.prepare()
    lock = None if settings.supervision is not None else Lock.take(data.lock)
    orderly = False
    try:
        if lock is not None and (removed := remove_leftovers(data)):
            log.warning("removed drafts that a former life left behind: %s", ", ".join(removed))
        config = settings.config if settings.supervision is None else pinned(settings.config, data)
        instance = data.make_instance(log.warning)
        process |= {"worker": worker_name(settings.name or settings.role, instance), "instance": instance}
        uvloop.run(_serve(settings, role, instance, _with_database(config, settings.data)))
        orderly = True
    finally:
        if lock is not None:
            lock.release(orderly=orderly)
    return DONE


def _join(supervision: Supervision, data: Path) -> None:
    """Become part of a stack. Processes that this one starts inherit neither pipe nor lock.

    Raises `DataDirectoryUnusable` where another directory is in the place of the one that the stack has locked.
    """
    end_with_parent(supervision.parent_pid)
    os.set_inheritable(supervision.ready_descriptor, False)
    for descriptor in supervision.lock_descriptors:
        os.set_inheritable(descriptor, False)
    locked = (data, DataDirectory(data).lock)  # the file alone by a stack that runs since before the directory was locked, too
    if not any(_is_open(descriptor, path) for descriptor in supervision.lock_descriptors for path in locked):
        raise DataDirectoryUnusable(f"{data} is not the directory any more that its stack has locked: stop that stack")


def _is_open(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


async def _serve(settings: RoleSettings, role: Role, instance: str, config: Config) -> None:
    """Run the role. Told to stop before it serves, it has nothing to finish and is ended where it is."""
    stop = Stop(StopTimes(config.shutdown_grace_s))
    stop.listen()
    measures = Measures()
    context = RoleContext(
        server=settings.server,
        instance=instance,
        worker=worker_name(settings.name or settings.role, instance),
        config=config,
        ready=_ready(settings, stop, measures),
        stop=stop.stop,
        hurry=stop.hurry,
        data=settings.data,
        measures=measures,
    )
    work = asyncio.ensure_future(_work(settings, role, context))
    told = asyncio.create_task(stop.stop.wait(), name="told to stop")
    try:
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.serves:
            work.cancel()
        await asyncio.wait({work})
    finally:
        told.cancel()
    if not work.cancelled():
        work.result()


async def _work(settings: RoleSettings, role: Role, context: RoleContext) -> None:
    """Run the role, with its metrics to be read from the first moment on."""
    async with exposing(context, settings.role, settings.data):
        await (role(context) if settings.supervision is not None else _by_itself(settings, role, context))


async def _by_itself(settings: RoleSettings, role: Role, context: RoleContext) -> None:
    """Run a role that no supervisor has prepared the store for."""
    if settings.role in CONTAINER_ROLES:
        from cutor.stack.preflight import check_cache, prepare_store  # noqa: PLC0415 - a projector needs no client of Docker

        async with connected(context.config.docker.host) as engine:
            for made in await prepare_store(engine, context.config.nix, context.instance, settings.data, [settings.role]):
                log.info(made)
            for warning in await check_cache(engine, context.config.nix, context.instance, settings.data, [settings.role]):
                log.warning(warning)
    await role(context)


class Stop:
    """The signals by which a role is told to stop, and the time that it takes then at the most.

    SIGTERM and Ctrl-C: what runs may finish within the grace. Once more: it is stopped and handed back now; a third Ctrl-C ends
    the process as any other. SIGHUP (`cutor down`) stops it, however often it comes. `HURRY` is the second SIGTERM of a
    supervisor, or the kernel's when that one died. SIGQUIT ends it at once, without a memory dump that would hold the
    credential. A role that has not ended in its time is ended by the kernel (SIGALRM).
    """

    def __init__(self, times: StopTimes) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.serves = False
        self._times = times

    def listen(self) -> None:
        """Act on signals from now on."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._asked)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_signal_handler(signal.SIGHUP, self._stop)
        loop.add_signal_handler(HURRY, self._hurry)
        loop.add_signal_handler(signal.SIGQUIT, os._exit, 128 + signal.SIGQUIT)

    def _stop(self) -> None:
        if not self.stop.is_set():
            log.info("stopping")
            self.stop.set()
            signal.setitimer(signal.ITIMER_REAL, (self._times if self.serves else HURRIED).role_s)

    def _hurry(self) -> None:
        self._stop()
        if not self.hurry.is_set():
            log.info("stopping at once: what is in work is handed back")
            self.hurry.set()
            signal.setitimer(signal.ITIMER_REAL, HURRIED.role_s)

    def _asked(self) -> None:
        """Stop; where this signal came before, hurry."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._hurry)
        self._stop()

    def _interrupted(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupted_again)
        self._stop()

    def _interrupted_again(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._hurry()


def _ready(settings: RoleSettings, stop: Stop, measures: Measures) -> Callable[[], None]:
    def ready() -> None:
        stop.serves = measures.was_ready = True
        log.info("the %s is ready", settings.role)
        if measures.exposed_at:
            log.info("its metrics are at http://%s/metrics", measures.exposed_at)
        if settings.supervision is not None:
            announce_ready(settings.supervision.ready_descriptor)

    return ready


def _with_database(config: Config, data: Path) -> Config:
    """Return the configuration with the projector's database as an absolute path."""
    projector = msgspec.structs.replace(config.projector, database=str(data / config.projector.database))
    return msgspec.structs.replace(config, projector=projector)
