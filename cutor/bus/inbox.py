"""The subscription that the messages of one or more consumers come to, and the pulls that ask for them."""

from __future__ import annotations

from collections.abc import Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from cutor.bus.link import Link
from cutor.bus.pull import Arrival, Heartbeat, PullEnd, read_pull_answer


class PullInbox:
    """One subscription, many pulls; every answer to any of them is handed to `on_answer`."""

    def __init__(self, link: Link, stream: str, on_answer: Callable[[Arrival | Heartbeat | PullEnd], None]) -> None:
        self._link = link
        self._stream = stream
        self._on_answer = on_answer
        self._prefix = link.new_inbox()
        self._last_number = 0
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Subscribe. The server handles it before any pull, since both go over the same connection in this order."""
        self._subscription = await self._link.subscribe_raw(f"{self._prefix}.*", self._arrived)

    async def close(self) -> None:
        """Unsubscribe at once: messages on their way are lost here and redelivered after `ack_wait`."""
        if self._subscription is not None:
            await self._link.unsubscribe(self._subscription)

    async def drain(self) -> None:
        """Unsubscribe, but handle what the server sent before it knew."""
        if self._subscription is not None:
            await self._link.drain(self._subscription)

    def next_number(self) -> int:
        """A number for the next pull, so that it can be booked before it is sent."""
        self._last_number += 1
        return self._last_number

    async def pull(self, consumer: str, number: int, body: bytes) -> None:
        """Send one pull; its answers come to `on_answer`."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        await self._link.send(subject, body, reply=f"{self._prefix}.{number}")

    def _arrived(self, message: Msg) -> None:
        self._on_answer(read_pull_answer(message.subject, message.reply, message.headers, message.data))
