"""``cutor archive expire``: let go of old events or contents that are sealed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import click

from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.archive_options import archive_of, warn
from cutor.cli.asking import agreed, check_answerer
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import StatusLine, print_json
from cutor.cli.quantities import Span
from cutor.errors import CutorError
from cutor.model.subjects import BODIES, EVENTS
from cutor.model.units import counted
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.archive.place import Archive
    from cutor.projections.archive.retention import Expiry

DAY_S: Final = 86_400
"""Seconds of a day."""
EXPIRING: Final = (EVENTS, BODIES)


@click.command(
    "expire",
    epilog=examples(
        "cutor archive expire --keep 30d --dry-run",
        "cutor archive expire --keep 30d --yes",
        "cutor archive expire --stream BODIES --keep 90d --yes",
    ),
)
@click.option("--stream", type=click.Choice(EXPIRING), default=EVENTS, show_default=True, help="What is let go of.")
@click.option(
    "--keep",
    "keep_s",
    type=Span(),
    metavar="TIME",
    help="What is younger stays (s, min, h, d, w); else `archive.retain_days`, of BODIES `archive.retain_bodies_days`.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@server_option
@click.pass_obj
def expire_command(wanted: Wanted, stream: str, keep_s: int | None, dry_run: bool, yes: bool) -> None:
    """Let go of old events, or contents, that are sealed.

    Only what was sealed in the configured archive (`archive.directory`, where rebuilds and replays look for it), and is message
    by message the same in archive and stream. Events go where their submissions have ended; they stay in the archive and in the
    views, and ids that are gone from the stream are free for new submissions. Contents go where nothing refers to them that has
    not ended, is parked or stands (an environment), and an hour after it was announced that nobody is to refer to them anew:
    the first run without --dry-run does that, and one an hour later lets go. The archiver does all this by itself where
    `archive.retain_days` and `archive.retain_bodies_days` are set.
    """
    server, archive = wanted.find_server(), archive_of(wanted, None)
    keep_s = _kept_for(wanted, stream) if keep_s is None else keep_s
    if asks := not (yes or dry_run):
        check_answerer(wanted)
    work = partial(_expire, server, archive, stream, keep_s, announced=not dry_run)
    with StatusLine() as line:
        expiry = interruption.run(work(line, most=None if yes and not dry_run else 0))
    if not wanted.json:
        click.echo(_expiry_text(expiry, "have gone" if yes and not dry_run else "may go"))
    if asks and expiry.messages and agreed("Let go of them?", "nothing has gone"):
        with StatusLine() as line:
            expiry = interruption.run(work(line, most=expiry.last))
        click.echo(_expiry_text(expiry, "have gone"))
    if wanted.json:
        print_json(expiry._asdict() | {"messages": expiry.messages, "expired": bool(expiry.messages) and not dry_run})


def _kept_for(wanted: Wanted, stream: str) -> int:
    """Return for how many seconds a stream keeps what is in it, as it is configured. Raises `UsageError` where it is not."""
    settings = wanted.loaded_of_stack.config.archive
    days = settings.retain_days if stream == EVENTS else settings.retain_bodies_days
    if days is None:
        what, key = ("events", "retain_days") if stream == EVENTS else ("contents", "retain_bodies_days")
        raise click.UsageError(f"how long are {what} kept? --keep 30d, or archive.{key}", click.get_current_context())
    return days * DAY_S


def _expiry_text(expiry: Expiry, what: str) -> str:
    why = f"; kept: {escape(expiry.held_by)}" if expiry.held_by else ""
    if not expiry.messages:
        return f"{expiry.stream}: nothing may go{why}"
    return f"{expiry.stream}: {counted(expiry.messages, 'message')}, {expiry.first:,} to {expiry.last:,}, {what}{why}"


async def _expire(
    server: str, archive: Archive, stream: str, keep_s: float, line: StatusLine, *, announced: bool, most: int | None
) -> Expiry:
    """Find out what may go, and let go of it, up to ``most`` (None: all of it; 0: nothing); return what may go."""
    from cutor.projections.archive.belonging import check_mark, check_place  # noqa: PLC0415 - it imports duckdb
    from cutor.projections.archive.body_retention import announce  # noqa: PLC0415 - as above
    from cutor.projections.archive.body_retention import plan as plan_bodies  # noqa: PLC0415 - as above
    from cutor.projections.archive.mending import mend  # noqa: PLC0415 - as above
    from cutor.projections.archive.references import References  # noqa: PLC0415 - as above
    from cutor.projections.archive.retention import expire, plan  # noqa: PLC0415 - it imports duckdb

    def tell(at: int, last: int) -> None:
        line.show(f"comparing {stream}: {at:,} of {last:,}")

    async with Bus.connect(server, name="cutor archive expire") as bus:
        await check_place(bus, archive)  # before a directory is made
        with archive.held():
            warn(await check_mark(bus, archive))
            references = References()
            if stream == EVENTS:
                expiry = await plan(bus, archive, keep_s, tell=tell)
            else:
                if announced:
                    await announce(bus, keep_s)
                expiry = await plan_bodies(bus, archive, keep_s, references, tell=tell)
            if most is not None and most:
                expiry = expiry._replace(last=min(expiry.last, most))
            if most != 0:
                try:
                    await expire(server, bus, archive, expiry)
                except CutorError:  # it may have gone, and nobody heard of it
                    if stream == BODIES:
                        await mend(bus, archive, references)
                    raise
                if stream == BODIES:
                    await mend(bus, archive, references)
            return expiry
