"""What a rebuild from the archive and the stream's tail costs, by step: a part of `make bench-projections`.

Nineteen of twenty events are sealed, in four segments, decoded, and folded. Measured are: the sealing, the decoding and the
fold, which the archiver does once; what a rebuild that folds every event does with files alone (their hashes, and reading them
into memory); that whole rebuild, in which the hashes of one segment overlap with the fold of the one before; and the rebuild as
it is: it begins with the sealed fold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import duckdb

from cutor.bus.connection import Bus
from cutor.model.subjects import EVENTS
from cutor.projections.archive.decoding import decode
from cutor.projections.archive.fold_sealing import seal_fold
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_batch import batches_of
from cutor.projections.archive.sealing import Cut, seal
from cutor.projections.folds.scans import named
from tests.bench.metering import Meter, Spent

SEALED: Final = 0.95
SEGMENTS: Final = 4
TARGET: Final = 1_000_000
"""Events a second of a rebuild from archive and tail, of events of 400 bytes, on two CPUs."""

Rebuild = Callable[[Archive, bool], Awaitable[Spent]]
"""Rebuilds from an archive, and folds every event or not."""


async def archived(bus: Bus, directory: Path, count: int, rebuild: Rebuild) -> dict[str, Spent]:
    """Archive a stream of so many events, and rebuild; return what each step took, as if it were for all of them."""
    archive = Archive(directory / "archive")
    sealing, decoding, folding = Meter(), Meter(), Meter()
    with archive.held():
        with sealing.running():
            await seal(bus, archive, EVENTS, Cut(segment_messages=int(count * SEALED / SEGMENTS), settled_s=0.0))
        with decoding.running():
            await decode(archive, EVENTS)
        with folding.running():
            await seal_fold(archive)
    joined = await Joined.of(bus, EVENTS, archive)
    hashing, reading = Meter(), Meter()
    with hashing.running():
        await _hash(joined)
    with reading.running():
        _read(joined)
    return {
        "sealing (once, the archiver)": _of(sealing, joined.sealed, count),
        "decoding (once, the archiver)": _of(decoding, joined.sealed, count),
        "folding what is sealed (once, the archiver)": _of(folding, joined.sealed, count),
        "hashes of what is sealed and decoded": _of(hashing, joined.sealed, count),
        "what is decoded into memory": _of(reading, joined.sealed, count),
        "rebuild from archive and tail, folding every event": await rebuild(archive, True),
        "rebuild from archive and tail": await rebuild(archive, False),
    }


def _of(meter: Meter, sealed: int, count: int) -> Spent:
    return Spent(meter.spent.wall_s * count / sealed, meter.spent.cpu_s * count / sealed)


async def _hash(joined: Joined) -> None:
    decoded = joined.decoded()
    for piece in joined.pieces(1, joined.sealed):
        await joined.check(piece)
        assert decoded[piece.begin].fault() is None


def _read(joined: Joined) -> None:
    decoded = joined.decoded()
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        for piece in joined.pieces(1, joined.sealed):
            for batch in batches_of(joined.stream, piece, decoded[piece.begin], piece.first):
                with named(connection, batch.relations()):
                    pass
