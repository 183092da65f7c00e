"""``cutor archive``: seal streams in Parquet files, look at what is sealed, verify it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import StatusLine, print_json
from cutor.cli.quantities import Span
from cutor.cli.render import print_table
from cutor.errors import DONE, UNAVAILABLE, CutorError
from cutor.model.subjects import BODIES, EVENTS
from cutor.model.units import about, counted
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.archive.decoding import Progress as Decoding
    from cutor.projections.archive.errors import ArchiveError
    from cutor.projections.archive.manifest import Manifest
    from cutor.projections.archive.place import Archive
    from cutor.projections.archive.reports import StreamReport
    from cutor.projections.archive.retention import Expiry
    from cutor.projections.archive.verification import Verified

NS_PER_S: Final = 1_000_000_000
DAY_S: Final = 86_400
EXPIRING: Final = (EVENTS, BODIES)
GAPS_SHOWN: Final = 5
LARGEST: Final = (1 << 63) - 1


@click.group(
    "archive",
    no_args_is_help=False,
    epilog=examples("cutor archive seal --directory /srv/archive", "cutor archive status", "cutor archive verify"),
)
def command() -> None:
    """Seal streams in Parquet files, and verify what is sealed.

    The archive has the messages of EVENTS, ENVIRONMENTS and BODIES as they stand there, in files that are never changed again,
    with a manifest of hashes. Its directory is `[archive] directory` of the configuration, unless --directory names one.
    """


_directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory of the archive (else `archive.directory`).",
)
_offline_option = click.option("--offline", is_flag=True, help="Look at the archive alone; no server is asked.")


@command.command("seal", epilog=examples("cutor archive seal", "cutor archive seal --all --directory /srv/archive"))
@_directory_option
@click.option("--all", "everything", is_flag=True, help="Seal up to the end, also what fills no file or may still be lost.")
@click.option(
    "--begin",
    is_flag=True,
    help="Begin with this directory, though the stack's archive, or its streams' beginning, is not there. "
    "Another archive under this path is not sealed into any more.",
)
@json_option
@server_option
@click.pass_obj
def seal_command(wanted: Wanted, directory: Path | None, everything: bool, begin: bool) -> int:
    """Seal what the streams have behind the archive's end.

    A file is sealed when it is full (`archive.segment_bytes`) or its first message is old (`archive.segment_age_s`); the
    newest ten minutes are left for later, since a power failure can still take them. However it ends, what is sealed stays, and
    the next one goes on behind it. What hinders one stream (a gap, for example) hinders no other. Then what is sealed is
    decoded, as `cutor archive decode` does.

    Where the directory has not the archive that the stack has there, or nothing of streams that have let go of their beginning,
    nothing is done: its disk may not be mounted. --begin is for an archive that is lost, or one that is to begin late: the
    stack has one archive under each path, so that another one of that path, on another host too, is not sealed into any more,
    and lets nothing go. Hosts with an archive each have it under paths of their own.
    """
    server, archive = wanted.find_server(), _archive(wanted, directory)
    with StatusLine() as line:
        sealed, hindered = interruption.run(
            _seal(server, archive, wanted, line, everything=everything, begin=begin),
            leaves="files that were sealed by then stay; the next `cutor archive seal` goes on behind them",
        )
    if wanted.json:
        said = {stream: str(error) for stream, error in hindered.items()}
        streams = [_sealed(one) for one in sealed.values()]
        print_json({"directory": str(archive.directory), "streams": streams, "hindered": said})
        return UNAVAILABLE if hindered else DONE
    for one in sealed.values():
        click.echo(f"{one.stream}: {_range_text(one)}")
    for error in hindered.values():
        raise error
    return DONE


@command.command("decode", epilog=examples("cutor archive decode", "cutor archive decode --directory /srv/archive --json"))
@_directory_option
@json_option
@click.pass_obj
def decode_command(wanted: Wanted, directory: Path | None) -> int:
    """Decode what is sealed, so that rebuilds are quicker.

    What a fold takes of a segment is written beside it, by the rules of this cutor; segments of which that is there already are
    left as they are. The archiver and `cutor archive seal` do this by themselves: it is for an archive of an earlier cutor that
    is to be ready at once. However it ends, the next one goes on behind it. What hinders one segment hinders no other: it is a
    line, and the exit code is 3. No server is asked.
    """
    archive = _archive(wanted, directory)
    with StatusLine() as line:
        found = interruption.run(_decode(archive, line))
    hindered = {one.stream: [str(error) for error in one.hindered] for one in found if one.hindered}
    if wanted.json:
        streams = [{"stream": one.stream, "decoded": one.decoded, "segments": one.segments} for one in found]
        print_json({"directory": str(archive.directory), "streams": streams, "hindered": hindered})
        return UNAVAILABLE if hindered else DONE
    for one in found:
        click.echo(f"{one.stream}: decoded {one.decoded} of {counted(one.segments, 'file')}")
    for fault in (fault for faults in hindered.values() for fault in faults):
        click.echo(f"FAULT: {escape(fault)}")
    return UNAVAILABLE if hindered else DONE


@command.command("acknowledge-gap", epilog=examples("cutor archive acknowledge-gap EVENTS 1207 1209"))
@click.argument("stream", type=click.Choice(["EVENTS", "ENVIRONMENTS", "BODIES"]))
@click.argument("first", type=click.IntRange(1, LARGEST))
@click.argument("last", type=click.IntRange(1, LARGEST))
@_directory_option
@json_option
@server_option
@click.pass_obj
def acknowledge_command(wanted: Wanted, stream: str, first: int, last: int, directory: Path | None) -> None:
    """Have the archive go on behind a gap of its stream.

    Nothing is sealed over a gap: `cutor archive seal`, the archiver and `cutor doctor` say where one is. Look for what is
    missing first, in a backup for example. Once acknowledged, the gap stands in the manifest, and `cutor archive status`,
    `cutor doctor` and the metrics go on to tell of it. FIRST and LAST must be the very range that is missing.
    """
    server, archive = wanted.find_server(), _archive(wanted, directory)
    manifest = interruption.run(_acknowledge(server, archive, stream, first, last))
    if wanted.json:
        print_json({"directory": str(archive.directory), "streams": [_sealed(manifest)]})
        return
    click.echo(f"{stream}: that {first:,} to {last:,} are missing stands in the manifest; the sealing goes on behind them")


@command.command("status", epilog=examples("cutor archive status", "cutor archive status --offline --json"))
@_directory_option
@_offline_option
@json_option
@server_option
@click.pass_obj
def status_command(wanted: Wanted, directory: Path | None, offline: bool) -> None:
    """Show what is sealed, and what is not yet.

    `chain` is the last link of the hashes: whoever notes it elsewhere can tell whether the end was cut off.
    """
    archive = _archive(wanted, directory)
    reports = interruption.run(_report(None if offline else wanted.find_server(), archive))
    free_bytes = archive.free_bytes()
    if wanted.json:
        print_json(
            {
                "directory": str(archive.directory),
                "free_bytes": free_bytes,
                "streams": [_document(report) for report in reports],
            }
        )
        return
    headings = ["stream", "sealed", "files", "size", "of", "newest (UTC)", "not sealed", "oldest of them (UTC)", "chain"]
    print_table(headings, [_cells(report) for report in reports], right=["files", "size", "of", "not sealed"], fold="chain")
    for manifest in (report.manifest for report in reports if report.manifest.gaps):
        click.echo(f"{manifest.stream}: {_gaps_text(manifest)}")
    click.echo(f"{escape(str(archive.directory))}: {about(free_bytes)} are free")


@command.command("verify", epilog=examples("cutor archive verify", "cutor archive verify --all --json"))
@_directory_option
@click.option("--all", "everything", is_flag=True, help="Compare every message that the streams still have, not two of a file.")
@_offline_option
@json_option
@server_option
@click.pass_obj
def verify_command(wanted: Wanted, directory: Path | None, everything: bool, offline: bool) -> int:
    """Check that the archive is as it was sealed.

    The chain of hashes, every file's SHA-256, that no message is missing, and that what was decoded is what the bodies say;
    then the first and the last message of every file against the stream, where that still has them. Exit code 3 if anything
    differs; each fault is a line.
    """
    server, archive = None if offline else wanted.find_server(), _archive(wanted, directory)
    with StatusLine() as line:
        found = interruption.run(_verify(server, archive, line, everything=everything))
    faults = [fault for one in found for fault in one.faults]
    if wanted.json:
        print_json({"directory": str(archive.directory), "streams": [one._asdict() for one in found], "sound": not faults})
        return UNAVAILABLE if faults else DONE
    for one in found:
        said = f"{counted(one.segments, 'file')}, {counted(one.messages, 'message')}"
        click.echo(f"{one.stream}: {said}, {one.compared} of them compared with the stream")
    for fault in faults:
        click.echo(f"FAULT: {escape(fault)}")
    return UNAVAILABLE if faults else DONE


@command.command(
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
    help="What is younger stays (else `archive.retain_days`, of BODIES `archive.retain_bodies_days`).",
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
    server, archive = wanted.find_server(), _archive(wanted, None)
    keep_s = _kept_for(wanted, stream) if keep_s is None else keep_s
    asks = not (yes or dry_run)
    work = partial(_expire, server, archive, stream, keep_s, announced=not dry_run)
    with StatusLine() as line:
        expiry = interruption.run(work(line, most=None if yes and not dry_run else 0))
    if not wanted.json:
        click.echo(_expiry_text(expiry))
    if asks and expiry.messages:
        click.confirm("let go of them?", abort=True, err=True)
        with StatusLine() as line:
            expiry = interruption.run(work(line, most=expiry.last))
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


def _expiry_text(expiry: Expiry) -> str:
    why = f"; kept: {escape(expiry.held_by)}" if expiry.held_by else ""
    if not expiry.messages:
        return f"{expiry.stream}: nothing may go{why}"
    return f"{expiry.stream}: {counted(expiry.messages, 'message')}, {expiry.first:,} to {expiry.last:,}, may go{why}"


async def _expire(
    server: str, archive: Archive, stream: str, keep_s: float, line: StatusLine, *, announced: bool, most: int | None
) -> Expiry:
    """Find out what may go, and let go of it, up to ``most`` (None: all of it; 0: nothing); return what may go."""
    from cutor.projections.archive.belonging import check_mark  # noqa: PLC0415 - it imports duckdb
    from cutor.projections.archive.body_retention import announce  # noqa: PLC0415 - as above
    from cutor.projections.archive.body_retention import plan as plan_bodies  # noqa: PLC0415 - as above
    from cutor.projections.archive.mending import mend  # noqa: PLC0415 - as above
    from cutor.projections.archive.references import References  # noqa: PLC0415 - as above
    from cutor.projections.archive.retention import expire, plan  # noqa: PLC0415 - it imports duckdb

    def tell(at: int, last: int) -> None:
        line.show(f"comparing {stream}: {at:,} of {last:,}")

    with archive.held():
        async with Bus.connect(server, name="cutor archive expire") as bus:
            _warn(await check_mark(bus, archive))
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


def _archive(wanted: Wanted, directory: Path | None) -> Archive:
    """Return the archive that is meant. Raises `ArchiveUnnamed`."""
    from cutor.projections.archive.errors import ArchiveUnnamed  # noqa: PLC0415 - it imports duckdb
    from cutor.projections.archive.place import Archive  # noqa: PLC0415 - as above

    configured = wanted.loaded_of_stack.config.archive.directory
    if directory is None and configured is None:
        raise ArchiveUnnamed("no archive is configured: name its directory by --directory, or set [archive] directory")
    return Archive((directory or Path(str(configured))).absolute())


async def _seal(
    server: str, archive: Archive, wanted: Wanted, line: StatusLine, *, everything: bool, begin: bool
) -> tuple[dict[str, Manifest], dict[str, ArchiveError]]:
    from cutor.projections.archive.belonging import check_mark  # noqa: PLC0415 - as above
    from cutor.projections.archive.decoding import decode  # noqa: PLC0415 - as above
    from cutor.projections.archive.errors import ArchiveError  # noqa: PLC0415 - as above
    from cutor.projections.archive.sealing import Cut, Progress, seal_each  # noqa: PLC0415 - as above

    settings = wanted.loaded_of_stack.config.archive
    cut = Cut(segment_bytes=settings.segment_bytes, age_s=settings.segment_age_s)

    def tell(at: Progress) -> None:
        line.show(f"sealing {at.stream}: read {at.read:,} of {at.last:,}, sealed up to {at.sealed:,}")

    with archive.held():
        async with Bus.connect(server, name="cutor archive seal") as bus:
            _warn(await check_mark(bus, archive, begin=begin))
            sealed, hindered = await seal_each(bus, archive, cut.everything() if everything else cut, tell)
        for stream in sealed:
            try:
                for error in (await decode(archive, stream, partial(_tell_decoding, line))).hindered:
                    hindered.setdefault(stream, error)
            except ArchiveError as error:
                hindered.setdefault(stream, error)
        return sealed, hindered


def _warn(of: str | None) -> None:
    if of is not None:
        click.echo(f"cutor: warning: {escape(of)}", err=True)


async def _decode(archive: Archive, line: StatusLine) -> list[Decoding]:
    from cutor.projections.archive.decoding import decode_each  # noqa: PLC0415 - as above

    with archive.held():
        return await decode_each(archive, partial(_tell_decoding, line))


def _tell_decoding(line: StatusLine, at: Decoding) -> None:
    line.show(f"decoding {at.stream}: {at.decoded} of {counted(at.segments, 'file')}")


async def _acknowledge(server: str, archive: Archive, stream: str, first: int, last: int) -> Manifest:
    from cutor.projections.archive.belonging import check_mark  # noqa: PLC0415 - as above
    from cutor.projections.archive.sealing import acknowledge  # noqa: PLC0415 - as above

    with archive.held():
        async with Bus.connect(server, name="cutor archive acknowledge-gap") as bus:
            _warn(await check_mark(bus, archive))
            return await acknowledge(bus, archive, stream, first, last)


async def _report(server: str | None, archive: Archive) -> list[StreamReport]:
    from cutor.projections.archive.reports import report  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(server, name="cutor archive status")) if server else None
        return await report(archive, bus)


async def _verify(server: str | None, archive: Archive, line: StatusLine, *, everything: bool) -> list[Verified]:
    from cutor.projections.archive.verification import verify  # noqa: PLC0415 - as above

    def tell(stream: str, done: int, total: int) -> None:
        line.show(f"verifying {stream}: {done} of {counted(total, 'file')}")

    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(server, name="cutor archive verify")) if server else None
        return [await verify(archive, stream, bus, everything=everything, tell=tell) for stream in archive.streams()]


def _sealed(manifest: Manifest) -> dict[str, Any]:
    """Return what is sealed of a stream as JSON; first and last are null where nothing is."""
    return {
        "stream": manifest.stream,
        "first": manifest.first if manifest.segments else None,
        "last": manifest.last if manifest.segments else None,
        "messages": manifest.messages,
        "files": len(manifest.segments),
        "body_bytes": manifest.body_bytes,
        "file_bytes": manifest.file_bytes,
        "newest": _moment(manifest.last_time_ns) if manifest.segments else None,
        "missing": manifest.gaps,
        "chain": manifest.chain,
    }


def _document(report: StreamReport) -> dict[str, Any]:
    unsealed = {"messages": report.unsealed, "oldest": _moment(report.oldest_ns) if report.oldest_ns else None}
    return _sealed(report.manifest) | {"unsealed": None if report.unsealed is None else unsealed}


def _cells(report: StreamReport) -> list[str]:
    one = report.manifest
    sealed = f"{one.first:,} to {one.last:,}" if one.segments else "nothing"
    newest = _moment(one.last_time_ns)[:19].replace("T", " ") if one.segments else ""
    oldest = _moment(report.oldest_ns)[:19].replace("T", " ") if report.oldest_ns else ""
    unsealed = "" if report.unsealed is None else f"{report.unsealed:,}"
    sizes = [about(one.file_bytes), about(one.body_bytes)]
    return [one.stream, sealed, str(len(one.segments)), *sizes, newest, unsealed, oldest, (one.chain or "")[:12]]


def _range_text(manifest: Manifest) -> str:
    if not manifest.segments:
        return "nothing is sealed"
    files = f"{counted(len(manifest.segments), 'file')}, {about(manifest.file_bytes)} of {about(manifest.body_bytes)}"
    return f"{manifest.first:,} to {manifest.last:,} are sealed, {files}"


def _gaps_text(manifest: Manifest) -> str:
    gaps = [f"{first:,} to {last:,}" for first, last in manifest.gaps[:GAPS_SHOWN]]
    more = f" and {len(manifest.gaps) - GAPS_SHOWN} more" if len(manifest.gaps) > GAPS_SHOWN else ""
    return f"missing, as somebody acknowledged, are {', '.join(gaps)}{more}"


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / NS_PER_S, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
