"""The newest messages of a stream, without reading it from its beginning."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.message import Stored

FURTHER: Final = 8
"""How many times as far back the next look goes, where one did not find enough."""


class Newest(NamedTuple):
    """The newest messages in stream order, and the sequence up to which the stream was read for them."""

    messages: list[Stored]
    until: int


async def newest(
    bus: Bus,
    stream: str,
    count: int,
    *,
    filter: str | Sequence[str] = (),  # noqa: A002 - the word of NATS
    headers_only: bool = False,
) -> Newest:
    """Return the ``count`` newest messages under ``filter``, all where there are fewer. Raises `StreamMissing`."""
    state = (await bus.stream_info(stream))["state"]
    first, until = int(state["first_seq"]), int(state["last_seq"])
    reach = count
    while True:
        start = max(first, until - reach + 1, 1)
        messages: deque[Stored] = deque(maxlen=count)
        if until >= start:
            read = bus.read(stream, filter=filter, from_sequence=start, until_sequence=until, headers_only=headers_only)
            async for stored in read:
                messages.append(stored)
        if len(messages) == count or start <= max(first, 1):
            return Newest(list(messages), until)
        reach *= FURTHER
