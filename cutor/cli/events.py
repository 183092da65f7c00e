"""``cutor events``: the log itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.cli.options import Wanted, examples, json_option, server_option, tenant_option
from cutor.cli.output import print_json
from cutor.cli.render import print_table
from cutor.errors import INTERRUPTED
from cutor.journal import WATCH_PATIENCE_S, Journal, SubmissionUnknown
from cutor.model.messages import read_message
from cutor.model.request import UNREADABLE
from cutor.model.result import rfc3339
from cutor.model.subjects import EVENTS, check_address, parse_event_subject
from cutor.progress import summarize
from cutor.text import escape

DEFAULT_LAST: Final = 20


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the stream. ``event`` is its body as it stands there; null where that is no JSON."""

    sequence: int
    time: str
    tenant: str | None
    id: str | None
    kind: str
    what: str
    event: msgspec.Raw | None


@click.command(
    "events",
    epilog=examples("cutor events 6f1c2a", "cutor events 6f1c2a --json", "cutor events --last 100", "cutor events --follow"),
)
@click.argument("submission_id", metavar="[ID]", required=False)
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help=f"Without ID: how many of the newest.  [default: {DEFAULT_LAST}]",
)
@click.option("--follow", is_flag=True, help="Without ID: go on with what comes, until Ctrl-C; with --json a document a line.")
@tenant_option
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted, submission_id: str | None, last: int | None, follow: bool, tenant: str) -> int | None:
    """List the events of a submission, or the newest of all.

    In the order of the stream: sequence, time, kind, and what it says. With --json one array, with the events as they are
    stored.
    """
    if submission_id is not None and (follow or last is not None):
        raise click.UsageError("--last and --follow are for the whole stream: leave out ID, or use `cutor watch ID`")
    try:
        if follow:
            asyncio.run(_follow(wanted, last or DEFAULT_LAST))
            return None
        lines = asyncio.run(_list(wanted.find_server(), submission_id, tenant, last or DEFAULT_LAST))
    except KeyboardInterrupt:
        return INTERRUPTED
    if wanted.json:
        print_json(lines)
    else:
        _print_lines(lines, with_id=submission_id is None)
    return None


async def _list(server: str, submission_id: str | None, tenant: str, last: int) -> list[Line]:
    async with Bus.connect(server, name="cutor events") as bus:
        if submission_id is None:
            newest = _newest(bus, last, follow=False)
            async with aclosing(newest):
                return [line_of(stored) async for stored in newest]
        address = check_address(tenant, submission_id)
        entries = await Journal(bus).entries(address)
        if not entries:
            raise SubmissionUnknown(f"no submission {address.id!r} of the tenant {address.tenant!r} is known")
        return [line_of(entry.stored) for entry in entries]


async def _newest(bus: Bus, last: int, *, follow: bool) -> AsyncGenerator[Stored, None]:
    """Yield the newest messages of the stream, then with ``follow`` what comes."""
    last_sequence = int((await bus.stream_info(EVENTS))["state"]["last_seq"])
    messages = bus.read(EVENTS, from_sequence=max(1, last_sequence - last + 1), follow=follow, patience_s=WATCH_PATIENCE_S)
    async for stored in messages:
        yield stored


async def _follow(wanted: Wanted, last: int) -> None:
    async with Bus.connect(wanted.find_server(), name="cutor events") as bus:
        newest = _newest(bus, last, follow=True)
        async with aclosing(newest):
            async for stored in newest:
                line = line_of(stored)
                if wanted.json:
                    print_json(line)
                else:
                    click.echo("  ".join(_cells(line, with_id=True)))


def line_of(stored: Stored) -> Line:
    """Return a message as a line; one that is no event of cutor's says why."""
    subject = parse_event_subject(stored.subject)
    return Line(
        sequence=stored.sequence,
        time=rfc3339(stored.time_ns),
        tenant=subject.address.tenant if subject else None,
        id=subject.address.id if subject else None,
        kind=subject.kind if subject else stored.subject,
        what=summarize(read_message(stored.subject.rpartition(".")[2], stored.body)),
        event=_raw(stored.body),
    )


def _raw(body: bytes) -> msgspec.Raw | None:
    try:
        msgspec.json.decode(body, type=Any)
    except UNREADABLE:
        return None
    return msgspec.Raw(body)


def _print_lines(lines: Sequence[Line], *, with_id: bool) -> None:
    headings = ["sequence", "time", "submission", "kind", "what"] if with_id else ["sequence", "time", "kind", "what"]
    print_table(headings, (_cells(line, with_id=with_id) for line in lines), right=["sequence"])


def _cells(line: Line, *, with_id: bool) -> list[str]:
    submission = [escape(f"{line.tenant}/{line.id}" if line.id else "")] if with_id else []
    return [str(line.sequence), line.time, *submission, escape(line.kind), escape(line.what)]
