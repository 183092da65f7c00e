"""Notices: plain messages that are not stored, for whoever listens at the moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from cutor.bus.errors import BusClosed
from cutor.bus.message import MESSAGE_ID, sender_headers

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from cutor.bus.link import Link

log = logging.getLogger("cutor.bus")

LIMIT: Final = 65_536
"""Most notices that wait for their reader; further ones are dropped, which counts as a gap."""
CONFIRM_TIMEOUT_S: Final = 5.0
"""How long the server may take to say that it has a subscription: one round trip, however busy the machine is."""


class Notice(msgspec.Struct, frozen=True):
    """A message as it passed by. That it is in a stream (too), and stays there, has to be looked up."""

    subject: str
    message_id: str | None
    headers: Mapping[str, str]
    body: bytes


def _notice(message: Msg) -> Notice:
    headers = message.headers
    return Notice(message.subject, headers.get(MESSAGE_ID) if headers else None, sender_headers(headers), message.data)


@asynccontextmanager
async def overhearing(link: Link, subject: str, heard: Callable[[Notice], None]) -> AsyncIterator[None]:
    """Hand over the notices on a subject while the block lasts. It costs no round trip, and so may miss what others publish at
    once; what this connection publishes from now on is behind the subscription.
    """
    subscription = await link.subscribe_raw(subject, lambda message: heard(_notice(message)))
    try:
        yield
    finally:
        await link.unsubscribe(subscription)


class Notices:
    """`async with bus.subscribe(subject) as notices: async for notice in notices: …`

    When the block is entered the server knows of the subscription: what is published from then on comes. Notices are missed
    while the connection is lost or the reader is `LIMIT` behind; `on_gap` is called after either: look into the stream
    then.
    """

    def __init__(self, link: Link, subject: str, on_gap: Callable[[], None] | None) -> None:
        self._link = link
        self._subject = subject
        self._on_gap = on_gap
        self._waiting: asyncio.Queue[Notice | None] = asyncio.Queue()
        self._overflowing = False
        self._subscription: Subscription | None = None
        self._end_watch: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._link.subscribe_raw(self._subject, self._arrived)
        self._end_watch = self._link.watch(lost=self._lost, back=self._gap)
        await self._link.confirm(self._subject, CONFIRM_TIMEOUT_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._end_watch:
            self._end_watch()
        if self._subscription:
            await self._link.unsubscribe(self._subscription)

    async def __aiter__(self) -> AsyncIterator[Notice]:
        while (notice := await self._waiting.get()) is not None:
            yield notice
        raise BusClosed(f"the connection to {self._link.address} is closed")

    def _arrived(self, message: Msg) -> None:
        if self._waiting.qsize() >= LIMIT:
            if not self._overflowing:
                log.error("notices on %s come faster than they are read: some are dropped", self._subject)
                self._gap()
            self._overflowing = True
            return
        self._overflowing = False
        self._waiting.put_nowait(_notice(message))

    def _lost(self) -> None:
        if self._link.closed:
            self._waiting.put_nowait(None)

    def _gap(self) -> None:
        if self._on_gap is not None:
            self._on_gap()
