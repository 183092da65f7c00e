"""``cutor projections rebuild``: the views anew from the streams, while the old ones go on answering."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import click

from cutor.bus.connection import Bus
from cutor.bus.service import NobodyServes
from cutor.cli import interruption
from cutor.cli.options import Wanted, data_option, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.errors import CutorError
from cutor.model.units import about, counted
from cutor.projections.rebuilds.client import order_rebuild
from cutor.projections.status import lateness

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

MIB: Final = 1 << 20
"""Bytes of a MiB."""


class HowFar(Protocol):
    """How far a rebuild is, as a projector reports it or this process does it itself."""

    @property
    def stream(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def body_bytes(self) -> int: ...


class Done(Protocol):
    """What a rebuild came to; likewise."""

    @property
    def positions(self) -> dict[str, int]: ...
    @property
    def messages(self) -> int: ...
    @property
    def body_bytes(self) -> int: ...
    @property
    def took_s(self) -> float: ...
    @property
    def begins(self) -> dict[str, int]: ...
    @property
    def from_fold(self) -> dict[str, tuple[int, int]]: ...


class NoFileHere(CutorError):
    """No projector answers, and no file of views is where one would be."""


@click.command(
    "rebuild",
    epilog=examples("cutor projections rebuild", "cutor projections rebuild --from-events --data /srv/projector --json"),
)
@data_option
@click.option("--from-events", is_flag=True, help="Fold every event, also what the archive has a sealed fold of.")
@json_option
@server_option
@click.pass_obj
def rebuild_command(wanted: Wanted, data: Path | None, from_events: bool) -> None:
    """Make the views anew from the streams.

    The projector makes a new file beside its own, which goes on answering, and puts it in its place once that has everything.
    Where no projector runs, its file on this host is made anew: that of --data, else of the stack that was started last.
    Where `[archive] directory` is set, and has a sealed fold by the rules of this cutor (`cutor archive fold`), the views begin
    with a copy of that, compared with its SHA-256, and it is said how far it goes; --from-events believes none.
    Where a stream has let go of its beginning and no archive has it, the new views begin later: that is said. Interrupted
    (Ctrl-C, SIGTERM), the old file stays as it is, and nothing is left beside it. With --json one document.
    """
    server = wanted.find_server()
    with Shown("rebuilding") as shown:
        done = interruption.run(
            _rebuild(wanted, server, data, shown.tell, from_events=from_events), leaves="the old views stay as they are"
        )
    if wanted.json:
        print_json(_document(done))
    else:
        folded_s = None if done.from_fold else done.took_s
        click.echo(f"the views were made anew: {rate(done.messages, done.body_bytes, folded_s)}, in {done.took_s:.1f} s")
        if done.from_fold:
            ranges = (f"{stream} {first:,} to {last:,}" for stream, (first, last) in done.from_fold.items())
            click.echo(f"they began with the sealed fold of {' and '.join(ranges)}")
        for stream, first in done.begins.items():
            click.echo(f"note: {lateness(stream, first)}")


async def _rebuild(
    wanted: Wanted, server: str, data: Path | None, tell: Callable[[HowFar], None], *, from_events: bool
) -> Done:
    async with Bus.connect(server, name="cutor projections rebuild") as bus:
        try:
            return await order_rebuild(bus, tell, from_events=from_events)
        except NobodyServes:
            database = database_of(wanted, data)
        from cutor.projections.archive.place import Archive  # noqa: PLC0415 - as below
        from cutor.projections.rebuilds.rebuild import rebuild_in_place  # noqa: PLC0415 - DuckDB takes as long as a whole command

        directory = wanted.loaded_of_stack.config.archive.directory
        archive = Archive(Path(directory)) if directory else None
        return await rebuild_in_place(bus, database, tell=tell, archive=archive, from_events=from_events)


def database_of(wanted: Wanted, data: Path | None) -> Path:
    """Return the file of the projector that does not run. Raises `NoFileHere` where nothing says that it is on this host."""
    stack = wanted.own_stack
    config = wanted.loaded_of_stack.config
    if data is None:
        data = Path(stack.data) if stack else wanted.surroundings.data_directory(config) / "roles" / "projector"
    database = data.absolute() / config.projector.database
    if not database.parent.is_dir():
        raise NoFileHere(
            f"no projector answers, and {database.parent} is not there: start one (`cutor up`, `cutor projector`), or name its "
            "directory with --data"
        )
    return database


def rate(messages: int, body_bytes: int, took_s: float | None) -> str:
    """Return what is in the views, and how fast it was folded; None: not all of it was."""
    per_s = f" ({messages / took_s:,.0f}/s, {about(round(body_bytes / took_s))}/s)" if took_s else ""
    return f"{counted(messages, 'event')}, {about(body_bytes)}{per_s}"


def _document(done: Done) -> dict[str, Any]:
    return {
        "positions": done.positions,
        "messages": done.messages,
        "body_bytes": done.body_bytes,
        "took_ms": round(done.took_s * 1000),
        "begins": done.begins,
        "from_fold": done.from_fold,
    }


class Shown:
    """A bar on stderr with how far a rebuild is, or other folding, and how fast; nothing where stderr is no terminal.

    It moves from the beginning on: until the first batch is committed nothing can be counted.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._began: float | None = None

    def __enter__(self) -> Self:
        from rich.console import Console  # noqa: PLC0415 - a command that fails at once need not wait for it
        from rich.progress import (  # noqa: PLC0415 - likewise
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        if console.is_terminal:
            what = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
            how_far = (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
            self._bar = Progress(*what, *how_far, console=console, transient=True)
            self._task = self._bar.add_task(self._doing, total=None, rate="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, now: HowFar) -> None:
        """Show how far it is."""
        if not now.stream:
            return
        at = time.monotonic()
        self._began = self._began or at
        took_s = max(at - self._began, 0.001)
        speed = f"{now.messages / took_s:,.0f}/s {about(round(now.body_bytes / took_s))}/s" if now.messages else ""
        self._show(f"{self._doing} {now.stream}", now.sequence, now.last, speed)

    def fetched(self, come: int, of: int) -> None:
        """Show how much has come of a file that is fetched first, in bytes; of 0 while it is made."""
        self._show(f"fetching the views, {about(of)}" if of else "the projector copies its views", come // MIB, of // MIB)

    def compared(self, table: str, rows: int, of: int) -> None:
        """Show how far a comparison of what was folded is."""
        self._show(f"comparing {table}", rows, of)

    def _show(self, what: str, done: int, of: int, rate: str = "") -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=of or None, rate=rate)
