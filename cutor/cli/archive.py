"""``cutor archive``: seal streams in Parquet files, look at what is sealed, verify it."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cutor.bus.connection import Bus
from cutor.cli import archive_expire, archive_fold, interruption
from cutor.cli.archive_options import archive_of, directory_option, offline_option, warn
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import StatusLine, print_json
from cutor.cli.render import print_table
from cutor.errors import DONE, UNAVAILABLE
from cutor.model.units import about, counted
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.projections.archive.decoding import Progress as Decoding
    from cutor.projections.archive.errors import ArchiveError
    from cutor.projections.archive.fold_verification import FoldVerified
    from cutor.projections.archive.manifest import Manifest
    from cutor.projections.archive.place import Archive
    from cutor.projections.archive.reports import StreamReport
    from cutor.projections.archive.verification import Verified

NS_PER_S: Final = 1_000_000_000
"""Nanoseconds of a second."""
GAPS_SHOWN: Final = 5
"""Gaps of a stream that are shown; the others are counted."""
LEFT: Final = "left for later is what fills no file yet, and what is younger than ten minutes; `--all` seals that, too"
LARGEST: Final = (1 << 63) - 1
"""The largest sequence that can be written: a signed number of 64 bits."""


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


command.add_command(archive_fold.fold_command)
command.add_command(archive_expire.expire_command)


@command.command("seal", epilog=examples("cutor archive seal", "cutor archive seal --all --directory /srv/archive"))
@directory_option
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
    decoded, as `cutor archive decode` does, and where much is sealed behind the sealed fold, that is brought on, as
    `cutor archive fold` does.

    Where the directory has not the archive that the stack has there, or nothing of streams that have let go of their beginning,
    nothing is done: its disk may not be mounted. --begin is for an archive that is lost, or one that is to begin late: the
    stack has one archive under each path, so that another one of that path, on another host too, is not sealed into any more,
    and lets nothing go. Hosts with an archive each have it under paths of their own.
    """
    server, archive = wanted.find_server(), archive_of(wanted, directory)
    with StatusLine() as line:
        sealed, left, hindered = interruption.run(
            _seal(server, archive, wanted, line, everything=everything, begin=begin),
            leaves="files that were sealed by then stay; the next `cutor archive seal` goes on behind them",
        )
    if wanted.json:
        said = {stream: str(error) for stream, error in hindered.items()}
        streams = [_sealed(one) for one in sealed.values()]
        print_json({"directory": str(archive.directory), "streams": streams, "hindered": said})
        return UNAVAILABLE if hindered else DONE
    for one in sealed.values():
        click.echo(f"{one.stream}: {_range_text(one)}{_left_text(left[one.stream])}")
    if any(left.values()) and not everything:
        click.echo(f"note: {LEFT}", err=True)
    for error in hindered.values():
        raise error
    return DONE


@command.command("decode", epilog=examples("cutor archive decode", "cutor archive decode --directory /srv/archive --json"))
@directory_option
@json_option
@click.pass_obj
def decode_command(wanted: Wanted, directory: Path | None) -> int:
    """Decode what is sealed, so that rebuilds are quicker.

    What a fold takes of a segment is written beside it, by the rules of this cutor; segments of which that is there already are
    left as they are. The archiver and `cutor archive seal` do this by themselves: it is for an archive of an earlier cutor that
    is to be ready at once. However it ends, the next one goes on behind it. What hinders one segment hinders no other: it is a
    line, and the exit code is 3. No server is asked.
    """
    archive = archive_of(wanted, directory, is_there=True)
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
@directory_option
@json_option
@server_option
@click.pass_obj
def acknowledge_command(wanted: Wanted, stream: str, first: int, last: int, directory: Path | None) -> None:
    """Have the archive go on behind a gap of its stream.

    Nothing is sealed over a gap: `cutor archive seal`, the archiver and `cutor doctor` say where one is. Look for what is
    missing first, in a backup for example. Once acknowledged, the gap stands in the manifest, and `cutor archive status`,
    `cutor doctor` and the metrics go on to tell of it. FIRST and LAST must be the very range that is missing.
    """
    server, archive = wanted.find_server(), archive_of(wanted, directory)
    manifest = interruption.run(_acknowledge(server, archive, stream, first, last))
    if wanted.json:
        print_json({"directory": str(archive.directory), "streams": [_sealed(manifest)]})
        return
    click.echo(f"{stream}: that {first:,} to {last:,} are missing stands in the manifest; the sealing goes on behind them")


@command.command("status", epilog=examples("cutor archive status", "cutor archive status --offline --json"))
@directory_option
@offline_option
@json_option
@server_option
@click.pass_obj
def status_command(wanted: Wanted, directory: Path | None, offline: bool) -> None:
    """Show what is sealed, and what is not yet.

    `chain` is the last link of the hashes: whoever notes it elsewhere can tell whether the end was cut off.
    """
    archive = archive_of(wanted, directory, is_there=directory is not None)
    reports = interruption.run(_report(None if offline else wanted.find_server(), archive))
    free_bytes, looked = archive.free_bytes(), archive_fold.look(archive)
    if wanted.json:
        print_json(
            {
                "directory": str(archive.directory),
                "free_bytes": free_bytes,
                "streams": [_document(report) for report in reports],
                "fold": archive_fold.document(looked.fold) if looked.fold else None,
                "fold_unused": looked.fault or looked.outdated,
            }
        )
        return
    headings = ["stream", "sealed", "files", "size", "of", "newest (UTC)", "not sealed", "oldest of them (UTC)", "chain"]
    print_table(headings, [_cells(report) for report in reports], right=["files", "size", "of", "not sealed"], fold="chain")
    for manifest in (report.manifest for report in reports if report.manifest.gaps):
        click.echo(f"{manifest.stream}: {_gaps_text(manifest)}")
    click.echo(f"sealed fold: {archive_fold.found_text(looked)}")
    click.echo(f"{escape(str(archive.directory))}: {about(free_bytes)} are free")


@command.command("verify", epilog=examples("cutor archive verify", "cutor archive verify --all --json"))
@directory_option
@click.option("--all", "everything", is_flag=True, help="Compare all messages that streams have, not two a file; and the fold.")
@offline_option
@json_option
@server_option
@click.pass_obj
def verify_command(wanted: Wanted, directory: Path | None, everything: bool, offline: bool) -> int:
    """Check that the archive is as it was sealed.

    The chain of hashes, every file's SHA-256, that no message is missing, and that what was decoded is what the bodies say;
    then the first and the last message of every file against the stream, where that still has them. Of the sealed fold its
    SHA-256; with --all a copy of it is opened, it is folded again from the bodies, in a temporary directory (TMPDIR) with room
    for the views twice, and compared row by row. Exit code 3 if anything differs; each fault is a line. A directory that has
    not the archive which the stack has there is refused: its disk may not be mounted.
    """
    server, archive = None if offline else wanted.find_server(), archive_of(wanted, directory, is_there=True)
    with StatusLine() as line:
        found, of_fold = interruption.run(_verify(server, archive, line, everything=everything))
    faults = [fault for one in found for fault in one.faults] + of_fold.faults
    fold = of_fold.fold
    if wanted.json:
        print_json(
            {
                "directory": str(archive.directory),
                "streams": [one._asdict() for one in found],
                "fold": None if fold is None else archive_fold.document(fold),
                "fold_faults": of_fold.faults,
                "sound": not faults,
            }
        )
        return UNAVAILABLE if faults else DONE
    if not found:
        click.echo(f"nothing is sealed in {escape(str(archive.directory))}")
    for one in found:
        said = f"{counted(one.segments, 'file')}, {counted(one.messages, 'message')}"
        click.echo(f"{one.stream}: {said}, {one.compared} of them compared with the stream")
    if fold is not None:
        click.echo(f"sealed fold: {archive_fold.text(fold)}{', folded again and compared' if everything else ''}")
    elif of_fold.outdated is not None:
        click.echo(f"sealed fold: not used: {escape(of_fold.outdated)}")
    for fault in faults:
        click.echo(f"FAULT: {escape(fault)}")
    return UNAVAILABLE if faults else DONE


async def _seal(
    server: str, archive: Archive, wanted: Wanted, line: StatusLine, *, everything: bool, begin: bool
) -> tuple[dict[str, Manifest], dict[str, int], dict[str, ArchiveError]]:
    """Seal what there is to seal. Returns, by stream, what is sealed, how many messages are not, and what hindered it."""
    from cutor.projections.archive.belonging import check_mark, check_place  # noqa: PLC0415 - as above
    from cutor.projections.archive.decoding import decode  # noqa: PLC0415 - as above
    from cutor.projections.archive.errors import ArchiveError  # noqa: PLC0415 - as above
    from cutor.projections.archive.sealing import Cut, Progress, seal_each  # noqa: PLC0415 - as above

    settings = wanted.loaded_of_stack.config.archive
    cut = Cut(segment_bytes=settings.segment_bytes, age_s=settings.segment_age_s)

    def tell(at: Progress) -> None:
        line.show(f"sealing {at.stream}: read {at.read:,} of {at.last:,}, sealed up to {at.sealed:,}")

    async with Bus.connect(server, name="cutor archive seal") as bus:
        if not begin:
            await check_place(bus, archive)  # before a directory is made
        with archive.held():
            warn(await check_mark(bus, archive, begin=begin))
            sealed, hindered = await seal_each(bus, archive, cut.everything() if everything else cut, tell)
        left = {stream: await _left(bus, one) for stream, one in sealed.items()}
        for stream in sealed:
            try:
                for error in (await decode(archive, stream, partial(_tell_decoding, line))).hindered:
                    hindered.setdefault(stream, error)
            except ArchiveError as error:
                hindered.setdefault(stream, error)
        try:
            await archive_fold.bring_on(archive, line)
        except ArchiveError as error:
            warn(str(error))  # what is sealed is sealed: rebuilds take longer
        return sealed, left, hindered


async def _left(bus: Bus, manifest: Manifest) -> int:
    """Return how many messages a stream has behind what is sealed of it."""
    from cutor.projections.archive.sealing import state_of  # noqa: PLC0415 - as above

    state = await state_of(bus, manifest.stream)
    return state.last + 1 - (manifest.next if manifest.segments else state.first)


async def _decode(archive: Archive, line: StatusLine) -> list[Decoding]:
    from cutor.projections.archive.decoding import decode_each  # noqa: PLC0415 - as above

    with archive.held():
        return await decode_each(archive, partial(_tell_decoding, line))


def _tell_decoding(line: StatusLine, at: Decoding) -> None:
    line.show(f"decoding {at.stream}: {at.decoded} of {counted(at.segments, 'file')}")


async def _acknowledge(server: str, archive: Archive, stream: str, first: int, last: int) -> Manifest:
    from cutor.projections.archive.belonging import check_mark, check_place  # noqa: PLC0415 - as above
    from cutor.projections.archive.sealing import acknowledge  # noqa: PLC0415 - as above

    async with Bus.connect(server, name="cutor archive acknowledge-gap") as bus:
        await check_place(bus, archive)  # before a directory is made
        with archive.held():
            warn(await check_mark(bus, archive))
            return await acknowledge(bus, archive, stream, first, last)


async def _report(server: str | None, archive: Archive) -> list[StreamReport]:
    from cutor.projections.archive.reports import report  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(server, name="cutor archive status")) if server else None
        return await report(archive, bus)


async def _verify(
    server: str | None, archive: Archive, line: StatusLine, *, everything: bool
) -> tuple[list[Verified], FoldVerified]:
    from cutor.projections.archive.belonging import check_place  # noqa: PLC0415 - as above
    from cutor.projections.archive.fold_verification import verify_fold  # noqa: PLC0415 - as above
    from cutor.projections.archive.verification import verify  # noqa: PLC0415 - as above

    def tell(stream: str, done: int, total: int) -> None:
        line.show(f"verifying {stream}: {done} of {counted(total, 'file')}")

    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(server, name="cutor archive verify")) if server else None
        if bus is not None:
            warn(await check_place(bus, archive))
        found = [await verify(archive, stream, bus, everything=everything, tell=tell) for stream in archive.streams()]
    with tempfile.TemporaryDirectory(prefix="cutor-verify-") as scratch:
        line.show("verifying the sealed fold")
        of_fold = await verify_fold(
            archive,
            Path(scratch) if everything else None,
            lambda done: line.show(f"verifying the fold: {counted(done, 'message')}"),
        )
    return found, of_fold


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


def _left_text(messages: int) -> str:
    return f"; {counted(messages, 'message')} {'is' if messages == 1 else 'are'} left for later" if messages else ""


def _gaps_text(manifest: Manifest) -> str:
    gaps = [f"{first:,} to {last:,}" for first, last in manifest.gaps[:GAPS_SHOWN]]
    more = f" and {len(manifest.gaps) - GAPS_SHOWN} more" if len(manifest.gaps) > GAPS_SHOWN else ""
    return f"missing, as somebody acknowledged, are {', '.join(gaps)}{more}"


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / NS_PER_S, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
