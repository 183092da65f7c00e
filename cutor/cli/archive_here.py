"""The archive that is configured, for commands that read streams again; DuckDB is imported where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cutor.bus.connection import Bus
from cutor.cli.options import Wanted

if TYPE_CHECKING:
    from cutor.projections.archive.joined import Joined
    from cutor.projections.archive.place import Archive


class ArchiveHere:
    """An archive on this host."""

    def __init__(self, place: Archive) -> None:
        self.place = place

    async def past_of(self, bus: Bus, stream: str) -> Joined:
        """Return a stream with what is sealed of it. Raises what `Joined.of` raises."""
        from cutor.projections.archive.joined import Joined  # noqa: PLC0415 - it imports duckdb

        return await Joined.of(bus, stream, self.place)


def archive_here(wanted: Wanted) -> ArchiveHere | None:
    """Return the configured archive; None where none is, or its directory is not on this host."""
    directory = wanted.loaded_of_stack.config.archive.directory
    if directory is None or not Path(directory).is_dir():
        return None
    from cutor.projections.archive.place import Archive  # noqa: PLC0415 - as above

    return ArchiveHere(Archive(Path(directory)))
