"""Who waits on one connection for answers: until a time of its own, the refusal of what it sent or the connection's end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from cutor.bus.errors import BusError

if TYPE_CHECKING:
    from nats.aio.msg import Msg


class NoAnswer(BusError):
    """This attempt got no answer: the time was up or the connection was lost. What was asked may have been done."""


class NotConnected(NoAnswer):
    """There was no connection for as long as this attempt lasted: nothing was sent."""


class NoResponders(BusError):
    """The server says that nothing listens on this subject. Nothing was done."""


class _Waiting(NamedTuple):
    """A request that waits for its answer."""

    subject: str
    future: asyncio.Future[Msg]


class Waiters:
    """The requests of one connection that wait for an answer to ``<inbox>.<token>``."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._collecting: dict[str, Callable[[Msg], None]] = {}
        self._next_token = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def waits_for(self, subject: str, until: float) -> Iterator[tuple[str, asyncio.Future[Msg]]]:
        """A token and the future of the answer to it, which fails at the loop time `until` or with the connection."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._next_token += 1
        token = str(self._next_token)
        self._waiting[token] = _Waiting(subject, future)
        timer = loop.call_at(until, _fail, future, NoAnswer("no answer in time"))
        try:
            yield token, future
        finally:
            timer.cancel()
            del self._waiting[token]
            _discard(future)

    @contextmanager
    def collecting(self, token: str, collect: Callable[[Msg], None]) -> Iterator[None]:
        """Hand every answer to a token to ``collect`` while the block lasts."""
        self._collecting[token] = collect
        try:
            yield
        finally:
            del self._collecting[token]

    def answered(self, message: Msg) -> None:
        """Hand an answer to who waits for it; to nobody, where nobody does any more."""
        token = message.subject.rpartition(".")[2]
        handler = self._collecting.get(token)
        if handler is not None:
            handler(message)
            return
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(message)

    def fail(self, error: Callable[[str], BusError], *, where: Callable[[str], bool] = lambda _subject: True) -> bool:
        """Fail those that wait for an answer to what was sent to some subjects; whether there were any."""
        failed = [waiting for waiting in self._waiting.values() if where(waiting.subject)]
        for waiting in failed:
            _fail(waiting.future, error(waiting.subject))
        return bool(failed)


@contextmanager
def repeated(send: Callable[[], Awaitable[None]], every_s: float | None) -> Iterator[None]:
    """Send again and again while the block lasts; that it cannot be sent, who waits for the answer is told elsewhere."""
    if every_s is None:
        yield
        return
    tasks: list[asyncio.Task[None]] = []

    async def repeat() -> None:
        with suppress(BusError):
            while True:
                await send()
                await asyncio.sleep(every_s)

    # a timer, because most answers come before: a task for each request would cost more than the request
    timer = asyncio.get_running_loop().call_later(every_s, lambda: tasks.append(asyncio.create_task(repeat())))
    try:
        yield
    finally:
        timer.cancel()
        for task in tasks:
            task.cancel()


def _fail(future: asyncio.Future[Msg], error: BusError) -> None:
    if not future.done():
        future.set_exception(error)


def _discard(future: asyncio.Future[Msg]) -> None:
    """Let go of a future that nobody waits for any more, without asyncio's complaint about an unread exception."""
    if not future.cancel() and not future.cancelled():
        future.exception()
