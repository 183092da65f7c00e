"""Requests that may be repeated until they are answered: the management API and the reads that build on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from cutor.bus.errors import ApiRefused, BusError, BusUnreachable, StreamMissing
from cutor.bus.link import Link
from cutor.bus.waiting import NoAnswer, NoResponders

ATTEMPT_S: Final = 2.0
"""After how long without an answer the same request is sent again."""
PAUSE_S: Final = 0.02
"""Pause before the first repetition; it doubles up to `PAUSE_MAX_S`."""
PAUSE_MAX_S: Final = 0.5
"""A choice: a server that has no leader elects one within seconds, so half a second is soon enough and asks little."""
DEFAULT_TIMEOUT_S: Final = 10.0
"""A link on which every message takes 3 s each way, and a server that restarts, are waited for."""

STREAM_NOT_FOUND: Final = 10059
"""Error code of the JetStream API of NATS: there is no such stream."""
CONSUMER_NOT_FOUND: Final = 10014
"""Error code of the JetStream API of NATS: there is no such consumer."""
STORAGE_EXCEEDED: Final = 10047
"""Error code of the JetStream API of NATS: what is asked for is more than the storage that the server or account has."""
_PASSING: Final = frozenset({10008, 10009})
"""The cluster elects a leader: 10008 temporarily unavailable, 10009 not leader."""

T = TypeVar("T")
Json = dict[str, Any]


class Deadline:
    """A moment on the event loop's clock, and growing pauses on the way to it."""

    def __init__(self, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.at = self._loop.time() + timeout_s
        self._pause_s = PAUSE_S
        self._attempt_s = ATTEMPT_S / 2

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self._loop.time() >= self.at

    def attempt(self) -> float:
        """Until when one attempt may last whose answer is lost with it: each twice as long as the one before."""
        self._attempt_s *= 2
        return min(self.at, self._loop.time() + self._attempt_s)

    async def pause(self) -> None:
        """Wait a little, longer each time, and never past the deadline."""
        await asyncio.sleep(max(0.0, min(self._pause_s, self.at - self._loop.time())))
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)


async def until_answered(
    link: Link,
    attempt: Callable[[float], Awaitable[T]],
    *,
    timeout_s: float,
    unserved: Callable[[], Awaitable[None]] | None = None,
    patient: bool = True,
    whole: bool = False,
) -> T:
    """Repeat a harmless request until it is answered; BusUnreachable when the time is up.

    That is `timeout_s`, or the link's patience where this is longer and the caller `patient`.
    `attempt` gets the loop time at which it must give up: the end of all attempts where it asks again by itself (`whole`).
    `unserved` is asked once when the server says that nothing listens there: it raises the error that names the cause (no such
    stream); if it returns, the request is repeated (an election is under way).
    """
    deadline = Deadline(max(timeout_s, link.patience_s) if patient else timeout_s)
    reason = "no answer in time"
    while True:
        try:
            try:
                return await attempt(deadline.at if whole else deadline.attempt())
            except NoResponders as error:
                reason = str(error)
                if unserved is not None:
                    await unserved()
                    unserved = None
        except NoAnswer as error:
            reason = str(error)
        except BusUnreachable:  # of a request within this one: nobody could name the cause yet
            if deadline.passed:
                raise
        if deadline.passed:
            raise await link.unanswered(reason, ATTEMPT_S)
        await deadline.pause()


class Depth(NamedTuple):
    """What a consumer has still to deliver, and what it has delivered that nobody has answered for good."""

    pending: int
    unacknowledged: int


class Api:
    """JetStream's management requests as raw JSON: the client library's configuration classes lack the newer fields."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def info(self) -> Json:
        """What JetStream says of this account; of a cluster, its leader says it. BusUnreachable, Leaderless."""
        return await self.call("JetStream", "INFO", patient=False)

    async def call(
        self,
        what: str,
        subject: str,
        payload: Json | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        patient: bool = True,
        once: bool = False,
    ) -> Json:
        """Ask `$JS.API.<subject>`; `what` names the request in errors. ApiRefused, StreamMissing, BusUnreachable.

        `once`: it is sent one time, over the connection that is there: for what is right for the server that was asked before,
        and may be wrong for the one that comes back. BusUnreachable then says nothing of whether it was done.
        """
        body = json.dumps(payload).encode() if payload is not None else b""

        async def attempt(until: float) -> Json:
            message = await self._link.ask(f"$JS.API.{subject}", body, until=until, again_every_s=None if once else ATTEMPT_S)
            answer = _decode(what, message.data)
            if answer.get("error", {}).get("err_code") in _PASSING:
                raise NoAnswer("JetStream is temporarily unavailable")
            return answer

        if once:
            answer = await self._answered_once(attempt, timeout_s)
        else:
            answer = await until_answered(self._link, attempt, timeout_s=timeout_s, patient=patient, whole=True)
        error = answer.get("error")
        if error is None:
            return answer
        code = int(error.get("err_code") or error.get("code") or 0)
        if code == STREAM_NOT_FOUND:
            raise StreamMissing(f"{what}: the server at {self._link.address} has no such stream: run `cutor streams apply`")
        raise ApiRefused(what, code, str(error.get("description", "no description")))

    async def _answered_once(self, attempt: Callable[[float], Awaitable[Json]], timeout_s: float) -> Json:
        if not self._link.connected:
            raise self._link.unreachable("the connection was lost")
        try:
            return await attempt(asyncio.get_running_loop().time() + timeout_s)
        except NoAnswer as error:
            raise self._link.unreachable(str(error)) from error

    async def stream_info(self, stream: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Json:
        """The server's `config` and `state` of one stream; StreamMissing."""
        return await self.call(f"stream {stream}", f"STREAM.INFO.{stream}", timeout_s=timeout_s)

    async def ack_wait_s(self, stream: str, consumer: str) -> float:
        """How long a consumer waits for a sign of life of whoever has a delivery."""
        answer = await self.call(f"consumer {consumer}", f"CONSUMER.INFO.{stream}.{consumer}", patient=False)
        return int(answer["config"]["ack_wait"]) / 1_000_000_000

    async def redelivered(self, stream: str, consumer: str) -> int:
        """How many messages a consumer has delivered more than once, of those that were not acknowledged."""
        answer = await self.call(f"consumer {consumer}", f"CONSUMER.INFO.{stream}.{consumer}", patient=False)
        return int(answer["num_redelivered"])

    async def queue(self, stream: str, consumer: str) -> Depth:
        """How deep the queue of a consumer is."""
        answer = await self.call(f"consumer {consumer}", f"CONSUMER.INFO.{stream}.{consumer}", patient=False)
        return Depth(int(answer["num_pending"]), int(answer["num_ack_pending"]))

    async def require_stream(self, stream: str) -> None:
        """Raise StreamMissing if the server holds no such stream."""
        await self.stream_info(stream)

    async def stream_of(self, subject: str) -> str | None:
        """The name of the stream that takes this subject; None if none does."""
        what, query = f"streams for {subject}", {"subject": subject}
        answer = await self.call(what, "STREAM.NAMES", query, timeout_s=ATTEMPT_S, patient=False)
        names = answer.get("streams") or []
        return str(names[0]) if names else None


def _decode(what: str, body: bytes) -> Json:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BusError(f"{what}: the server's answer is not JSON") from error
