"""``cutor projections snapshot``: the views as a DuckDB file on this machine."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.model.units import about
from cutor.projections.exports.client import Taken, check_path, fetch_snapshot
from cutor.text import escape

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

DEFAULT_NAME: Final = "cutor-views.duckdb"


@click.command(
    "snapshot",
    epilog=examples(
        "cutor projections snapshot",
        "cutor projections snapshot monday.duckdb && duckdb -readonly monday.duckdb",
        "cutor projections snapshot /srv/views/views.duckdb --json",
    ),
)
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_NAME, metavar="[FILE]")
@json_option
@server_option
@click.pass_obj
def snapshot_command(wanted: Wanted, file: Path) -> None:
    """Take the views away as a DuckDB file.

    Its name is cutor-views.duckdb, unless FILE says another one. It holds all that the projector had committed when it was
    asked: tables, views and the comments that describe them, for DuckDB 1.0 and newer. It comes over the connection to the
    server, from wherever the projector runs. FILE is put in place at once, whole, and is this user's alone; interrupted
    (Ctrl-C, SIGTERM), nothing is left. With --json one document.
    """
    check_path(file)
    server = wanted.find_server()
    with _Shown() as shown:
        taken = interruption.run(_fetch(server, file, shown), leaves=f"{escape(str(file))} was not written")
    if wanted.json:
        print_json(_document(taken, file))
        return
    come = ", ".join(f"{stream} {at.sequence:,}" for stream, at in taken.as_of.items())
    click.echo(f"{file}: {about(taken.size_bytes)}, up to {come}")
    for at in taken.as_of.values():
        if at.waits_for is not None:
            click.echo(f"note: the views are not whole: {escape(at.waits_for)}", err=True)


async def _fetch(server: str, file: Path, shown: _Shown) -> Taken:
    async with Bus.connect(server, name="cutor projections snapshot") as bus:
        return await fetch_snapshot(bus, file, tell=shown.tell)


def _document(taken: Taken, file: Path) -> dict[str, Any]:
    as_of = {stream: msgspec.structs.asdict(at) for stream, at in taken.as_of.items()}
    return {"file": str(file.absolute()), "size_bytes": taken.size_bytes, "as_of": as_of}


class _Shown:
    """A bar on stderr with how much has come; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        from rich.console import Console  # noqa: PLC0415 - a command that fails at once need not wait for it
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, come: int, of: int) -> None:
        """Show how much has come."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("", total=None)
        doing = "fetching" if of else "the projector makes the file"
        self._bar.update(self._task, description=doing, completed=come, total=of or None)
