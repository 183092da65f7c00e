"""The views of a stack as a DuckDB file on this machine. Without DuckDB."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.bus.service import NobodyServes, NoReply, request
from cutor.projections.errors import QueryUnavailable, SnapshotFailed
from cutor.projections.exports.orders import PART_BYTES, SUBJECT, Begin, End, ExportReport, Look, Order, Part
from cutor.projections.queries.questions import AsOf
from cutor.projections.views_paths import beside

LOOK_S: Final = 0.1
"""Between two looks at whether the file is made."""
ANSWER_S: Final = 20.0
"""A piece comes from the disk of a machine that may be busy. A choice below `PATIENCE_S`, after which the file is given up."""
AT_ONCE: Final = 2
"""Pieces that are on their way at one time."""

Tell = Callable[[int, int], None]
"""Is told how many bytes have come, of how many; (0, 0) while the file is made."""


class Taken(NamedTuple):
    """A snapshot: up to where it holds each stream, and how large the file is."""

    as_of: dict[str, AsOf]
    size_bytes: int


async def fetch_snapshot(bus: Bus, path: Path, *, tell: Tell = lambda come, of: None) -> Taken:  # noqa: ARG005 - nobody looks
    """Have the projector make a DuckDB file of its views, and put it at a path, atomically, for this user alone.

    It holds all that was committed when this was called. A regular file that is there is replaced; nothing is left where this
    fails or is cancelled. Raises `SnapshotFailed` (the path cannot be written, or the file not be made), `QueryUnavailable` (no
    projector answers, or it has enough to do).
    """
    check_path(path)
    async with _ordered(bus) as report:
        ready = await _until_ready(bus, report, tell)
        with _draft_of(path) as descriptor:
            await _fetch(bus, ready, descriptor, tell)
    return Taken(ready.as_of, ready.size_bytes)


def check_path(path: Path) -> None:
    """Refuse a path at which no file can be put, or where one is that is not to be replaced. Raises `SnapshotFailed`."""
    if not path.absolute().parent.is_dir():
        raise SnapshotFailed(f"{path}: cannot be written: {path.absolute().parent} is no directory")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise SnapshotFailed(f"{path}: cannot be written: there is something that is no file")
    if beside(path, "lock").exists():
        raise SnapshotFailed(f"{path}: cannot be written: it is the file of a projector; name another one")


@asynccontextmanager
async def _ordered(bus: Bus) -> AsyncIterator[ExportReport]:
    """Have a file made, and give it up in the end."""
    report = await _ask(bus, Begin())
    if report.state == "busy":
        raise QueryUnavailable(f"the projector at {bus.address} makes enough snapshots already: ask again later")
    try:
        yield report
    finally:
        with contextlib.suppress(BusError, QueryUnavailable):
            await _ask(bus, End(id=report.id))


async def _until_ready(bus: Bus, report: ExportReport, tell: Tell) -> ExportReport:
    while report.state == "making":
        tell(0, 0)
        await asyncio.sleep(LOOK_S)
        report = await _ask(bus, Look(id=report.id))
    if report.state != "ready":
        raise SnapshotFailed(f"no snapshot: {report.error or 'the projector has forgotten it'}: ask again")
    return report


async def _fetch(bus: Bus, ready: ExportReport, descriptor: int, tell: Tell) -> None:
    """Write the file, some pieces at a time."""
    offsets = range(0, ready.size_bytes, PART_BYTES)
    come = 0
    for start in range(0, len(offsets), AT_ONCE):
        wanted = offsets[start : start + AT_ONCE]
        pieces = await asyncio.gather(*(_request(bus, Part(id=ready.id, offset=offset)) for offset in wanted))
        for offset, piece in zip(wanted, pieces, strict=True):
            if len(piece) != min(PART_BYTES, ready.size_bytes - offset):
                raise SnapshotFailed("no snapshot: the projector was started again meanwhile: ask again")
            os.pwrite(descriptor, piece, offset)
            come += len(piece)
        tell(come, ready.size_bytes)
    await asyncio.to_thread(os.fsync, descriptor)


@contextmanager
def _draft_of(path: Path) -> Iterator[int]:
    """Give a descriptor of a file that gets its name when all is well. Raises `SnapshotFailed`."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(draft, flags, 0o600)
        try:
            yield descriptor
            draft.rename(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SnapshotFailed(f"{path}: cannot be written: {error.strerror}") from error


async def _ask(bus: Bus, order: Order) -> ExportReport:
    return msgspec.json.decode(await _request(bus, order), type=ExportReport)


async def _request(bus: Bus, order: Order) -> bytes:
    try:
        return await request(bus, SUBJECT, msgspec.json.encode(order), timeout_s=ANSWER_S)
    except NobodyServes as error:
        raise QueryUnavailable(f"no projector gives snapshots at {bus.address}: is one running (`cutor up`)?") from error
    except NoReply as error:
        raise QueryUnavailable(f"the projector at {bus.address} did not answer in {ANSWER_S:g} s") from error
