"""Stopping a stack from the outside, and removing what one left behind that was killed."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cutor.containers.connecting import connected
from cutor.errors import REFUSED, CutorError, WaitedTooLong
from cutor.stack import current
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.leftovers import remove_leftovers
from cutor.stack.lock import (
    POLL_S,
    Holder,
    Lock,
    described_holder,
    is_free,
    named_holder,
    opened_holder,
    read_holder,
    send,
    wait_ended,
    wait_free,
)
from cutor.stack.sweep import remove_containers

SERVER_LOCK: Final = "nats-server.lock"
"""The embedded server's own lock, beneath its directory (`cutor.bus.embedded`)."""


UNSEEN_S: Final = 1.0
"""Whoever looks whether a lock is free holds it for a moment."""


class NoSuchStack(CutorError):
    """There was never a stack in this data directory."""

    exit_code = REFUSED


class HolderUnseen(CutorError):
    """Somebody holds the lock of a data directory, and neither the lock nor the kernel says who has taken it."""


@dataclass(frozen=True)
class Stopped:
    """What `stop_stack` found and did.

    ``was_running``: a supervisor obeyed; ``was_dead``: one had been killed before. ``new_life``: another stack has begun there
    meanwhile, and was left alone. ``is_copy``: nothing was looked for, as the name there is another directory's (`place`).
    """

    was_running: bool
    was_dead: bool
    containers_removed: int = 0
    new_life: bool = False
    is_copy: bool = False


def stop_stack(
    data: DataDirectory,
    current_file: Path,
    docker_host: str | None,
    timeout_s: float,
    *,
    now: bool = False,
) -> Stopped:
    """Stop the stack of a data directory and wait until every process of it is gone, the supervisor too.

    To ask again changes nothing; ``now`` does not wait for what runs. A stack whose supervisor was killed has its containers
    and its current-stack file removed, unless a new life has begun there: that one cleans up by itself.

    What the directory says decides whom to signal and what to remove: one that is not this user's alone is refused.

    Raises `NoSuchStack`, `DataDirectoryUnusable`, `WaitedTooLong`, `HolderUnseen` and the errors of containers.
    """
    data.check()
    if not data.exists():
        raise NoSuchStack(f"{data.path} is not the data directory of a stack: name the one of `cutor up --data`")
    if data.is_copy() and is_free(data.lock):  # the name in its lock is that of the stack which it is a copy of
        return Stopped(was_running=False, was_dead=False, is_copy=True)
    was_running = _end(data, signal.SIGQUIT if now else signal.SIGHUP, timeout_s)
    dead = read_holder(data.lock)
    if dead is None:  # the supervisor ended in an orderly way, or never was
        return Stopped(was_running=was_running, was_dead=False)
    lock = Lock.take_over(data.lock, dead)
    if lock is None:
        return Stopped(was_running=was_running, was_dead=not was_running, new_life=True)
    return Stopped(was_running=was_running, was_dead=True, containers_removed=_clean_up(lock, data, current_file, docker_host))


def _end(data: DataDirectory, number: signal.Signals, timeout_s: float) -> bool:
    """Signal the supervisor and wait for the end of all. Returns whether it lived. Raises `WaitedTooLong`, `HolderUnseen`."""
    deadline = time.monotonic() + timeout_s
    last = _named(data)
    with opened_holder(data.lock) as holder:
        if holder is None and last is None and not wait_free(data.lock, UNSEEN_S):
            raise HolderUnseen(
                f"{data.path} is in use by a process {described_holder(data.lock)}, and nothing says that it is a stack: "
                "it is not stopped, end it yourself"
            )
        was_running = holder is not None and not is_free(data.lock) and send(holder, number)
        ended = holder is None or wait_ended(holder, timeout_s)
    ended = ended and _wait_over(data, last, deadline)
    if not ended:
        who = f"a process {described_holder(data.lock)}" if not is_free(data.lock) else "its nats-server"
        raise WaitedTooLong(
            f"the stack of {data.path} has not ended within {timeout_s:g} s ({who}): see {data.logs}, wait on with "
            f"`{command_for('down', data.path)}`, or end it with `{command_for('down --now', data.path)}`"
        )
    return was_running


def _named(data: DataDirectory) -> Holder | None:
    """Return who says to have the lock; where nobody does, a stack may just be beginning, which has a moment to say so."""
    deadline = time.monotonic() + UNSEEN_S
    while (holder := named_holder(data.lock)) is None and time.monotonic() < deadline:
        with opened_holder(data.lock) as found:
            if found is not None or is_free(data.lock):
                break
        time.sleep(POLL_S)
    return holder


def _wait_over(data: DataDirectory, last: Holder | None, deadline: float) -> bool:
    """Wait for the role processes of a supervisor that was killed, and for its server; False when the time ran out.

    Once another process has the lock, these are gone: who holds it then belongs to a new life, which is not waited for.
    """
    while not is_free(data.lock):
        if last is not None and read_holder(data.lock) not in {None, last}:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return wait_free(data.server / SERVER_LOCK, deadline - time.monotonic())


def _clean_up(lock: Lock, data: DataDirectory, current_file: Path, docker_host: str | None) -> int:
    """Remove what a killed supervisor left behind, and give its lock back; return how many containers."""
    removed, done = 0, False
    try:
        remove_leftovers(data)
        if (instance := data.instance()) is not None:
            removed = asyncio.run(_remove_containers(instance, data.path, docker_host))
            current.remove(current_file, instance)
        done = True
    finally:
        lock.release(orderly=done)
    return removed


async def _remove_containers(instance: str, data: Path, docker_host: str | None) -> int:
    async with connected(docker_host) as engine:
        return await remove_containers(engine, instance, data)
