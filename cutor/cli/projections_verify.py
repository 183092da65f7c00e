"""``cutor projections verify``: are the views what the streams say?"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutor.bus.connection import Bus
from cutor.bus.service import NobodyServes
from cutor.cli import interruption
from cutor.cli.options import Wanted, data_option, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.cli.projections_rebuild import Shown, database_of, rate
from cutor.errors import DONE
from cutor.model.units import counted
from cutor.projections.errors import QueryUnavailable
from cutor.projections.exports.client import fetch_snapshot
from cutor.projections.status import lateness
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.rebuilds.compare import Difference
    from cutor.projections.rebuilds.verification import Verified

DIFFERENT = 1
"""The exit code where the views differ from what was folded anew: the command did its work, and the answer is no."""


@click.command(
    "verify",
    epilog=examples(
        "cutor projections verify", "cutor projections verify --json", "cutor projections verify --database monday.duckdb"
    ),
)
@click.option(
    "--database",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A file of views on this machine, such as `cutor projections snapshot` makes (else the projector's own).",
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where to fold, with room for the views twice (else the system's directory for temporary files).",
)
@data_option
@json_option
@server_option
@click.pass_obj
def verify_command(wanted: Wanted, database: Path | None, scratch: Path | None, data: Path | None) -> int:
    """Fold all views from scratch, and compare them with those in use.

    The projector goes on meanwhile: a copy of its views is compared, up to where that holds the streams. Where no projector
    runs, its file on this host is: that of --data, else of the stack that was started last. The first row that differs is
    named, with exit code 1; `cutor projections rebuild` mends it. Interrupted (Ctrl-C, SIGTERM), nothing is left. With --json
    one document.
    """
    server = wanted.find_server()
    with Shown("folding") as shown:
        verified = interruption.run(_verify(wanted, server, database, scratch, data, shown))
    difference = verified.comparison.difference
    if wanted.json:
        print_json(_document(verified))
    elif difference is not None:
        click.echo(f"the views differ from the streams: {_told(difference)}; {_what_mends(verified, database)}")
    else:
        rows, tables = sum(verified.comparison.rows.values()), len(verified.comparison.rows)
        folded = rate(verified.messages, verified.body_bytes, verified.folded_s)
        click.echo(
            f"the views are what the streams say: {counted(rows, 'row')} of {counted(tables, 'table')} are equal; "
            f"folded {folded}"
        )
    if not wanted.json:
        for stream, first in verified.begins.items():
            click.echo(f"note: folded anew, {lateness(stream, first)}")
    return DONE if difference is None else DIFFERENT


async def _verify(
    wanted: Wanted, server: str, database: Path | None, scratch: Path | None, data: Path | None, shown: Shown
) -> Verified:
    from cutor.projections.archive.place import Archive  # noqa: PLC0415 - as below
    from cutor.projections.rebuilds.verification import copy_of_resting, verify  # noqa: PLC0415 - DuckDB takes long to import

    directory = wanted.loaded_of_stack.config.archive.directory
    archive = Archive(Path(directory)) if directory else None
    with tempfile.TemporaryDirectory(prefix="cutor-verify-", dir=scratch) as made:
        async with Bus.connect(server, name="cutor projections verify") as bus:
            used = database
            if used is None:
                used = Path(made) / "used.duckdb"
                try:
                    await fetch_snapshot(bus, used, tell=shown.fetched)
                except QueryUnavailable as error:
                    if not isinstance(error.__cause__, NobodyServes):
                        raise
                    used = await asyncio.to_thread(copy_of_resting, database_of(wanted, data), Path(made))
            return await verify(bus, used, Path(made), tell=shown.tell, tell_compared=shown.compared, archive=archive)


def _what_mends(verified: Verified, database: Path | None) -> str:
    """Return what to do about a difference; views that know more than could be folded are not to be made anew."""
    if verified.begins:
        return "it may be what came before: name the archive that has it by [archive] directory, and verify again"
    return f"do not trust {escape(str(database))}" if database else "`cutor projections rebuild` makes them anew"


def _told(difference: Difference) -> str:
    """Return a difference in one line."""
    table = difference.table.removeprefix("main.")
    where = ", ".join(f"{column} {value if value is not None else 'null'}" for column, value in difference.row.items())
    at = f"{table} ({where})" if where else table
    used, folded = ("null" if value is None else escape(value) for value in (difference.used, difference.folded))
    if difference.column is None:
        return f"{escape(at)}: there are {used} such rows, by the streams {folded}"
    return f"{escape(at)} has {difference.column} = {used}, by the streams {folded}"


def _document(verified: Verified) -> dict[str, Any]:
    difference = verified.comparison.difference
    return {
        "equal": difference is None,
        "difference": None if difference is None else difference._asdict(),
        "positions": verified.positions,
        "messages": verified.messages,
        "body_bytes": verified.body_bytes,
        "folded_ms": round(verified.folded_s * 1000),
        "rows": verified.comparison.rows,
        "begins": verified.begins,
    }
