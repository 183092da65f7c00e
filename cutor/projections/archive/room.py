"""Room for the next segment: what was decoded, which can be made again, gives way to what is sealed, which cannot."""

from __future__ import annotations

import logging

from cutor.projections.archive.decoded import RELATIONS, DecodedPlace
from cutor.projections.archive.errors import ArchiveFull
from cutor.projections.archive.place import RESERVE_BYTES, Archive

log = logging.getLogger(__name__)


def make_room(archive: Archive, body_bytes: int) -> None:
    """See that a segment of so many bytes of bodies fits: remove all that was decoded where that is enough.

    Raises `ArchiveFull` where it is not, and nothing was removed then; `ArchiveUnusable`.
    """
    try:
        archive.check_room(body_bytes)
    except ArchiveFull:
        places = [DecodedPlace(archive, stream) for stream in RELATIONS]
        if archive.free_bytes() + sum(place.held_bytes() for place in places) < body_bytes + RESERVE_BYTES:
            raise
        for place in places:
            place.remove()
        log.warning(
            "%s: its disk is full: what was decoded was removed for the next segment; rebuilds read bodies, which is slower",
            archive.directory,
        )
        archive.check_room(body_bytes)
