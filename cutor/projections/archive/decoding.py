"""From segments into what a rebuild reads in place of their bodies. Whoever decodes holds the archive (`Archive.held`).

A segment is decoded once it is sealed, and again where the rules are others by then. However a decoder ends, the index names
whole files: the next one goes on with the segments that it does not name. What hinders one segment or stream hinders no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from cutor.projections.archive import rules
from cutor.projections.archive.decoded import RELATIONS, Decoded, DecodedPlace
from cutor.projections.archive.decoded_file import make
from cutor.projections.archive.errors import ArchiveError, ArchiveFull, CodeChanged
from cutor.projections.archive.manifest import Segment
from cutor.projections.archive.place import Archive
from cutor.projections.archive.verification import check_file
from cutor.undisturbed import to_the_end

ROW_BYTES: Final = 512
"""Most bytes that what is decoded of a message takes beside what its body says."""


class Progress(NamedTuple):
    """How many segments of a stream are decoded, of how many, and what ``hindered`` others: each error once."""

    stream: str
    decoded: int
    segments: int
    hindered: tuple[ArchiveError, ...] = ()


Tell = Callable[[Progress], None]
Go = Callable[[], bool]


async def decode(archive: Archive, stream: str, tell: Tell = lambda _: None, goes_on: Go = lambda: True) -> Progress:
    """Decode the segments of a stream that are not, the newest first, as long as ``goes_on`` says so; return how far that is.

    What is wrong with one segment is told in the end, and the others are decoded. Of those for which the disk has no room the
    first is told. Raises `ArchiveDamaged` for the manifest, `ArchiveUnusable` for the directory, `CodeChanged`.
    """
    manifest = archive.manifest(stream)
    if manifest is None or stream not in RELATIONS:
        return Progress(stream, 0, 0)
    rules.check()
    place = DecodedPlace(archive, stream)
    done = place.kept(manifest.segments)
    place.tidy(done)
    hindered: list[ArchiveError] = []
    for segment in reversed(manifest.segments):
        at = Progress(stream, len(done), len(manifest.segments))
        if segment.first in done:
            continue
        tell(at)
        if not goes_on():
            break
        try:
            done = await to_the_end(asyncio.to_thread(_decode_one, archive, stream, segment, done))
        except CodeChanged:
            raise
        except ArchiveFull as error:
            if not any(isinstance(one, ArchiveFull) for one in hindered):
                hindered.append(error)
        except ArchiveError as error:
            if str(error) not in map(str, hindered):
                hindered.append(error)
    return Progress(stream, len(done), len(manifest.segments), tuple(hindered))


async def decode_each(archive: Archive, tell: Tell = lambda _: None, goes_on: Go = lambda: True) -> list[Progress]:
    """Decode every stream that is folded, as `decode` does; what that raises of one is told with its progress."""
    found = []
    for stream in RELATIONS:
        try:
            found.append(await decode(archive, stream, tell, goes_on))
        except ArchiveError as error:
            found.append(Progress(stream, 0, 0, (error,)))
    return found


def _decode_one(archive: Archive, stream: str, segment: Segment, done: dict[int, Decoded]) -> dict[int, Decoded]:
    archive.check_room_for_decoding(segment, 2 * segment.body_bytes + ROW_BYTES * segment.messages)
    manifest = archive.manifest(stream)
    assert manifest is not None
    check_file(archive, manifest, segment)
    place = DecodedPlace(archive, stream)
    with place.drafts() as drafts:
        decoded = make(stream, archive.file_of(stream, segment), segment, drafts)
        return place.put_in_place(drafts, decoded, done)
