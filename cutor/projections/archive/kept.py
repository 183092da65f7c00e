"""What a stream still has of a sealed range, compared with what is sealed, message by message: before anything is let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.projections.archive.errors import ArchiveForeign, MessagesMissing
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.segment_file import messages_of
from cutor.projections.folds.rows import fingerprint


async def kept_as_sealed(
    bus: Bus, joined: Joined, stream: str, first: int, last: int, *, batch: int
) -> AsyncGenerator[list[Stored], None]:
    """Yield what a stream has of a range, in lists of up to ``batch`` messages, each the same in the archive.

    Raises `ArchiveForeign` where one differs; at the end `MessagesMissing` where either side lacks any; what `Joined.check` and
    `Joined.check_gaps` raise.
    """
    found = expected = 0
    await joined.check_gaps(first, last)
    for piece in joined.pieces(first, last):
        await joined.check(piece)
        expected += piece.last + 1 - piece.first
        reading = bus.read_batches(stream, from_sequence=piece.first, until_sequence=piece.last, batch=batch)
        async with aclosing(reading) as batches:
            async for kept in batches:
                sealed = await asyncio.to_thread(_prints, stream, piece.path, kept[0].sequence, kept[-1].sequence)
                if sealed != [fingerprint(one) for one in kept]:
                    raise ArchiveForeign(
                        f"{piece.path}: between {kept[0].sequence} and {kept[-1].sequence} it is not what the stream holds: "
                        "nothing is let go of"
                    )
                found += len(kept)
                yield kept
    if found != expected:
        raise MessagesMissing(f"{stream}: of {first} to {last} only {found} messages are sealed and in the stream")


def _prints(stream: str, path: Path, first: int, last: int) -> list[str]:
    return [fingerprint(one) for some in messages_of(stream, path, first, last) for one in some]
