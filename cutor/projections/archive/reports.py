"""How much is sealed, and how much is not."""

from __future__ import annotations

from typing import NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.projections.archive.manifest import VERSION, Manifest
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import STREAMS, check_no_gap, check_same_stream, state_of


class StreamReport(NamedTuple):
    """What is sealed of a stream, and how many messages it has behind that (None: no server was asked).

    ``oldest_ns`` is the time of the oldest of those; ``first_kept`` the first message that the stream still has.
    """

    manifest: Manifest
    unsealed: int | None = None
    oldest_ns: int | None = None
    first_kept: int | None = None


async def report(archive: Archive, bus: Bus | None) -> list[StreamReport]:
    """Return how much is sealed of every stream that is archived.

    Raises `ArchiveDamaged`, and with a bus `ArchiveForeign` and `MessagesMissing`.
    """
    found = [await _report_one(archive, stream, bus) for stream in STREAMS]
    return [one for one in found if one is not None]


async def _report_one(archive: Archive, stream: str, bus: Bus | None) -> StreamReport | None:
    manifest = archive.manifest(stream)
    if bus is None:
        return StreamReport(manifest) if manifest else None
    try:
        state = await state_of(bus, stream)
    except StreamMissing:
        return StreamReport(manifest) if manifest else None
    if manifest is None or not manifest.segments:
        manifest = Manifest(version=VERSION, stream=stream, created=state.created)
    else:
        await check_same_stream(bus, archive, manifest, state)
        check_no_gap(manifest, state)
    start = manifest.next if manifest.segments else state.first
    oldest = await bus.get(stream, start, consistent=True) if start <= state.last else None
    return StreamReport(manifest, state.last + 1 - start, oldest.time_ns if oldest else None, state.first)
