"""The archive on this host, for whoever misses what a stream has let go of (`cutor.journal.past.Sealed`).

DuckDB is imported once there is one to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cutor.bus.connection import Bus
from cutor.bus.errors import BodyCorrupt
from cutor.journal.past import NO_ARCHIVE, first_kept
from cutor.model.subjects import EVENTS, Address

if TYPE_CHECKING:
    from cutor.projections.archive.joined import Joined
    from cutor.projections.archive.lives import Lives
    from cutor.projections.archive.place import Archive
    from cutor.projections.archive.sealed_bodies import SealedBodies


class Sealed:
    """What is sealed in a directory; without one, or where it is not on this host, nothing."""

    def __init__(self, directory: Path | str | None) -> None:
        self.directory = None if directory is None else Path(directory)
        self._bodies: SealedBodies | None = None
        self._turn = asyncio.Lock()

    @property
    def place(self) -> Archive | None:
        """The archive, None where there is none here."""
        if self.directory is None or not self.directory.is_dir():
            return None
        from cutor.projections.archive.place import Archive  # noqa: PLC0415 - it imports duckdb

        return Archive(self.directory)

    def lacks(self) -> str:
        """Return why what is wanted is not found here, and what to do, as the end of a sentence."""
        if self.directory is None:
            return NO_ARCHIVE
        if not self.directory.is_dir():
            return f"and the archive {self.directory} is not on this host: is it mounted? See [archive] directory"
        return f"and not in the archive {self.directory}: `cutor archive status` shows what is"

    async def past_of(self, bus: Bus, stream: str) -> Joined | None:
        """Return a stream with what is sealed of it, None where no archive is here. Raises what `Joined.of` raises."""
        place = self.place
        if place is None:
            return None
        from cutor.projections.archive.joined import Joined  # noqa: PLC0415 - as above

        return await Joined.of(bus, stream, place)

    async def lives_of(self, bus: Bus, addresses: Sequence[Address]) -> Lives | None:
        """Return what is sealed of these submissions, None where EVENTS has let go of nothing, or no archive is here.

        Raises what `Joined.of` raises.
        """
        if await first_kept(bus) <= 1 or (joined := await self.past_of(bus, EVENTS)) is None:
            return None
        from cutor.projections.archive.lives import Lives  # noqa: PLC0415 - as above

        return await Lives.among(joined, addresses)

    async def lacks_of(self, bus: Bus) -> str:
        """Return why a submission is not known, as the end of a sentence; empty where EVENTS has let go of nothing."""
        first = await first_kept(bus)
        return "" if first <= 1 else f": EVENTS begins at {first}, {self.lacks()}"

    async def chunks(self, subjects: Sequence[str]) -> Mapping[str, Sequence[bytes]]:
        """Return what is sealed under subjects of BODIES, the newest first; a subject that is not has no entry.

        Raises `BodyCorrupt` for what cannot be read, or is not what was sealed; it names the file.
        """
        place = self.place
        if place is None:
            return {}
        from cutor.projections.archive.errors import ArchiveError  # noqa: PLC0415 - as above
        from cutor.projections.archive.sealed_bodies import SealedBodies  # noqa: PLC0415 - as above

        self._bodies = self._bodies or SealedBodies(place)
        async with self._turn:
            try:
                return await asyncio.to_thread(self._bodies.chunks, subjects)
            except ArchiveError as error:
                raise BodyCorrupt(str(error)) from error
