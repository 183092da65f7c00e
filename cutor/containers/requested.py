"""Containers and marks that Docker was asked to make and has not answered for: noted, so that a sweep waits for them.

Docker goes on making what it was asked for when its client has gone. Whoever sweeps right behind a process that was killed
meanwhile finds nothing in Docker's listing, or something that Docker lists and does not know yet (it answers 404), and the
container comes a moment later and stays. So ``<data>/in-hand/containers/<name>`` is written before Docker is asked and removed
with its answer (0.06 ms together); a sweep removes what is noted by its name, which it tries until Docker has made it.

A note is not synchronised to the disk: a power failure ends the engine, too. Without a data directory nothing is noted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from cutor import notes
from cutor.containers.labels import DATA_LABEL, ENVIRONMENT_LABEL, INSTANCE_LABEL

DIRECTORY: Final = "containers"
NAME: Final = re.compile(r"cutor-[A-Za-z0-9_.-]{1,120}", re.ASCII)
NOTE_BYTES: Final = 65_536
"""Longer than any note: labels name a data directory, a submission and the environments that a collection keeps."""
LATE_S: Final = 10.0
"""So long after Docker was asked for it, what has not come is not waited for any more: Docker makes a container in 0.1 s, in a
few where the machine is busy, and who was killed before its request was out has asked for none."""
POLL_S: Final = 0.05
"""A choice: short beside the making of a container."""
_BENEATH: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

log = logging.getLogger(__name__)


class Requested(NamedTuple):
    """What Docker was asked for: its name, its labels, and when that was (seconds since 1970)."""

    name: str
    labels: Mapping[str, str]
    asked_s: float

    @property
    def is_volume(self) -> bool:
        """Whether it is the mark of an environment, and no container."""
        return ENVIRONMENT_LABEL in self.labels


class Removes(Protocol):
    """What a sweep asks of the engine."""

    async def remove(self, container_id: str) -> bool:
        """Remove a container by its name; false where there is none."""
        ...

    async def remove_volume(self, name: str) -> bool:
        """Remove a volume; false where there is none."""
        ...


def note(name: str, labels: Mapping[str, str]) -> None:
    """Note that Docker is asked for something now. Where that cannot be written, it is asked all the same."""
    if DATA_LABEL not in labels:
        return
    try:
        directory = notes.opened(_place(Path(labels[DATA_LABEL])))
        try:
            descriptor = os.open(name, notes.WRITE, 0o600, dir_fd=directory)
            try:
                os.write(descriptor, json.dumps(dict(labels)).encode())
            finally:
                os.close(descriptor)
        finally:
            os.close(directory)
    except OSError as error:
        log.debug("%s cannot be noted: %s", name, error)


def forget(name: str, labels: Mapping[str, str]) -> None:
    """Remove a note: Docker has answered, or what it was asked for is removed."""
    if DATA_LABEL in labels:
        _forget(Path(labels[DATA_LABEL]), name)


def left(data: Path, instance: str) -> list[Requested]:
    """Return what processes of an instance, living or dead, have noted in its data directory; a copy's notes are another's."""
    with _directory(data) as directory:
        return [] if directory is None else [one for one in _read(directory) if one.labels.get(INSTANCE_LABEL) == instance]


async def remove_left(engine: Removes, data: Path, wanted: Iterable[Requested]) -> int:
    """Remove what dead processes have noted, waiting for what Docker has not made yet; return how many there were.

    What does not come within `LATE_S` of its request is forgotten. Raises `EngineFailure`.
    """
    return sum(await asyncio.gather(*(_removed(engine, data, one) for one in wanted)))


async def _removed(engine: Removes, data: Path, requested: Requested) -> bool:
    now = asyncio.get_running_loop().time
    until_s = now() + min(max(requested.asked_s + LATE_S - time.time(), 0.0), LATE_S)
    remove = engine.remove_volume if requested.is_volume else engine.remove
    while not (came := await remove(requested.name)):
        if now() >= until_s:
            break
        await asyncio.sleep(POLL_S)
    _forget(data, requested.name)
    return came


def _read(directory: int) -> Iterator[Requested]:
    for name in sorted(os.listdir(directory)):
        try:
            asked_s = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime
            labels = json.loads(notes.content(directory, name, NOTE_BYTES))
        except (OSError, ValueError):  # half written, or no note: the label of what it was about is left
            continue
        if NAME.fullmatch(name) and isinstance(labels, dict) and all(isinstance(value, str) for value in labels.values()):
            yield Requested(name, labels, asked_s)


def _forget(data: Path, name: str) -> None:
    with _directory(data) as directory, suppress(OSError):
        if directory is not None:
            os.unlink(name, dir_fd=directory)


@contextmanager
def _directory(data: Path) -> Iterator[int | None]:
    """Open the directory of notes, if there is one, without following links."""
    try:
        above = os.open(data / notes.DIRECTORY, _BENEATH)
        try:
            directory = os.open(DIRECTORY, _BENEATH, dir_fd=above)
        finally:
            os.close(above)
    except OSError:
        yield None
        return
    try:
        yield directory
    finally:
        os.close(directory)


def _place(data: Path) -> Path:
    return data / notes.DIRECTORY / DIRECTORY
