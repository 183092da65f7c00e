"""Following a few messages of a stream without a consumer: plain notices say when to look, direct gets say what is there.

For those who follow one submission. A consumer for each of them would cost the server more than the reads do, and who may make
consumers and pull from them may drain those of the roles as well: NATS permissions tell them apart by whole words alone.

A notice may pass before the stream has stored its message, may be that of a message the stream refused, and may be missed. So
it only makes this process look: until the message it told of is there, for as long as `LOOKS_AFTER_S` says; and without any
notice after `LOOK_EVERY_S`, after a lost connection and when it is there again.

Who waits for some messages alone need not look at every notice: those that `wakes` says nothing of are counted, so that one
read brings all of them with the message that was waited for. A count is a guess, whatever passed by: one that is too small
costs another read, one that is too large a search of the server's through the rest of the stream, once for each look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cutor.bus.api import Api, Deadline
from cutor.bus.errors import BusUnreachable, StreamRewound
from cutor.bus.link import Link
from cutor.bus.message import MESSAGE_ID, Stored

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from cutor.bus.reading import Reading

LOOKS_AFTER_S: Final[tuple[float, ...]] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between two looks while what a notice told of is not there: a slow disk stores it after the notice has passed."""
LOOK_EVERY_S: Final = 5.0
"""Between two looks without any notice: one may have been missed."""
AWAITED: Final = 1024
"""Most notices that are remembered one by one; a reader that looks anyway finds what the others told of."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What to follow: `matching` (a subject with wildcards) from the oldest message on the subject `first` on.

    `patience_s` is how long a server that does not answer is waited for; `wakes` says of a subject whether a message on it is
    to be read at once: others come with it, or within `LOOK_EVERY_S`.
    """

    stream: str
    matching: str
    first: str
    patience_s: float
    wakes: Callable[[str], bool] = lambda _subject: True


class Follower:
    """One pass over what is `Followed`; iterate `batches` once."""

    def __init__(self, link: Link, api: Api, reading: Reading, wanted: Followed) -> None:
        self._link = link
        self._api = api
        self._reading = reading
        self._wanted = wanted
        self._woken = asyncio.Event()
        self._awaited: set[tuple[str, str | None]] = set()
        self._passed: set[tuple[str, str | None]] = set()
        self._last: Stored | None = None
        self._pending = 0
        self._doubted = False

    async def batches(self) -> AsyncGenerator[list[Stored], None]:
        """Lists of what is there and what comes, in stream order, none empty; nothing at all where nothing is on `first`.

        Never ends by itself otherwise. Errors: StreamMissing, StreamRewound, BusClosed, NotPermitted; BusUnreachable once no
        server has answered for the patience.
        """
        end_watch = self._link.watch(lost=self._woken.set, back=self._back)
        subscription = await self._link.subscribe_raw(self._wanted.matching, self._noticed)
        try:
            found = await self._patiently(self._begin)
            self._link.check_subscribed(self._wanted.matching)
            while self._last is not None:
                if found:
                    yield found
                found = await self._next()
        finally:
            end_watch()
            await self._link.unsubscribe(subscription)

    async def _next(self) -> list[Stored]:
        """What looking found, after waiting for a reason to look; it may be nothing."""
        if self._pending:
            return await self._patiently(self._look)
        if not self._awaited and not await self._wait(LOOK_EVERY_S):
            self._doubted = True
        looks = 0
        while looks < len(LOOKS_AFTER_S):
            if await self._wait(LOOKS_AFTER_S[looks]):
                looks = 0  # another notice: look as long again
            self._woken.clear()
            found = await self._patiently(self._look)
            if found or not self._awaited:
                return found
            looks += 1
        self._awaited.clear()  # of messages that the stream refused, or never had
        return []

    async def _wait(self, at_most_s: float) -> bool:
        """Wait for a wake-up; whether one came in time."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    async def _patiently(self, read: Callable[[], Awaitable[list[Stored]]]) -> list[Stored]:
        """Read until it is answered: what a single read waits for is less than the patience."""
        deadline = Deadline(self._wanted.patience_s)
        while True:
            try:
                return await read()
            except BusUnreachable:
                if deadline.passed:
                    raise
                await deadline.pause()

    async def _begin(self) -> list[Stored]:
        """The first message; what stands behind it is looked for at once."""
        opening = await self._reading.oldest(self._wanted.stream, self._wanted.first)
        if opening is None:
            return []
        self._pending = 1
        return self._took([opening])

    async def _look(self) -> list[Stored]:
        """One batch of what stands behind the last message that was read: one round trip."""
        assert self._last is not None, "begun"
        if self._doubted:
            await self._check_same_stream(self._last)
        stream, matching = self._wanted.stream, self._wanted.matching
        count = max(1, self._pending, len(self._awaited | self._passed) if self._passed else 0)
        self._passed.clear()
        found, self._pending = await self._reading.batch(stream, self._last.sequence + 1, matching, count)
        return self._took(found)

    def _took(self, messages: list[Stored]) -> list[Stored]:
        for message in messages:
            told = message.subject, message.message_id
            self._awaited.discard(told)
            self._passed.discard(told)
            self._last = message
        return messages

    async def _check_same_stream(self, last: Stored) -> None:
        """Make sure that what was read is still there: a server that came back may have lost it, or be another one."""
        stream, position = self._wanted.stream, last.sequence
        if await self._reading.leader(stream, {"seq": position}) != last:
            state = (await self._api.stream_info(stream))["state"]
            oldest, newest = int(state["first_seq"]), int(state["last_seq"])
            if oldest <= position or newest < position:  # else it is there no longer because of its age
                raise StreamRewound(stream, position, newest)
        self._doubted = False

    def _back(self) -> None:
        self._doubted = True
        self._woken.set()

    def _noticed(self, message: Msg) -> None:
        wakes = self._wanted.wakes(message.subject)
        told = self._awaited if wakes else self._passed
        if len(told) < AWAITED:
            told.add((message.subject, (message.headers or {}).get(MESSAGE_ID)))
        if wakes:
            self._woken.set()
