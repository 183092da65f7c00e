"""Room for the next segment: the sealed fold, and then what was decoded, give way to it: they can be made again."""

from __future__ import annotations

import logging

from cutor.projections.archive.decoded import RELATIONS, DecodedPlace
from cutor.projections.archive.errors import ArchiveFull
from cutor.projections.archive.place import RESERVE_BYTES, Archive
from cutor.projections.archive.sealed_fold import FoldPlace

log = logging.getLogger(__name__)


def make_room(archive: Archive, body_bytes: int) -> None:
    """See that a segment of so many bytes of bodies fits: remove the sealed fold, and all that was decoded where that is not
    enough.

    Raises `ArchiveFull` where it is not, and nothing was removed then; `ArchiveUnusable`.
    """
    try:
        archive.check_room(body_bytes)
    except ArchiveFull:
        fold, decoded = FoldPlace(archive), [DecodedPlace(archive, stream) for stream in RELATIONS]
        lacking = body_bytes + RESERVE_BYTES - archive.free_bytes() - fold.held_bytes()
        if lacking > sum(place.held_bytes() for place in decoded):
            raise
        if fold.held_bytes():
            fold.remove()
            log.warning(
                "%s: its disk is full: the sealed fold gave way to the next segment; rebuilds fold all, which is slower",
                archive.directory,
            )
        if lacking > 0:
            for place in decoded:
                place.remove()
            log.warning(
                "%s: its disk is full: what was decoded gave way to the next segment; rebuilds read bodies, which is slower",
                archive.directory,
            )
        archive.check_room(body_bytes)
