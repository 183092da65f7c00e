"""What a stream should hold and does not: sequences that are missing between two messages. Pure.

Nobody may delete a message of EVENTS or ENVIRONMENTS (`deny_delete`): one that is missing in the midst was lost by the server's
disk. What lies before the stream's first message is no gap: its limits took that, or retention did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

SHOWN: Final = 3
"""So many are named in one line."""


class Gap(NamedTuple):
    """Sequences that are missing, both ends included; ``noticed_ns`` is the time of the message behind them, since 1970."""

    first: int
    last: int
    noticed_ns: int


def is_whole(position: int, sequences: Sequence[int]) -> bool:
    """Return whether a batch begins right behind a position, and lacks nothing."""
    return sequences[-1] - position == len(sequences)


def gaps_in(position: int, sequences: Iterable[int], times_ns: Iterable[int]) -> list[Gap]:
    """Return what is missing behind a position and between the messages of a batch."""
    found = []
    for sequence, time_ns in zip(sequences, times_ns, strict=True):
        if sequence != position + 1:
            found.append(Gap(position + 1, sequence - 1, time_ns))
        position = sequence
    return found


def held(gaps: Iterable[Gap], first_sequence: int) -> list[Gap]:
    """Return what of gaps a stream should hold that begins at a sequence."""
    return [gap._replace(first=max(gap.first, first_sequence)) for gap in gaps if gap.last >= first_sequence]


def named(gaps: Sequence[Gap]) -> str:
    """Return the sequences in words: ``4 to 6, 9``; of many the first ones, and how many more there are."""
    words = [str(gap.first) if gap.first == gap.last else f"{gap.first} to {gap.last}" for gap in gaps[:SHOWN]]
    return ", ".join(words) + (f" and {len(gaps) - SHOWN:,} more gaps" if len(gaps) > SHOWN else "")
