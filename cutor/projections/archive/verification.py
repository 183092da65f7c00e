"""Is the archive what was sealed, and is that what the stream holds?

Every file is compared with its manifest: size, SHA-256, and then what is in it: as many messages as its range has sequences,
and none twice. What was decoded of it is compared with what its bodies say. Where the stream still has them, first and last
message of every segment are compared with it; all of them, where that is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Final, NamedTuple

from cutor.bus.bulk.columns import Message
from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.projections.archive.decoded import DIRECTORY, INDEX, DecodedFiles, DecodedPlace
from cutor.projections.archive.decoded_file import decoded_anew, differs
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveForeign, ArchiveUnusable
from cutor.projections.archive.manifest import Manifest, Segment
from cutor.projections.archive.place import Archive, sha256_of
from cutor.projections.archive.sealing import check_same_stream, state_of
from cutor.projections.archive.segment_file import messages_of, totals_of
from cutor.projections.folds.rows import fingerprint

BATCH: Final = 4096
"""Messages that are compared with the stream at one time."""


class Verified(NamedTuple):
    """What was looked at of one stream, and what was found: one line a fault, none where all is well.

    ``compared`` counts the messages that were compared with those of the stream.
    """

    stream: str
    segments: int
    messages: int
    compared: int
    faults: list[str]


Tell = Callable[[str, int, int], None]
"""Is told of progress: the stream, how many segments are done, of how many."""


async def verify(
    archive: Archive, stream: str, bus: Bus | None, *, everything: bool = False, tell: Tell = lambda *_: None
) -> Verified:
    """Verify what is sealed of a stream; with a bus against that stream, too."""
    try:
        manifest = archive.manifest(stream)
    except ArchiveDamaged as damage:
        return Verified(stream, 0, 0, 0, [str(damage)])
    if manifest is None or not manifest.segments:
        return Verified(stream, 0, 0, 0, [])
    compared, faults, first_kept = 0, [], None
    if bus is not None:
        first_kept, foreign = await _comparable(bus, archive, manifest)
        faults += foreign
    decoded, changed = _decoded(archive, manifest)
    faults += changed
    for number, segment in enumerate(manifest.segments):
        tell(stream, number, len(manifest.segments))
        path = archive.file_of(stream, segment)
        found = await asyncio.to_thread(_faults_of_file, path, segment)
        if segment.first in decoded and not found:
            faults += await asyncio.to_thread(_faults_of_decoded, stream, path, segment, decoded[segment.first])
        faults += found
        if bus is None or found or first_kept is None or first_kept > segment.last:
            continue
        first = max(segment.first, first_kept)
        differing, looked_at = await _compare(bus, stream, path, first, segment.last, everything=everything)
        compared += looked_at
        if differing is not None:
            faults.append(f"{path}: message {differing} is not the one that the stream holds")
    return Verified(stream, len(manifest.segments), manifest.messages, compared, faults)


async def _comparable(bus: Bus, archive: Archive, manifest: Manifest) -> tuple[int | None, list[str]]:
    """Return the first sequence that the stream still has, None where it is another stream; and that as a fault."""
    state = await state_of(bus, manifest.stream)
    try:
        await check_same_stream(bus, archive, manifest, state)
    except ArchiveForeign as error:
        return None, [str(error)]
    return state.first, []


def _decoded(archive: Archive, manifest: Manifest) -> tuple[dict[int, DecodedFiles], list[str]]:
    """Return what is decoded and usable, by the first sequence of its segment; and a line for what was changed."""
    place = DecodedPlace(archive, manifest.stream)
    try:
        usable, changed = place.found(manifest.segments)
    except ArchiveUnusable as error:
        return {}, [str(error)]
    return {first: place.files_of(one) for first, one in usable.items()}, changed


def check_file(archive: Archive, manifest: Manifest, segment: Segment) -> None:
    """Raise `ArchiveDamaged` where a segment is not what was sealed."""
    for fault in _faults_of_file(archive.file_of(manifest.stream, segment), segment):
        raise ArchiveDamaged(fault)


def _faults_of_file(path: Path, segment: Segment) -> list[str]:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != segment.file_bytes:
            return [f"{path}: it has {size_bytes} bytes, and {segment.file_bytes} were sealed"]
        if sha256_of(path) != segment.sha256:
            return [f"{path}: it is not what was sealed: its SHA-256 differs from the manifest's"]
    except OSError as error:
        return [f"{path}: it cannot be read: {error.strerror}"]
    try:
        totals = totals_of(path)
    except ArchiveDamaged as damage:
        return [str(damage)]
    said = (segment.messages, segment.first, segment.last, segment.first_time_ns, segment.last_time_ns, segment.body_bytes)
    return [] if said == totals else [f"{path}: it holds {totals}, and the manifest says {said}"]


def _faults_of_decoded(stream: str, path: Path, segment: Segment, files: DecodedFiles) -> list[str]:
    """Return in what files, and what the index says of them, differ from what the bodies of their segment say."""
    if fault := files.fault():
        return [fault]
    with decoded_anew(stream, path, segment) as (anew, found):
        faults = [
            f"{file}: it is not what the bodies of {path.name} say"
            for relation, file in files.paths.items()
            if differs(anew, relation, file)
        ]
    if (files.decoded.kinds, files.decoded.faults) != (tuple(sorted(found.kinds)), found.faults):
        faults.append(f"{path.parent / DIRECTORY / INDEX}: kinds and faults are not what the bodies of {path.name} say")
    return faults


async def _compare(bus: Bus, stream: str, path: Path, first: int, last: int, *, everything: bool) -> tuple[int | None, int]:
    """Return the first message of a range that differs from that of the stream, and how many were compared."""
    if not everything:
        ends = sorted({first, last})
        for sequence in ends:
            kept = await bus.get(stream, sequence, consistent=True)
            one = await asyncio.to_thread(_message, stream, path, sequence)
            if kept is None or not _same(one, kept):
                return sequence, len(ends)
        return None, len(ends)
    sealed_batches = messages_of(stream, path, first, last)
    compared = 0
    while sealed := await asyncio.to_thread(_next, sealed_batches):
        reading = bus.read_batches(stream, from_sequence=sealed[0].sequence, until_sequence=sealed[-1].sequence, batch=BATCH)
        async with aclosing(reading) as batches:
            kept_all = [message async for batch in batches for message in batch]
        for one, kept in zip(sealed, kept_all, strict=False):
            if not _same(one, kept):
                return one.sequence, compared
            compared += 1
        if len(kept_all) < len(sealed):
            return sealed[len(kept_all)].sequence, compared
    return None, compared


def _message(stream: str, path: Path, sequence: int) -> Stored:
    found = next(messages_of(stream, path, sequence, sequence), None)
    if not found:
        raise ArchiveDamaged(f"{path}: it lacks the message {sequence}")
    return found[0]


def _next(batches: Iterator[list[Stored]]) -> list[Stored]:
    return next(batches, [])


def _same(sealed: Message, kept: Message) -> bool:
    return fingerprint(sealed) == fingerprint(kept)
