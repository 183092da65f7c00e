"""``cutor archive fold``: seal a fold of what is sealed; and what other commands say of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutor.cli import interruption
from cutor.cli.archive_options import archive_of, directory_option
from cutor.cli.options import Wanted, examples, json_option
from cutor.cli.output import StatusLine, print_json
from cutor.model.units import about, counted
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.archive.fold_sealing import Progress
    from cutor.projections.archive.place import Archive
    from cutor.projections.archive.sealed_fold import Looked, SealedFold


@click.command("fold", epilog=examples("cutor archive fold", "cutor archive fold --directory /srv/archive --json"))
@directory_option
@json_option
@click.pass_obj
def fold_command(wanted: Wanted, directory: Path | None) -> None:
    """Fold what is sealed, for rebuilds to begin with.

    The fold of all sealed messages of EVENTS and ENVIRONMENTS is written beside them, by the rules of this cutor; where there
    is one that these rules made, it is brought on. The archiver and `cutor archive seal` do this by themselves, where more than
    a twentieth is sealed behind it: this is for an archive that is to be ready at once. What is there is compared with its
    SHA-256 first, and made anew where it is not what was sealed. It stays until another one is in its place; only one that
    cannot be gone by is removed where there is no room for both. The directory `fold` can be removed at any time. No server is
    asked.
    """
    archive = archive_of(wanted, directory, is_there=True)
    with StatusLine() as line:
        found = interruption.run(_seal(archive, line), leaves="what is there is whole: the fold that was there, or the new one")
    if wanted.json:
        print_json({"directory": str(archive.directory), "fold": None if found.fold is None else document(found.fold)})
    elif found.fold is None:
        click.echo("nothing is sealed, and so there is nothing to fold")
    else:
        click.echo(f"folded are {text(found.fold)}")


async def _seal(archive: Archive, line: StatusLine) -> Progress:
    from cutor.projections.archive.fold_sealing import seal_fold  # noqa: PLC0415 - it imports duckdb

    with archive.held():
        return await seal_fold(archive, lambda at: tell(line, at))


async def bring_on(archive: Archive, line: StatusLine) -> None:
    """Bring the fold on where much is sealed behind it, for who holds the archive. Raises the archive's errors."""
    from cutor.projections.archive.fold_sealing import seal_fold, standing, tidy_up  # noqa: PLC0415 - as above

    if standing(archive).is_due:
        await seal_fold(archive, lambda at: tell(line, at))
    else:
        tidy_up(archive)


def look(archive: Archive) -> Looked:
    """Look at the fold that is there. Raises the archive's errors."""
    from cutor.projections.archive.fold_sealing import manifests_of  # noqa: PLC0415 - as above
    from cutor.projections.archive.sealed_fold import FoldPlace  # noqa: PLC0415 - as above

    return FoldPlace(archive).look(manifests_of(archive))


def found_text(looked: Looked) -> str:
    """Return what was found, for people."""
    if looked.fold is not None:
        return text(looked.fold)
    why = looked.fault or looked.outdated
    return f"not used: {escape(why)}" if why else "none; rebuilds fold every event"


def tell(line: StatusLine, at: Progress) -> None:
    """Show how far a fold is."""
    line.show(f"folding: {at.messages:,} of {counted(at.sealed, 'message')}")


def text(fold: SealedFold) -> str:
    """Return what a fold holds, for people."""
    return f"{fold.named()}, {counted(fold.messages, 'message')}, in {about(fold.file_bytes)}"


def document(fold: SealedFold) -> dict[str, Any]:
    """Return the same as JSON."""
    return {
        "streams": {
            stream: {"first": part.first, "last": part.last, "messages": part.messages}
            for stream, part in fold.streams.items()
            if part.last
        },
        "messages": fold.messages,
        "file_bytes": fold.file_bytes,
        "sha256": fold.sha256,
    }
