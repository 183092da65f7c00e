"""The connection under the bus: reconnects, and requests whose answer may get lost. Knows nothing of streams.

The client library (nats-py) does sockets, protocol and reconnecting. This module replaces what it does badly for a system
that must not hang: requests that fail when the connection is lost, or the server refuses them, instead of waiting for an answer
that cannot come, and round trips of which each may be cancelled (a cancelled flush of the library stops its reader).
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as RawSubscription

from cutor.bus.address import Address, read_address
from cutor.bus.connecting import Connected, ConnectFailed, Reports, first_connect, reason_of
from cutor.bus.errors import BusClosed, BusError, BusUnreachable, CredentialRefused, Leaderless
from cutor.bus.permission import Violation, read_violation
from cutor.bus.refusals import Refusals
from cutor.bus.tls import explain_tls
from cutor.bus.waiting import NoAnswer, NoResponders, NotConnected, Waiters, repeated

log = logging.getLogger("cutor.bus")

JETSTREAM_INFO: Final = "$JS.API.INFO"
ROUND_TRIP: Final = "(PING)"
"""In place of a subject, for who waits for a PONG."""
OLDEST_SERVER: Final = (2, 11)
"""Older servers ignore `Nats-Expected-Last-Subject-Sequence-Subject`: the fence would silently not hold."""
CLOSE_TIMEOUT_S: Final = 2.0
"""How long what was sent last, and the end of TLS, are waited for when a connection is closed."""

_Handler = Callable[[Msg], None]


class Link:
    """One connection with its reply inbox. Open it with `Link.open`, close it with `close`."""

    def __init__(self, address: Address) -> None:
        self.address = address.shown
        self.server_url = ""  # with the credential: for other connections of this process, never to be shown
        self.patience_s = 0.0  # a request or append waits so long at least for a server that is away
        self._own_ca = address.tls.tls_ca is not None
        self._opened = False
        self._closing = False
        self._up = asyncio.Event()
        self._waiting = Waiters()
        self._refusals = Refusals(self.address)
        self._lost_callbacks: set[Callable[[], None]] = set()
        self._back_callbacks: set[Callable[[], None]] = set()

    # -- opening and closing ---------------------------------------------------------------------------------------

    @classmethod
    async def open(cls, server_url: str, *, name: str, connect_timeout_s: float) -> Link:
        """Connect; BusUnreachable at once when refused, after `connect_timeout_s` (per step) when nothing answers."""
        address = read_address(server_url)
        link = cls(address)
        link.server_url = server_url
        reports = Reports(link._on_error, link._on_lost, link._on_back, link._on_closed)
        try:
            connected = await first_connect(address, name, connect_timeout_s, reports)
        except ConnectFailed as error:
            raise link._unconnected(error) from error.cause
        try:
            await link._begin(connected)
            await link._check_server(connect_timeout_s)
            if len(address.servers) > 1:
                link._client.set_server_pool([*address.servers])
        except BaseException:
            await link.close()
            raise
        link._opened = True
        return link

    async def _begin(self, connected: Connected) -> None:
        self._client, self._refusals.user = connected.client, connected.credential.user
        self._up.set()
        self._inbox = self._client.new_inbox()
        await self.subscribe_raw(f"{self._inbox}.*", self._waiting.answered)

    def _unconnected(self, error: ConnectFailed) -> BusUnreachable:
        about_tls = explain_tls(error.cause, self.address, own_ca=self._own_ca)
        return BusUnreachable(about_tls) if about_tls else self.unreachable(str(error))

    async def _check_server(self, timeout_s: float) -> None:
        version = self._client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            raise BusError(f"{self.address}: nats-server {version} is too old: cutor needs 2.11 or newer")
        try:
            await self.round_trip(timeout_s)
            if not self.clustered:  # where the leader alone would answer, and there may be none at the moment
                await self.ask(JETSTREAM_INFO, until=asyncio.get_running_loop().time() + timeout_s)
        except NoResponders as error:
            raise BusError(
                f"{self.address}: JetStream is not enabled there: enable it in the server's configuration"
            ) from error
        except NoAnswer as error:
            raise self.unreachable("the server does not answer") from error

    async def close(self) -> None:
        """Close the connection; calls that still wait get BusClosed. May be called twice."""
        self._closing = True
        self._up.set()
        for callback in tuple(self._lost_callbacks):
            callback()
        self._waiting.fail(lambda _subject: BusClosed("the bus was closed"))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if not self._client.is_closed:
                    await self._client.close()
        except TimeoutError:
            await self._client.close_at_once()

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a server is connected at this moment."""
        return self._up.is_set() and not self._closing

    @property
    def closed(self) -> bool:
        """Whether the link is closed for good."""
        return self._closing

    @property
    def max_message_bytes(self) -> int:
        """The most bytes, headers included, that the server takes in one message."""
        return self._client.max_payload

    @property
    def server_version(self) -> str:
        """The version of the server that is connected, as it writes it."""
        return str(self._client._server_info.get("version", ""))

    @property
    def announced(self) -> tuple[str, ...]:
        """The servers of its cluster that the one we are connected to told of, as ``host:port``."""
        return tuple(map(str, self._client._server_info.get("connect_urls") or ()))

    @property
    def clustered(self) -> bool:
        """Whether the server that is connected is part of a cluster."""
        return self._client.in_cluster

    def watch(self, *, lost: Callable[[], None] | None = None, back: Callable[[], None] | None = None) -> Callable[[], None]:
        """Call `lost` when the connection is lost and `back` when it is there again; returns what ends this."""
        if lost:
            self._lost_callbacks.add(lost)
        if back:
            self._back_callbacks.add(back)

        def end() -> None:
            if lost:
                self._lost_callbacks.discard(lost)
            if back:
                self._back_callbacks.discard(back)

        return end

    def unreachable(self, reason: str) -> BusUnreachable:
        """The error for a server that does not answer."""
        if "authentication timeout" in reason.lower():
            return BusUnreachable(
                f"NATS at {self.address} ended the login before it was through: {reason}: the way to it is slow: give clients "
                "more time in its configuration, `authorization { timeout: 10 }`"
            )
        if "authorization" in reason.lower():
            return CredentialRefused(f"NATS at {self.address} refuses the credential: {reason}: are user and password right?")
        return BusUnreachable(
            f"cannot reach NATS at {self.address}: {reason}: is the stack up (`cutor up`), is the address right?"
        )

    async def unanswered(self, reason: str, timeout_s: float) -> BusUnreachable:
        """The error for a request that was never answered: of a cluster's server that still does, JetStream has no leader.

        A server that has just come back, or is gone, is asked for as long as `timeout_s`.
        """
        if not self.clustered:
            return self.unreachable(reason)
        try:
            await self.round_trip(timeout_s)
        except (NoAnswer, BusClosed):
            return self.unreachable(reason)
        return Leaderless(
            f"NATS at {self.address} answers, but JetStream there does not ({reason}): its cluster has no leader at the "
            "moment; it elects one within seconds, unless too many nodes are away: are they up?"
        )

    async def wait_up(self, until: float) -> None:
        """Wait for a connection; NotConnected at the loop time `until`, BusClosed when there will be none."""
        if not self._up.is_set():
            try:
                async with asyncio.timeout_at(until):
                    await self._up.wait()
            except TimeoutError as error:
                raise NotConnected("not connected") from error
        if self._closing:
            raise BusClosed(f"the connection to {self.address} is closed")

    # -- what the client library reports ---------------------------------------------------------------------------

    def _on_error(self, error: Exception) -> None:
        violation = read_violation(str(error))
        if violation is None:
            log.debug("nats: %s", reason_of(error))
        elif violation.kind == "subscription":
            self._refuse_subscription(violation)
        elif not self._waiting.fail(lambda subject: self._refusals.error(violation, subject), where=violation.concerns):
            self._refusals.complain(violation)

    def _refuse_subscription(self, violation: Violation) -> None:
        """Note it for who confirms the subscription; without an inbox nothing that is asked can be answered."""
        self._refusals.note_subscription(violation)
        inbox = f"{self._inbox}.*"
        if violation.concerns(inbox):
            self._waiting.fail(lambda _subject: self._refusals.error(violation, inbox))

    def _on_lost(self) -> None:
        if self._closing:
            return
        self._up.clear()
        log.warning("connection to %s lost, connecting again until it works", self.address)
        self._waiting.fail(lambda _subject: NoAnswer("connection lost"))
        for callback in tuple(self._lost_callbacks):
            callback()

    def _on_back(self) -> None:
        self._up.set()
        log.info("connected to %s again", self.address)
        for callback in tuple(self._back_callbacks):
            callback()

    async def _on_closed(self) -> None:
        if self._closing or not self._opened:
            return
        log.error("connection to %s closed for good: %s", self.address, reason_of(self._client.last_error))
        await self.close()

    # -- sending and asking ----------------------------------------------------------------------------------------

    async def send(self, subject: str, body: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Hand one message to the connection; while it is lost, kept (up to 2 MiB) and sent after the reconnect."""
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            await self._client.publish(subject, body, reply, dict(headers) if headers else None)
        except nats.errors.OutboundBufferLimitError as error:
            raise NotConnected("not connected") from error
        except nats.errors.ConnectionClosedError as error:
            raise BusClosed(f"the connection to {self.address} is closed") from error
        except nats.errors.Error as error:
            raise BusError(f"cannot send to {subject}: {reason_of(error)}") from error
        if task and task.cancelling() > cancels:
            raise asyncio.CancelledError  # the library swallows it while it waits for room in its buffer

    async def ask(
        self,
        subject: str,
        body: bytes = b"",
        *,
        until: float,
        headers: Mapping[str, str] | None = None,
        again_every_s: float | None = None,
    ) -> Msg:
        """One attempt at a request: its answer, or NoAnswer at the loop time `until` or when the connection is lost.

        With `again_every_s` the same is sent again so often, because a server may drop a request without a word. The first
        answer to any of them counts, so one that is slower than that is heard all the same.
        """
        await self.wait_up(until)
        with self._waiting.waits_for(subject, until) as (token, answered):
            send = functools.partial(self.send, subject, body, reply=f"{self._inbox}.{token}", headers=headers)
            await send()
            with repeated(send, again_every_s):
                answer = await answered
        if is_no_responders(answer):
            raise NoResponders(f"nothing listens on {subject}")
        return answer

    async def ask_many(self, subject: str, body: bytes, *, until: float) -> list[Msg]:
        """One attempt at a request with many answers: all up to and with the first one that has a status line."""
        await self.wait_up(until)
        answers: list[Msg] = []
        with self._waiting.waits_for(subject, until) as (token, done):

            def collect(answer: Msg) -> None:
                answers.append(answer)
                if is_status(answer) and not done.done():
                    done.set_result(answer)

            with self._waiting.collecting(token, collect):
                await self.send(subject, body, reply=f"{self._inbox}.{token}")
                last = await done
        if is_no_responders(last):
            raise NoResponders(f"nothing listens on {subject}")
        return answers

    async def round_trip(self, timeout_s: float) -> None:
        """Wait until the server has handled everything sent so far on this connection. NoAnswer, BusClosed."""
        until = asyncio.get_running_loop().time() + timeout_s
        await self.wait_up(until)
        with self._waiting.waits_for(ROUND_TRIP, until) as (_, answered):
            await self._client.ping(lambda: None if answered.done() else answered.set_result(Msg(self._client)))
            await answered

    async def confirm(self, subject: str, timeout_s: float) -> None:
        """Wait until the server has taken a subscription to `subject`. NotPermitted where it refuses it."""
        await self.round_trip(timeout_s)
        self.check_subscribed(subject)

    def check_subscribed(self, subject: str) -> None:
        """NotPermitted where the server has refused the subscription to `subject`: behind the answer to any later request."""
        self._refusals.check_subscription(subject)

    async def subscribe_raw(self, subject: str, handler: _Handler) -> RawSubscription:
        """Subscribe without a local limit (what arrives is bounded by what was asked for); not confirmed by the server yet."""

        async def call(message: Msg) -> None:
            handler(message)

        self._refusals.forget_subscription(subject)
        try:
            return await self._client.subscribe(subject, cb=call, pending_msgs_limit=0, pending_bytes_limit=0)
        except nats.errors.ConnectionClosedError as error:
            raise BusClosed(f"the connection to {self.address} is closed") from error
        except nats.errors.Error as error:
            raise BusError(f"cannot subscribe to {subject}: {reason_of(error)}") from error

    async def unsubscribe(self, subscription: RawSubscription) -> None:
        """End a subscription; quiet when the connection is gone, and the subscription with it."""
        self._refusals.forget_subscription(subscription.subject)
        if not self._client.is_closed:
            await subscription.unsubscribe()

    async def drain(self, subscription: RawSubscription) -> None:
        """End a subscription after handling what the server had sent; like `unsubscribe` while the connection is lost."""
        self._refusals.forget_subscription(subscription.subject)
        if self._client.is_closed:
            return
        if self.connected:  # shielded: a cancelled PING of the library stops its reader when the PONG comes
            await asyncio.shield(subscription.drain())  # type: ignore[no-untyped-call]
        else:
            await subscription.unsubscribe()

    def new_inbox(self) -> str:
        """A fresh reply subject prefix."""
        return self._client.new_inbox()


def is_status(message: Msg) -> bool:
    """Whether this is a status line of the server and not a stored message (whose sender may have written any header)."""
    headers = message.headers or {}
    return "Status" in headers and "Nats-Sequence" not in headers


def is_no_responders(message: Msg) -> bool:
    """Whether the server says that nothing listens on the subject that was asked."""
    return is_status(message) and not message.data and (message.headers or {})["Status"] == "503"
