"""``cutor replay``: a range of the log, as it stands there."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from typing import Final

import click

from cutor.bus.connection import Bus
from cutor.cli.options import Wanted, examples, server_option
from cutor.errors import INTERRUPTED
from cutor.model.errors import InvalidRequest
from cutor.model.moments import Place, parse_place
from cutor.model.subjects import ENVIRONMENTS, EVENTS, check_address
from cutor.replay import lines, span_of

STREAMS: Final = (EVENTS, ENVIRONMENTS)


def _place(_: click.Context, __: click.Parameter, text: str | None) -> Place | None:
    try:
        return None if text is None else parse_place(text, time.time_ns())
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    "replay",
    epilog=examples(
        "cutor replay --from -1h",
        "cutor replay --from 1042 --to 2000 > events.jsonl",
        "cutor replay --from 2026-11-26T18:00 --to 2026-11-26T20:00 --tenant lab",
        "cutor replay --stream ENVIRONMENTS",
    ),
)
@click.option(
    "--from", "begin", callback=_place, metavar="SEQ|TIME", help="Where the range begins.  [default: the oldest message]"
)
@click.option("--to", "end", callback=_place, metavar="SEQ|TIME", help="Where it ends.  [default: the newest message]")
@click.option("--tenant", metavar="NAME", help="Of EVENTS: of this tenant alone.")
@click.option("--stream", type=click.Choice(STREAMS), default=EVENTS, show_default=True, help="Which stream.")
@server_option
@click.pass_obj
def command(wanted: Wanted, begin: Place | None, end: Place | None, tenant: str | None, stream: str) -> int | None:
    """Read a range of the log again.

    Both ends belong to the range. SEQ is a sequence; TIME is a time of the stream's own clock (2026-11-26T23:00:00Z, in UTC
    where it names no zone, a date alone is its midnight) or how long ago (-2h, 90min, 1d12h; units w, d, h, min or m, s). What
    lies beyond the ends of the stream is left out; what comes while this runs is not in the range.

    Prints a line of JSON for each message: stream, sequence, time (to the nanosecond), subject, message_id, headers if the
    sender set any of its own, and the body. `event` has it byte by byte as it was written; one that is not JSON, or has a line
    break in it, is in `body_base64` instead. On a terminal, characters that it might obey are shown as JSON escapes.
    """
    if tenant is not None:
        check_address(tenant, "any")
        if stream != EVENTS:
            raise click.UsageError("--tenant is for EVENTS: environments belong to no tenant", click.get_current_context())
    try:
        asyncio.run(_print(wanted.find_server(), stream, begin, end, tenant))
    except KeyboardInterrupt:
        return INTERRUPTED
    return None


async def _print(server: str, stream: str, begin: Place | None, end: Place | None, tenant: str | None) -> None:
    out, terminal = sys.stdout.buffer, sys.stdout.isatty()
    async with Bus.connect(server, name="cutor replay") as bus:
        span = await span_of(bus, stream, begin, end)
        matching = () if tenant is None else f"cutor.ev.{tenant}.>"
        async with aclosing(lines(bus, stream, span, matching=matching)) as chunks:
            async for chunk in chunks:
                out.write(_visible(chunk) if terminal else chunk)
                out.flush()


def _visible(chunk: bytes) -> bytes:
    r"""Return JSON of the same values in which a terminal finds nothing to obey: such characters stand in strings alone."""
    text = chunk.decode()
    return "".join(one if one.isprintable() or one in "\n\t" else _escaped(one) for one in text).encode()


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
