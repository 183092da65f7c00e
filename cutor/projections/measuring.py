"""What the projector measures: its commits, how far it is, what the streams and the file of the views take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.model.subjects import BODIES, DEADLETTERS, ENVIRONMENTS, EVENTS, PARKED
from cutor.process.context import RoleContext
from cutor.process.measures import Measures, connection
from cutor.process.telling import telling
from cutor.projections.errors import ViewsRejected
from cutor.projections.writer import Writer

LOOKED_AT: Final = (EVENTS, BODIES, ENVIRONMENTS, PARKED, DEADLETTERS)


@contextmanager
def committing(measures: Measures, stream: str, messages: int) -> Iterator[None]:
    """Count the commit that is done in the block, if it is."""
    began = time.monotonic()
    yield
    measures.note(
        Observation(table.COMMIT, time.monotonic() - began, (stream,)),
        Observation(table.BATCH, float(messages), (stream,)),
    )


@asynccontextmanager
async def measured(context: RoleContext, bus: Bus, writer: Writer, streams: Sequence[str]) -> AsyncIterator[None]:
    """Have the projector's position, its streams, JetStream and its file sampled, and told of, while the block lasts."""
    measures = context.measures
    measures.note(Observation(table.REBUILDS, 0.0))

    async def views() -> list[Observation]:
        try:
            found = [Observation(table.SEQUENCE, float(writer.checkpoint(stream).sequence), (stream,)) for stream in streams]
            found += [Observation(table.WAITS, float(writer.waits_for(stream) is not None), (stream,)) for stream in streams]
        except ViewsRejected:
            return []
        return [*found, Observation(table.VIEWS_BYTES, float(_size(writer.path)))]

    async def stored() -> list[Observation]:
        states = await asyncio.gather(*(_state(bus, stream) for stream in LOOKED_AT))
        known = {stream: state for stream, state in zip(LOOKED_AT, states, strict=True) if state is not None}
        return [
            *(Observation(table.STREAM_MESSAGES, float(state["messages"]), (name,)) for name, state in known.items()),
            *(Observation(table.STREAM_BYTES, float(state["bytes"]), (name,)) for name, state in known.items()),
            *(
                Observation(table.BEHIND, _behind(writer, name, known[name]["last_seq"]), (name,))
                for name in streams
                if name in known
            ),
        ]

    async def jetstream() -> list[Observation]:
        info = await bus.api.info()
        limit = int(info.get("limits", {}).get("max_storage", -1))
        found = [Observation(table.USED, float(info.get("storage", 0)))]
        return found if limit < 0 else [*found, Observation(table.LIMIT, float(limit))]

    with (
        measures.sampling(views, table.SEQUENCE, table.WAITS, table.VIEWS_BYTES, local=True),
        measures.sampling(stored, table.STREAM_MESSAGES, table.STREAM_BYTES, table.BEHIND),
        measures.sampling(jetstream, table.USED, table.LIMIT),
        measures.sampling(connection(bus), table.CONNECTED),
    ):
        async with telling(context, bus, "projector"):
            yield


def _behind(writer: Writer, stream: str, last_sequence: int) -> float:
    try:
        return float(max(0, last_sequence - writer.checkpoint(stream).sequence))
    except ViewsRejected:  # they are made anew
        return float(last_sequence)


async def _state(bus: Bus, stream: str) -> dict[str, int] | None:
    try:
        state: dict[str, int] = (await bus.stream_info(stream))["state"]
    except StreamMissing:
        return None
    return state


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
