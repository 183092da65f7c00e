"""``cutor events``: the log itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.cli.options import Wanted, examples, json_option, named_submission, server_option
from cutor.cli.output import print_json
from cutor.cli.render import print_table
from cutor.client.progress import summarize
from cutor.errors import INTERRUPTED
from cutor.journal.errors import SubmissionUnknown
from cutor.journal.history import WATCH_PATIENCE_S
from cutor.journal.journal import Journal
from cutor.model.messages import read_message
from cutor.model.nesting import check_nesting
from cutor.model.request import UNREADABLE
from cutor.model.result import rfc3339
from cutor.model.subjects import EVENTS, Address, check_address, parse_event_subject
from cutor.text import escape

DEFAULT_LAST: Final = 20
"""How many of the newest events are listed, unless the caller says another number."""


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
@click.argument("submission_id", metavar="[[TENANT/]ID]", required=False)
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help=f"Without ID: how many of the newest.  [default: {DEFAULT_LAST}]",
)
@click.option("--follow", is_flag=True, help="Without ID: go on with what comes, until Ctrl-C; with --json a document a line.")
@click.option(
    "--tenant",
    metavar="NAME",
    help="Tenant of ID, if it says none (else default); without ID: this one's events alone.",
)
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted, submission_id: str | None, last: int | None, follow: bool, tenant: str | None) -> int | None:
    """List the events of a submission, or the newest of all.

    In the order of the stream: sequence, time (UTC), kind, and what it says. With --json one array, with the events as they
    are stored.
    """
    if submission_id is not None and (follow or last is not None):
        raise click.UsageError("--last and --follow are for the whole stream: leave out ID, or use `cutor watch ID`")
    address = None if submission_id is None else named_submission(submission_id, tenant)
    if tenant is not None:
        check_address(tenant, "any")
    try:
        if follow:
            asyncio.run(_follow(wanted, tenant, last or DEFAULT_LAST))
            return None
        lines = asyncio.run(_list(wanted.find_server(), address, tenant, last or DEFAULT_LAST))
    except KeyboardInterrupt:
        return INTERRUPTED
    if wanted.json:
        print_json(lines)
    else:
        _print_lines(lines, with_id=address is None)
    return None


async def _list(server: str, address: Address | None, tenant: str | None, last: int) -> list[Line]:
    async with Bus.connect(server, name="cutor events") as bus:
        if address is None:
            return [line_of(stored) for stored in (await _newest(bus, tenant, last)).messages]
        async with aclosing(Journal(bus).read(address)) as entries:
            lines = [line_of(entry.stored) async for entry in entries]
        if not lines:
            raise SubmissionUnknown(f"no submission {address.id!r} of the tenant {address.tenant!r} is known")
        return lines


class Newest(NamedTuple):
    """The newest messages of the stream, and the sequence up to which it was read for them."""

    messages: list[Stored]
    until: int


def _filter(tenant: str | None) -> str | tuple[str, ...]:
    return () if tenant is None else f"cutor.ev.{tenant}.>"


async def _newest(bus: Bus, tenant: str | None, last: int) -> Newest:
    """Return the newest messages, of one tenant or of all: read from further and further back until there are enough."""
    until = int((await bus.stream_info(EVENTS))["state"]["last_seq"])
    reach = last
    while True:
        start = max(1, until - reach + 1)
        messages: deque[Stored] = deque(maxlen=last)
        if until:
            async for stored in bus.read(EVENTS, filter=_filter(tenant), from_sequence=start, until_sequence=until):
                messages.append(stored)
        if len(messages) == last or start == 1:
            return Newest(list(messages), until)
        reach *= 8


async def _follow(wanted: Wanted, tenant: str | None, last: int) -> None:
    async with Bus.connect(wanted.find_server(), name="cutor events") as bus:
        newest = await _newest(bus, tenant, last)
        show = print_json if wanted.json else _Ticker().show
        for stored in newest.messages:
            show(line_of(stored))
        coming = bus.read(
            EVENTS, filter=_filter(tenant), from_sequence=newest.until + 1, follow=True, patience_s=WATCH_PATIENCE_S
        )
        async with aclosing(coming):
            async for stored in coming:
                show(line_of(stored))


class _Ticker:
    """Prints lines as they come; a line with the date in front of the first and wherever it is another one."""

    def __init__(self) -> None:
        self._date = ""

    def show(self, line: Line) -> None:
        if _date(line) != self._date:
            self._date = _date(line)
            click.echo(f"{self._date}, UTC")
        click.echo("  ".join(_cells(line, _clock(line), with_id=True)))


def line_of(stored: Stored) -> Line:
    """Return a message as a line; one that is no event of cutor's says why."""
    subject = parse_event_subject(stored.subject)
    return Line(
        sequence=stored.sequence,
        time=rfc3339(stored.time_ns),
        tenant=subject.address.tenant if subject else None,
        id=subject.address.id if subject else None,
        kind=subject.kind if subject else stored.subject,
        what=summarize(read_message(stored.subject, stored.body)),
        event=_raw(stored.body),
    )


def _raw(body: bytes) -> msgspec.Raw | None:
    try:
        check_nesting(body)
        msgspec.json.decode(body, type=Any)
    except UNREADABLE:
        return None
    return msgspec.Raw(body)


def _print_lines(lines: Sequence[Line], *, with_id: bool) -> None:
    """Print the table; the date stands in the heading where it is the same for all, else with every time."""
    same = len({_date(line) for line in lines}) == 1
    headings = ["sequence", _date(lines[0]) if same else "time", *(["submission"] if with_id else []), "kind", "what"]
    cells = (_cells(line, _clock(line) if same else f"{_date(line)} {_clock(line)}", with_id=with_id) for line in lines)
    print_table(headings, cells, right=["sequence"], fold="what")


def _date(line: Line) -> str:
    return line.time[:10]


def _clock(line: Line) -> str:
    """Return the time of the day to the millisecond."""
    return line.time[11:23]


def _cells(line: Line, moment: str, *, with_id: bool) -> list[str]:
    """Return the cells of a line; a submission is named as commands name it: the tenant is left out where it is the default."""
    name = "" if line.id is None else line.id if line.tenant == "default" else f"{line.tenant}/{line.id}"
    submission = [escape(name)] if with_id else []
    return [str(line.sequence), moment, *submission, escape(line.kind), escape(line.what)]
