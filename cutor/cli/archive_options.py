"""What the commands of ``cutor archive`` share: which archive is meant, and what is said in passing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutor.cli.options import Wanted
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.archive.place import Archive


class _Directory(click.Path):
    """A path, of which an empty one is none: a variable that is not set is not the current directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty name is no directory", param, ctx)
        return super().convert(value, param, ctx)


directory_option = click.option(
    "--directory",
    type=_Directory(path_type=Path),
    metavar="DIR",
    help="Directory of the archive (else `archive.directory`).",
)
offline_option = click.option("--offline", is_flag=True, help="Look at the archive alone; no server is asked.")


def archive_of(wanted: Wanted, directory: Path | None, *, is_there: bool = False) -> Archive:
    """Return the archive that is meant. Raises `ArchiveUnnamed`; `ArchiveUnusable` where its directory must be there."""
    from cutor.projections.archive.errors import ArchiveUnnamed, ArchiveUnusable  # noqa: PLC0415 - it imports duckdb
    from cutor.projections.archive.place import Archive  # noqa: PLC0415 - as above

    loaded = wanted.loaded_of_stack
    configured = loaded.config.archive.directory
    if directory is None and configured is None:
        where = "as there is no configuration file" if loaded.file is None else f"in {escape(str(loaded.file))}"
        remedy = "name its directory by --directory, or set [archive] directory"
        raise ArchiveUnnamed(f"no archive is configured, {where}: {remedy}")
    archive = Archive((directory or Path(str(configured))).absolute())
    if is_there and not archive.directory.is_dir():
        raise ArchiveUnusable(f"{archive.directory}: there is no such directory, and so no archive: is its disk mounted?")
    return archive


def warn(of: str | None) -> None:
    """Say on stderr what hinders nothing."""
    if of is not None:
        click.echo(f"cutor: warning: {escape(of)}", err=True)
