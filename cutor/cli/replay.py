"""``cutor replay``: a range of the log, as it stands there, or folded into a file of views."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.cli.projections_rebuild import Shown
from cutor.errors import INTERRUPTED
from cutor.journal.replay import BeginningGone, Past, begins_late, check_reached, lines, span_of, spans_of
from cutor.model.errors import InvalidRequest
from cutor.model.moments import Place, parse_place
from cutor.model.subjects import ENVIRONMENTS, EVENTS, check_address
from cutor.model.units import about, counted
from cutor.projections.archive.sealed import Sealed
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.rebuilds.range_file import Folded

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
        "cutor replay --as-of 2026-11-26T20:00 --into then.duckdb",
        "cutor replay --from -1d --into today.duckdb",
    ),
)
@click.option("--from", "begin", callback=_place, metavar="SEQ|TIME", help="Where the range begins.  [default: the oldest]")
@click.option("--to", "end", callback=_place, metavar="SEQ|TIME", help="Where it ends.  [default: the newest]")
@click.option("--tenant", metavar="NAME", help="Lines of EVENTS of this tenant alone.")
@click.option("--stream", type=click.Choice(STREAMS), help=f"Of which stream lines are printed.  [default: {EVENTS}]")
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="FILE", help="Fold the range into a DuckDB file of views instead."
)
@click.option("--as-of", callback=_place, metavar="SEQ|TIME", help="With --into: the views as they were then.")
@click.option("--partial", is_flag=True, help="Begin with what there is, where messages before it are gone, and say so.")
@click.option("--force", is_flag=True, help="With --into: replace FILE where it is there.")
@json_option
@server_option
@click.pass_obj
def command(
    wanted: Wanted,
    begin: Place | None,
    end: Place | None,
    tenant: str | None,
    stream: str | None,
    into: Path | None,
    as_of: Place | None,
    *,
    partial: bool,
    force: bool,
) -> int | None:
    """Read a range of the log again.

    Both ends belong to the range. SEQ is a sequence; TIME is a time of the stream's own clock (2026-11-26T23:00:00Z, in UTC
    where it names no zone, a date alone is its midnight) or how long ago (-2h, 90min, 1d12h; units w, d, h, min or m, s). What
    lies behind the end of the stream is left out; what comes while this runs is not in the range. Where `[archive] directory`
    is set and on this host, what is sealed comes from there, also what the stream has let go of. A range of which messages are
    neither here nor there is refused; with --partial it begins with what there is, and a line on stderr says where.

    Prints a line of JSON for each message: stream, sequence, time (to the nanosecond), subject, message_id, headers if the
    sender set any of its own, and the body. `event` has it byte by byte as it was written; one that is not JSON, or has a line
    break in it, is in `body_base64` instead. On a terminal, characters that it might obey are shown as JSON escapes.

    With --into, the range of EVENTS is folded into a new DuckDB file with all views, and ENVIRONMENTS from its beginning up to
    the same moment; SEQ is one of EVENTS. --as-of folds everything up to then: the views as they were. With --from, messages of
    submissions that began before the range are only in the views `events` and `dead_letters`, as strays: how many is said. The
    file is put in its place when it is whole; interrupted (Ctrl-C, SIGTERM), nothing is left. With --json one document.
    """
    if into is None:
        _refuse("without --into", **{"--as-of": as_of, "--force": force})
        _check_tenant(tenant, stream)
        return _lines(wanted, _Range(stream or EVENTS, begin, end, partial=partial), tenant)
    _refuse("with --into: the file has both streams and all tenants", **{"--tenant": tenant, "--stream": stream})
    if as_of is not None:
        _refuse("with --as-of, which folds everything up to then", **{"--from": begin, "--to": end})
    _into(wanted, into, _Range(EVENTS, begin, as_of or end, partial=partial), as_of, force=force)
    return None


class _Range(NamedTuple):
    """What is asked for; ``partial``: also where its beginning is gone."""

    stream: str
    begin: Place | None
    end: Place | None
    partial: bool


async def _check_beginning(bus: Bus, of: _Range, sealed: Sealed, past: Past | None) -> int | None:
    """Raise `BeginningGone` where messages of a range are gone; where that is fine, say with which one it begins.

    Returns that one, None where nothing is gone.
    """
    first = await begins_late(bus, of.stream, of.begin, past)
    if first is None:
        return None
    if not of.partial:
        raise BeginningGone(
            f"{of.stream} begins at {first}: what came before is gone from the stream, {sealed.lacks()}; or begin with what "
            "there is: --partial"
        )
    click.echo(f"cutor: note: {of.stream} begins at {first}: what came before is gone, and not in this", err=True)
    return first


def _refuse(why: str, **options: Any) -> None:
    """Raise a usage error for the first of these options that is given."""
    for name, value in options.items():
        if value:
            raise click.UsageError(f"{name} cannot be given {why}", click.get_current_context())


def _check_tenant(tenant: str | None, stream: str | None) -> None:
    if tenant is None:
        return
    check_address(tenant, "any")
    if stream == ENVIRONMENTS:
        raise click.UsageError("--tenant is for EVENTS: environments belong to no tenant", click.get_current_context())


# -- lines -------------------------------------------------------------------------------------------------------------


def _lines(wanted: Wanted, of: _Range, tenant: str | None) -> int | None:
    try:
        asyncio.run(_print(wanted, of, tenant))
    except KeyboardInterrupt:
        return INTERRUPTED
    return None


async def _print(wanted: Wanted, of: _Range, tenant: str | None) -> None:
    out, terminal = sys.stdout.buffer, sys.stdout.isatty()
    sealed = Sealed(wanted.archive_directory)
    async with Bus.connect(wanted.find_server(), name="cutor replay") as bus:
        past = await sealed.past_of(bus, of.stream)
        await _check_beginning(bus, of, sealed, past)
        span = await span_of(bus, of.stream, of.begin, of.end, past)
        beneath = None if tenant is None else f"cutor.ev.{tenant}"
        any_came = False
        async with aclosing(lines(bus, of.stream, span, beneath=beneath, past=past)) as chunks:
            async for chunk in chunks:
                any_came = True
                out.write(_visible(chunk) if terminal else chunk)
                out.flush()
        if not any_came:
            await _note_nothing(bus, of.stream, tenant)


async def _note_nothing(bus: Bus, stream: str, tenant: str | None) -> None:
    """Say on stderr that there is no message in the range, and where the stream ends: an empty answer may be a slip."""
    last = (await bus.stream_info(stream))["state"]["last_seq"]
    of = "" if tenant is None else f" of the tenant {tenant}"
    click.echo(f"cutor: note: the range has no message{of}; {stream} ends at {last}", err=True)


def _visible(chunk: bytes) -> bytes:
    r"""Return JSON of the same values in which a terminal finds nothing to obey: such characters stand in strings alone."""
    text = chunk.decode()
    return "".join(one if one.isprintable() or one in "\n\t" else _escaped(one) for one in text).encode()


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))


# -- a file ------------------------------------------------------------------------------------------------------------


def _into(wanted: Wanted, path: Path, of: _Range, as_of: Place | None, *, force: bool) -> None:
    from cutor.projections.rebuilds.range_file import check_place, fold_range  # noqa: PLC0415 - DuckDB takes as long as a whole command

    check_place(path, force=force)
    server, began_s = wanted.find_server(), time.monotonic()
    sealed = Sealed(wanted.archive_directory)
    begins: dict[str, int] = {}

    async def work() -> Folded:
        async with Bus.connect(server, name="cutor replay") as bus:
            if as_of is not None:
                await check_reached(bus, as_of, time.time_ns())
            past: dict[str, Past] = {}
            for one in (of, of._replace(stream=ENVIRONMENTS, begin=None)):
                if (joined := await sealed.past_of(bus, one.stream)) is not None:
                    past[one.stream] = joined
                if (first := await _check_beginning(bus, one, sealed, joined)) is not None:
                    begins[one.stream] = first
            spans = await spans_of(bus, of.begin, of.end, past)
            return await fold_range(bus, path, spans, force=force, tell=shown.tell, archive=sealed.place)

    with Shown("folding") as shown:
        folded = interruption.run(work(), leaves=f"{escape(str(path))} was not written")
    took_s = time.monotonic() - began_s
    if wanted.json:
        print_json(_document(path, folded, begins, took_s))
    else:
        _say(path, folded, took_s)


def _document(path: Path, folded: Folded, begins: dict[str, int], took_s: float) -> dict[str, Any]:
    return {
        "file": str(path),
        "streams": [part._asdict() for part in folded.parts],
        "begun_before": {"submissions": folded.begun_before, "messages": folded.begun_before_messages},
        "begins": begins,
        "took_ms": round(took_s * 1000),
    }


def _say(path: Path, folded: Folded, took_s: float) -> None:
    for part in folded.parts:
        span = f", {part.first_sequence} to {part.last_sequence}, the last of {part.last_time} UTC" if part.messages else ""
        click.echo(f"{part.stream}: {counted(part.messages, 'message')}{span}")
    click.echo(f"{path}: {about(path.stat().st_size)} in {took_s:.1f} s")
    if not any(part.messages for part in folded.parts):
        click.echo("cutor: note: the log has nothing from then or before: these views are empty", err=True)
    if folded.begun_before:
        many = f"{counted(folded.begun_before_messages, 'message')} of {counted(folded.begun_before, 'submission')}"
        click.echo(
            f"note: {many} whose beginning is not in the range: they are strays in `events`, and in no view of submissions"
        )
