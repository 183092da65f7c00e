"""Request and reply over plain messages: a question to whoever serves a subject, an answer of any length.

An answer goes back in parts, each small enough for any server; the last one has a status line, and all of one answer carry its
id, so that the answers of two who serve the same subject do not mix. Nothing is stored: who asks while nobody serves, hears so
at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from cutor.bus.errors import BusError
from cutor.bus.waiting import NoAnswer, NoResponders

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from cutor.bus.connection import Bus

log = logging.getLogger("cutor.bus")

PART_BYTES: Final = 512 << 10
"""Half of NATS's default largest message."""
CONFIRM_TIMEOUT_S: Final = 5.0
"""How long the server may take to say that it has the subscription: as with that of notices, one round trip."""
ANSWER_ID: Final = "Cutor-Answer"
_LAST_PART: Final = {"Status": "200"}

Handler = Callable[[bytes], Awaitable[bytes]]


class NobodyServes(BusError):
    """Nobody listens on the subject of a request."""


class NoReply(BusError):
    """A request was not answered in time, or the connection was lost meanwhile; it may have been served."""


async def request(bus: Bus, subject: str, body: bytes, *, timeout_s: float) -> bytes:
    """Return the first complete answer to a request. Raises `NobodyServes`, `NoReply`."""
    until = asyncio.get_running_loop().time() + timeout_s
    try:
        parts = await bus.link.ask_many(subject, body, until=until)
    except NoResponders as error:
        raise NobodyServes(f"nobody serves {subject} at {bus.address}") from error
    except NoAnswer as error:
        raise NoReply(f"{subject} at {bus.address}: {error}") from error
    answer = (parts[-1].headers or {}).get(ANSWER_ID)
    return b"".join(part.data for part in parts if (part.headers or {}).get(ANSWER_ID) == answer)


class Service:
    """Serves a subject as long as its ``async with`` lasts; requests run at the same time, the handler bounds how many."""

    def __init__(self, bus: Bus, subject: str, handler: Handler) -> None:
        self._bus = bus
        self._subject = subject
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._bus.link.subscribe_raw(self._subject, self._arrived)
        await self._bus.link.confirm(self._subject, CONFIRM_TIMEOUT_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscription is not None:
            await self._bus.link.unsubscribe(self._subscription)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _arrived(self, message: Msg) -> None:
        if message.reply:
            task = asyncio.create_task(self._serve(message.reply, message.data), name=f"serve {self._subject}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, reply: str, body: bytes) -> None:
        try:
            answer = await self._handler(body)
            answer_id = {ANSWER_ID: secrets.token_hex(8)}
            for part, is_last in _parts(answer):
                await self._bus.link.send(reply, part, headers=answer_id | (_LAST_PART if is_last else {}))
        except BusError as error:
            log.warning("an answer on %s was not sent: %s", self._subject, error)
        except Exception:
            log.exception("%s: a bug while serving a request", self._subject)


def _parts(answer: bytes) -> Iterator[tuple[bytes, bool]]:
    """An answer in parts, each with whether it is the last; an empty answer has one."""
    for start in range(0, max(len(answer), 1), PART_BYTES):
        yield answer[start : start + PART_BYTES], start + PART_BYTES >= len(answer)
