"""``cutor projections status``: how far the views have come, beside how long the streams are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import click

from cutor.bus.connection import Bus
from cutor.cli.env_list import since
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.cli.render import print_table
from cutor.errors import DONE
from cutor.model.units import about
from cutor.projections.status import StreamStatus, ViewsStatus, lateness, read_status
from cutor.text import escape

HEADINGS: Final = ("stream", "checkpoint", "end", "behind", "folded", "no events", "newest")
NOT_WHOLE: Final = 1
"""The exit code where the views are not whole: the command did its work, and the answer is no."""
NUMBERS: Final = ("checkpoint", "end", "behind", "folded", "no events")


@click.command("status", epilog=examples("cutor projections status", "cutor projections status --json"))
@json_option
@server_option
@click.pass_obj
def status_command(wanted: Wanted) -> int:
    """Show how far the views have come in each stream.

    The checkpoint is the last message that is folded in, the end is the stream's newest; behind is what the views lack. Of
    those folded in since the file was made, some may be no events: `cutor dead-letters list` has them. Where they do not begin
    with the first message, it says with which one they do. Exit code 1 where the views cannot go on, since what comes next is
    to be had neither from the stream nor from the archive. With --json one document.
    """
    status = asyncio.run(_read(wanted.find_server()))
    waits = [one.waits_for for one in status.streams if one.waits_for is not None]
    if wanted.json:
        print_json(_document(status))
        return NOT_WHOLE if waits else DONE
    now = datetime.now(UTC)
    print_table(HEADINGS, (_cells(one, now) for one in status.streams), right=NUMBERS, fold="newest")
    if status.file_bytes is not None:
        click.echo(f"the file of the views has {about(status.file_bytes)}")
    for one in status.streams:
        if one.begins is not None and one.begins > 1:
            click.echo(f"note: {lateness(one.stream, one.begins)}")
    for reason in waits:
        click.echo(f"the views are not whole: {escape(reason)}")
    return NOT_WHOLE if waits else DONE


async def _read(server: str) -> ViewsStatus:
    async with Bus.connect(server, name="cutor projections status") as bus:
        return await read_status(bus)


def _cells(one: StreamStatus, now: datetime) -> tuple[str, ...]:
    numbers = (one.checkpoint, one.last_sequence, one.behind, one.messages, one.undecodable)
    return (one.stream, *(f"{number:,}" for number in numbers), since(one.time, now))


def _document(status: ViewsStatus) -> dict[str, Any]:
    return {"streams": [one._asdict() for one in status.streams], "file_bytes": status.file_bytes}
