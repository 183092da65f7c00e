"""How far the views have come in each stream, as the projector and the server say it. Without DuckDB: commands ask."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.queries.client import query

STREAMS: Final = (EVENTS, ENVIRONMENTS)
"""The streams that the views are folded from."""
_CHECKPOINTS: Final = """SELECT stream, sequence, time, messages, undecodable, waits_for,
    CASE stream WHEN 'EVENTS' THEN (SELECT min(sequence) FROM events) ELSE (SELECT min(sequence) FROM environment_events) END
FROM checkpoint"""


class StreamStatus(NamedTuple):
    """One stream and the views: ``checkpoint`` is the last sequence folded in (0: none), ``time`` that of its message, UTC.

    ``messages`` were folded in since the file was made, ``undecodable`` of them were no events; ``behind`` are the messages
    that the stream holds beyond the checkpoint; ``waits_for`` is what keeps the views from going on (None: nothing);
    ``begins`` is the first sequence folded in (None: none is).
    """

    stream: str
    checkpoint: int
    time: str | None
    messages: int
    undecodable: int
    last_sequence: int
    behind: int
    waits_for: str | None = None
    begins: int | None = None


class ViewsStatus(NamedTuple):
    """The views of a stack; ``file_bytes`` is None where the projector does not say."""

    streams: list[StreamStatus]
    file_bytes: int | None


async def read_status(bus: Bus) -> ViewsStatus:
    """Return how far the views have come. Raises what `query` raises, `StreamMissing` and `BusUnreachable`.

    The checkpoint is read before the stream's end, so that what comes meanwhile counts as behind, and never less than nothing.
    """
    answer = await query(bus, _CHECKPOINTS)
    checkpoints = {row[0]: row[1:] for row in answer.rows}
    return ViewsStatus([await _of_stream(bus, stream, checkpoints[stream]) for stream in STREAMS], answer.views_bytes)


async def _of_stream(bus: Bus, stream: str, checkpoint: list[Any]) -> StreamStatus:
    sequence, time, messages, undecodable, waits_for, begins = checkpoint
    state = (await bus.stream_info(stream))["state"]
    last = int(state["last_seq"])
    held = last - (sequence if waits_for else max(sequence, int(state["first_seq"]) - 1))
    return StreamStatus(stream, sequence, time, messages, undecodable, last, max(0, held), waits_for, begins)


def lateness(stream: str, first: int) -> str:
    """Return a line about views that do not begin where their stream did. Pure."""
    return f"the views of {stream} begin at {first}: what came before was neither in the stream nor in a configured archive"
