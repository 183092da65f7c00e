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
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from cutor.config import Config
from cutor.errors import DONE, REFUSED, CutorError
from cutor.roles.context import RoleContext
from cutor.stack.data import DataDirectory
from cutor.stack.images import pinned
from cutor.stack.lock import Lock
from cutor.stack.process import announce_ready, end_with_parent

STOP_TIMEOUT_S: Final = 20
"""A role that did not end so long after SIGTERM is ended by the kernel (SIGALRM): its work is delivered again elsewhere."""
WORKER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)

Role = Callable[[RoleContext], Awaitable[None]]


class BadWorkerName(CutorError):
    """The name of a worker has characters that it may not have."""

    exit_code = REFUSED


@dataclass(frozen=True)
class Supervision:
    """What a supervisor gives its role processes: its pid, and the descriptors of readiness pipe and lock."""

    parent_pid: int
    ready_descriptor: int
    lock_descriptor: int


@dataclass(frozen=True)
class RoleSettings:
    """One role process: its name in messages, where it works, for which server."""

    role: str
    server: str
    data: Path
    config: Config
    worker: str | None = None
    supervision: Supervision | None = None


def run_role(settings: RoleSettings, role: Role) -> int:
    """Run a role until SIGTERM or SIGINT; a second SIGINT ends the process at once. Returns the exit code.

    What it writes is its user's alone, wherever the configuration puts it.

    Raises what the role raises, `AlreadyRunning` and `DataDirectoryUnusable`.
    """
    if settings.supervision is not None:
        _join(settings.supervision)
    if settings.worker is not None and not WORKER.fullmatch(settings.worker):
        raise BadWorkerName(f"worker {settings.worker!r}: it must be 1 to 64 characters of A-Z, a-z, 0-9, '_', '.' and '-'")
    _log_to_stderr()
    os.umask(0o077)
    data = DataDirectory(settings.data)
    data.prepare()
    lock = None if settings.supervision is not None else Lock.take(data.lock)
    try:
        config = settings.config if settings.supervision is None else pinned(settings.config, data)
        uvloop.run(_serve(settings, role, data.make_instance(), _with_database(config, settings.data)))
    finally:
        if lock is not None:
            lock.release(orderly=True)
    return DONE


def _join(supervision: Supervision) -> None:
    """Become part of a stack. Processes that this one starts inherit neither pipe nor lock."""
    end_with_parent(supervision.parent_pid)
    os.set_inheritable(supervision.ready_descriptor, False)
    os.set_inheritable(supervision.lock_descriptor, False)


async def _serve(settings: RoleSettings, role: Role, instance: str, config: Config) -> None:
    stop = asyncio.Event()
    _listen_for_signals(stop)
    context = RoleContext(
        server=settings.server,
        instance=instance,
        worker=settings.worker or f"{settings.role}-{instance}",
        config=config,
        ready=_ready(settings),
        stop=stop,
    )
    await role(context)


def _listen_for_signals(stop: asyncio.Event) -> None:
    """Stop at SIGTERM, however often it comes (`cutor down`, and the kernel when the supervisor dies, may both send it), and at
    Ctrl-C, the second of which ends the process; so does SIGQUIT, without a memory dump that would hold the credential.
    """
    loop = asyncio.get_running_loop()

    def asked_to_stop() -> None:
        if not stop.is_set():
            stop.set()
            signal.alarm(STOP_TIMEOUT_S)

    def interrupted() -> None:
        asked_to_stop()
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    loop.add_signal_handler(signal.SIGTERM, asked_to_stop)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGQUIT, os._exit, 128 + signal.SIGQUIT)


def _ready(settings: RoleSettings) -> Callable[[], None]:
    def ready() -> None:
        logging.getLogger("cutor").info("the %s is ready", settings.role)
        if settings.supervision is not None:
            announce_ready(settings.supervision.ready_descriptor)

    return ready


def _with_database(config: Config, data: Path) -> Config:
    """Return the configuration with the projector's database as an absolute path."""
    projector = msgspec.structs.replace(config.projector, database=str(data / config.projector.database))
    return msgspec.structs.replace(config, projector=projector)


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
