"""Whether the streams are those that the views were folded from.

A server that came back may have lost a tail that it had acknowledged, and may have filled it with other messages. So the last
message that was folded in is compared with the one that the stream has at its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cutor.bus.connection import Bus
from cutor.projections.errors import ViewsRejected
from cutor.projections.folds.rows import fingerprint
from cutor.projections.sealed_past import SealedPast
from cutor.projections.writer import Writer


class Reach(NamedTuple):
    """How far a stream reaches: its last sequence, and that of the newest message that is there (0: none is)."""

    last: int
    newest: int


class Origin:
    """The streams, beside a file of views and what its archive has."""

    def __init__(self, bus: Bus, writer: Writer, sealed: SealedPast) -> None:
        self._bus = bus
        self._writer = writer
        self._sealed = sealed

    async def check(self, stream: str) -> Reach:
        """Return how far a stream reaches that the views belong to. Raises `ViewsRejected` where they do not."""
        checkpoint = self._writer.checkpoint(stream)
        state = await self._state(stream)
        first, last = int(state["first_seq"]), int(state["last_seq"])
        if checkpoint.sequence > last:
            raise ViewsRejected(f"{stream} ends at {last}, before the {checkpoint.sequence} that the views have come to")
        if 0 < checkpoint.sequence < first - 1 and self._sealed.gone(stream, checkpoint.sequence + 1):
            raise ViewsRejected(f"{stream} begins at {first}: what came after {checkpoint.sequence} is gone")
        if checkpoint.sequence >= max(first, 1):
            await self._compare(stream, checkpoint.sequence, checkpoint.fingerprint)
        return Reach(last, await self._newest(stream, state))

    async def _compare(self, stream: str, sequence: int, known: str | None) -> None:
        message = await self._bus.get(stream, sequence, consistent=True)
        if message is None:
            if sequence < int((await self._state(stream))["first_seq"]):
                return  # its limits have taken it meanwhile
            raise ViewsRejected(f"{stream} has no message at {sequence} any more, and the views have come to it")
        if fingerprint(message) != known:
            raise ViewsRejected(f"{stream} holds another message at {sequence} than the one that was folded in")

    async def _newest(self, stream: str, state: Mapping[str, Any]) -> int:
        """Return the sequence of the newest message that is there: a stream that lacks some may lack its last one, too."""
        if not state.get("num_deleted") and int(state["messages"]):
            return int(state["last_seq"])
        newest = await self._bus.last(stream, ">", consistent=True)
        return 0 if newest is None else newest.sequence

    async def _state(self, stream: str) -> Mapping[str, Any]:
        state: Mapping[str, Any] = (await self._bus.stream_info(stream))["state"]
        return state
