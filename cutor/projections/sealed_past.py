"""What a projector takes from the archive: what the stream has let go of, and what is long past when it begins anew."""

from __future__ import annotations

import logging

from cutor.bus.connection import Bus
from cutor.projections.archive.errors import ArchiveError
from cutor.projections.archive.folding import fold_sealed
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.errors import ViewsRejected
from cutor.projections.writer import Writer

log = logging.getLogger(__name__)


class SealedPast:
    """The archive beside a projector's file; without one it has nothing."""

    def __init__(self, bus: Bus, writer: Writer, archive: Archive | None) -> None:
        self._bus = bus
        self._writer = writer
        self._archive = archive

    def has(self, stream: str, first: int, last: int) -> bool:
        """Whether the manifest names all of a range."""
        try:
            manifest = self._archive.manifest(stream) if self._archive else None
        except ArchiveError as error:
            log.warning("%s", error)
            return False
        return manifest is not None and bool(manifest.segments) and manifest.first <= first and last <= manifest.last

    async def fold(self, stream: str) -> None:
        """Fold in what the archive has behind the views' position.

        Where it cannot be used, the stream alone has to do, and the log says so; raises `ViewsRejected` where it cannot.
        """
        if self._archive is None:
            return
        try:
            joined = await Joined.of(self._bus, stream, self._archive)
            if not joined.sealed and self._writer.position(stream).sequence < joined.first - 1:
                log.error(
                    "%s begins at %d, and nothing of it is in the archive %s: the views are made of the stream alone",
                    stream, joined.first, self._archive.directory,
                )  # fmt: skip
            await fold_sealed(self._writer, joined, 1, joined.last)
        except ArchiveError as error:
            log.error("the views are made of the stream alone: %s", error)
            await self._check_stream_reaches(stream)

    async def _check_stream_reaches(self, stream: str) -> None:
        position = self._writer.position(stream).sequence
        first = int((await self._bus.stream_info(stream))["state"]["first_seq"])
        if 0 < position < first - 1:
            raise ViewsRejected(
                f"{stream} begins at {first}, and the archive cannot be used: what came after {position} is gone"
            )
