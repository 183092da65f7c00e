"""``cutor streams backup``, ``restore``, ``redeliver``: the streams in a directory and back; what a power failure leaves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import click

from cutor.bus.backup import HELD_IN_PART
from cutor.bus.backup_manifest import Manifest
from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import StatusLine, print_json
from cutor.errors import INTERRUPTED, CutorError
from cutor.journal import backup
from cutor.journal.redelivery import Redelivered, describe, redeliver
from cutor.model.units import about, counted


class RestoreInterrupted(CutorError):
    """A restore was interrupted within its work."""

    exit_code = INTERRUPTED


_directory_argument = click.argument("directory", type=click.Path(path_type=Path))


@click.command("backup", epilog=examples("cutor streams backup /srv/backups/today"))
@_directory_argument
@json_option
@server_option
@click.pass_obj
def backup_command(wanted: Wanted, directory: Path) -> None:
    """Copy all streams into DIRECTORY while everything goes on.

    DIRECTORY must be empty or not there yet. Whatever an event in the backup refers to is in it, too. Files are for their owner
    alone: they hold what users submitted. A backup that fails or is interrupted (Ctrl-C, SIGTERM) removes what it wrote.
    """
    server = wanted.find_server()
    started = time.monotonic()
    with StatusLine() as line:
        manifest = interruption.run(_back_up(server, directory, _Progress(line, "backing up")))
    _print(wanted, directory, manifest, time.monotonic() - started)
    if not wanted.json:
        click.echo(f"`cutor up --data NEW --restore {directory}` makes a stack of it, `cutor streams restore` fills a server")


@click.command(
    "restore",
    epilog=examples(
        "cutor streams restore /srv/backups/today --server nats://…",
        "cutor streams restore /srv/backups/today --replicas 1   # that of a cluster, into a single server",
    ),
)
@_directory_argument
@click.option(
    "--replicas", type=click.IntRange(1, 5), metavar="N", help="Copies that the server keeps of each stream, if not as before."
)
@json_option
@server_option
@click.pass_obj
def restore_command(wanted: Wanted, directory: Path, replicas: int | None) -> None:
    """Make the streams of a backup in a server that has none.

    Each is checked before and compared afterwards. Nothing is written over or deleted: a server that holds streams is refused.
    One that fails or is interrupted on its way leaves a server that is marked: until it is emptied, or the same restore ends,
    roles and `cutor streams apply` refuse it.

    For a stack of this machine there is `cutor up --restore`, since `cutor up` makes streams when it starts. What the backup is
    of must not run any more: both would work on what was queued.
    """
    manifest = backup.read(directory)
    server = wanted.find_server()
    started = time.monotonic()
    with StatusLine() as line:
        _restore(server, directory, manifest, replicas, line)
    _print(wanted, directory, manifest, time.monotonic() - started)
    if not wanted.json:
        click.echo("restored and compared; `cutor streams plan` shows how streams and limits differ from the configuration")


@click.command("redeliver", epilog=examples("cutor streams redeliver"))
@json_option
@server_option
@click.pass_obj
def redeliver_command(wanted: Wanted) -> None:
    """Deliver again whatever somebody has yet to act on.

    For after a power failure: it may have taken events whose deliveries count as done, and nobody would act on them again.
    The stack of `cutor up` sees to it at its start; a server of your own needs this command. Reads the whole log. What is done
    is not done twice.

    What runs at this moment is taken away from its worker and begun anew, which costs it a lease: after `max_leases` it would
    be parked. So before the roles start is the best time.
    """
    server = wanted.find_server()
    with StatusLine() as line:
        found = asyncio.run(_redeliver(server, line))
    if wanted.json:
        print_json(found._asdict())
        return
    for said in describe(found):
        click.echo(said)


async def _redeliver(server: str, line: StatusLine) -> Redelivered:
    async with Bus.connect(server, name="cutor streams redeliver") as bus:
        return await redeliver(bus, lambda read_to, last: line.show(f"reading the log: {read_to:,} of {last:,}"))


async def _back_up(server: str, directory: Path, progress: _Progress) -> Manifest:
    async with Bus.connect(server, name="cutor streams backup") as bus:
        return await backup.make(bus, directory, progress)


OR_WHOLE: Final = "where all of it was through already, the same restore again takes the mark away and that is all"
"""An interruption may have met the last step, at which nothing is held in part any more."""


def _restore(server: str, directory: Path, manifest: Manifest, replicas: int | None, line: StatusLine) -> None:
    """Check and restore. Raises `RestoreInterrupted` where an interruption leaves part of a backup, and what both raise."""
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True

    async def work() -> None:
        await backup.verify(directory, manifest, _Progress(line, "checking"))
        async with Bus.connect(server, name="cutor streams restore") as bus:
            tell = _Progress(line, "restoring")
            await backup.restore(bus, directory, manifest, replicas=replicas, tell=tell, begin=begin)

    try:
        interruption.run(work())
    except KeyboardInterrupt:
        if begun:
            raise RestoreInterrupted(f"interrupted: {HELD_IN_PART}; {OR_WHOLE}") from None
        raise


class _Progress:
    """Shows which stream is being worked on, how far, and how fast."""

    def __init__(self, line: StatusLine, doing: str) -> None:
        self._line = line
        self._doing = doing
        self._stream = ""
        self._since = 0.0

    def __call__(self, stream: str, done_bytes: int, total_bytes: int | None) -> None:
        """Show the line anew."""
        if stream != self._stream:
            self._stream, self._since = stream, time.monotonic()
        took_s = time.monotonic() - self._since
        rate = f", {about(round(done_bytes / took_s))}/s" if took_s > 1 else ""
        of = "" if total_bytes is None else f" of {about(total_bytes)}"
        self._line.show(f"{self._doing} {stream}: {about(done_bytes)}{of}{rate}")


def _print(wanted: Wanted, directory: Path, manifest: Manifest, took_s: float) -> None:
    if wanted.json:
        print_json(_document(directory, manifest, took_s))
        return
    for one in manifest.streams:
        last = f", up to sequence {one.last_sequence}" if one.messages else ""
        click.echo(f"{one.name}: {counted(one.messages, 'message')}{last}, {about(one.size_bytes)}")
    total = sum(one.size_bytes for one in manifest.streams)
    click.echo(f"{directory}: {about(total)} in {took_s:.1f} s, taken at {manifest.made_at}")


def _document(directory: Path, manifest: Manifest, took_s: float) -> dict[str, Any]:
    """Return a backup as JSON: what the manifest says of each stream, without configurations."""
    fields = ("name", "file", "size_bytes", "sha256", "messages", "first_sequence", "last_sequence")
    return {
        "directory": str(directory),
        "made_at": manifest.made_at,
        "cutor_version": manifest.cutor_version,
        "server_version": manifest.server_version,
        "took_ms": round(took_s * 1000),
        "streams": [{field: getattr(one, field) for field in fields} for one in manifest.streams],
    }
