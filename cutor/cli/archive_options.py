"""What the commands of ``cutor archive`` share: which archive is meant, and what is said in passing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cutor.cli.options import Wanted
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.archive.place import Archive

directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory of the archive (else `archive.directory`).",
)
offline_option = click.option("--offline", is_flag=True, help="Look at the archive alone; no server is asked.")


def archive_of(wanted: Wanted, directory: Path | None) -> Archive:
    """Return the archive that is meant. Raises `ArchiveUnnamed`."""
    from cutor.projections.archive.errors import ArchiveUnnamed  # noqa: PLC0415 - it imports duckdb
    from cutor.projections.archive.place import Archive  # noqa: PLC0415 - as above

    configured = wanted.loaded_of_stack.config.archive.directory
    if directory is None and configured is None:
        raise ArchiveUnnamed("no archive is configured: name its directory by --directory, or set [archive] directory")
    return Archive((directory or Path(str(configured))).absolute())


def warn(of: str | None) -> None:
    """Say on stderr what hinders nothing."""
    if of is not None:
        click.echo(f"cutor: warning: {escape(of)}", err=True)
