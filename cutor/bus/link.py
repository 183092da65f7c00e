"""The connection under the bus: first connect, reconnects, and requests whose answer may get lost. Knows nothing of streams.

The client library (nats-py) does sockets, protocol and reconnecting. This module replaces what it does badly for a system
that must not hang: a first connect that ends at once, requests that fail when the connection is lost instead of waiting for
an answer that cannot come, and round trips that don't use its PING (a cancelled flush leaves a dead future behind that
stops its reader).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as RawSubscription

from cutor.bus.errors import AddressInvalid, BusClosed, BusError, BusUnreachable
from cutor.bus.tolerant import TolerantClient

log = logging.getLogger("cutor.bus")

RECONNECT_WAIT_S: Final = 0.2
"""Pause between attempts to reconnect; there is no last attempt."""
PING_INTERVAL_S: Final = 10
"""A peer that is gone without a word is noticed after at most three of these."""
FLUSH_TIMEOUT_S: Final = 2
"""Longest wait for room in the outgoing buffer; without a bound a publisher hangs when the writer task dies."""
JETSTREAM_INFO: Final = "$JS.API.INFO"
OLDEST_SERVER: Final = (2, 11)
"""Older servers ignore `Nats-Expected-Last-Subject-Sequence-Subject`: the fence would silently not hold."""

_Handler = Callable[[Msg], None]


class NoAnswer(BusError):
    """This attempt got no answer: the time was up or the connection was lost. What was asked may have been done."""


class NoResponders(BusError):
    """The server says that nothing listens on this subject. Nothing was done."""


class _FirstConnectFailed(Exception):
    """Carries the cause of a failed first connect."""


def public_address(server_url: str) -> str:
    """The address without user and password: what may stand in a message or log."""
    shown = []
    for url in server_url.split(","):
        parts = urlsplit(url.strip() if "://" in url else f"nats://{url.strip()}")
        shown.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return ",".join(shown)


def _credential(server_url: str) -> tuple[str | None, str | None, str | None]:
    """User, password and token of an address.

    They are handed to the library apart from it: in the address alone, they are not sent to the servers that a cluster
    announces. Several addresses share the credential of the one that was connected first.
    """
    parts = urlsplit(server_url)
    if parts.username is None:
        return None, None, None
    if parts.password is None:
        return None, None, unquote(parts.username)
    return unquote(parts.username), unquote(parts.password), None


def check_address(server_url: str) -> list[str]:
    """The servers of `nats://[user:password@]host[:port]` or `tls://…`, several with commas between them."""
    servers = [url.strip() for url in server_url.split(",")]
    for url in servers:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in {"nats", "tls"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise AddressInvalid("the server's address is not valid: write nats://user:password@host:port or tls://…")
    return servers


class _GuardedClient(TolerantClient):
    """Refuses to send a credential in clear text where the address asks for TLS and the server does not offer it."""

    def _connect_command(self) -> bytes:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server does not offer TLS, which tls:// requires")
        return super()._connect_command()


class Link:
    """One connection with its reply inbox. Open it with `Link.open`, close it with `close`."""

    def __init__(self, server_url: str, name: str) -> None:
        self._servers = check_address(server_url)
        self.address = public_address(server_url)
        self._name = name
        self._client = _GuardedClient()
        self._opened = False
        self._closing = False
        self._ending = False
        self._up = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._collecting: dict[str, _Handler] = {}
        self._lost_callbacks: set[Callable[[], None]] = set()
        self._back_callbacks: set[Callable[[], None]] = set()
        self._inbox = ""
        self._next_token = 0

    # -- opening and closing ---------------------------------------------------------------------------------------

    @classmethod
    async def open(cls, server_url: str, *, name: str, connect_timeout_s: float) -> Link:
        """Connect; BusUnreachable at once when refused, after `connect_timeout_s` (per step) when nothing answers."""
        link = cls(server_url, name)
        try:
            await link._connect(connect_timeout_s)
            await link._check_server(connect_timeout_s)
            if len(link._servers) > 1:
                link._client.set_server_pool(link._servers)
        except BaseException:
            await link.close()
            raise
        link._opened = True
        return link

    async def _connect(self, timeout_s: float) -> None:
        """Try each server once; the library, given several, would try them without end."""
        for server in random.sample(self._servers, len(self._servers)):
            self._client = _GuardedClient()
            try:
                await self._connect_to(server, timeout_s)
                break
            except (_FirstConnectFailed, OSError, nats.errors.Error) as error:
                await self._close_client()
                failure = error.__cause__ or error
        else:
            raise self.unreachable(_reason(failure)) from failure
        self._up.set()
        self._inbox = self._client.new_inbox()
        await self.subscribe_raw(f"{self._inbox}.*", self._answered)

    async def _connect_to(self, server: str, timeout_s: float) -> None:
        user, password, token = _credential(server)
        async with asyncio.timeout(2 * timeout_s):
            await self._client.connect(
                server,
                name=self._name,
                error_cb=self._on_error,
                disconnected_cb=self._on_lost,
                reconnected_cb=self._on_back,
                closed_cb=self._on_closed,
                connect_timeout=timeout_s,  # type: ignore[arg-type]  # annotated int, passed on to asyncio.wait_for
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # likewise
                max_reconnect_attempts=-1,
                user=user,
                password=password,
                token=token,
                ping_interval=PING_INTERVAL_S,
                flush_timeout=FLUSH_TIMEOUT_S,
            )

    async def _close_client(self) -> None:
        """Close the library's client; it reports what fails meanwhile, which no longer matters."""
        self._ending = True
        if not self._client.is_closed:
            await self._client.close()
        self._ending = False

    async def _check_server(self, timeout_s: float) -> None:
        version = self._client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            raise BusError(f"{self.address}: nats-server {version} is too old: cutor needs 2.11 or newer")
        try:
            await self.round_trip(timeout_s)
        except NoResponders as error:
            raise BusError(
                f"{self.address}: JetStream is not enabled there: enable it in the server's configuration"
            ) from error
        except NoAnswer as error:
            raise self.unreachable("JetStream does not answer") from error

    async def close(self) -> None:
        """Close the connection; calls that still wait get BusClosed. May be called twice."""
        self._closing = True
        self._up.set()
        for callback in tuple(self._lost_callbacks):
            callback()
        for future in self._waiting.values():
            _fail(future, BusClosed("the bus was closed"))
        await self._close_client()

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
    def clustered(self) -> bool:
        """Whether the server that is connected is part of a cluster."""
        return bool(self._client._server_info.get("cluster"))

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
        if "authorization" in reason.lower():
            return BusUnreachable(f"NATS at {self.address} refuses the credential: {reason}: are user and password right?")
        return BusUnreachable(
            f"cannot reach NATS at {self.address}: {reason}: is the stack up (`cutor up`), is the address right?"
        )

    async def wait_up(self, until: float) -> None:
        """Wait for a connection; NoAnswer at the loop time `until`, BusClosed when there will be none."""
        if not self._up.is_set():
            try:
                async with asyncio.timeout_at(until):
                    await self._up.wait()
            except TimeoutError as error:
                raise NoAnswer("not connected") from error
        if self._closing:
            raise BusClosed(f"the connection to {self.address} is closed")

    # -- what the client library reports ---------------------------------------------------------------------------

    async def _on_error(self, error: Exception) -> None:
        if self._inbox or self._ending:
            log.debug("nats: %s", _reason(error))
            return
        raise _FirstConnectFailed from error  # out of the library's endless attempts at a first connect

    async def _on_lost(self) -> None:
        if self._closing or self._ending:
            return
        self._up.clear()
        log.warning("connection to %s lost, connecting again until it works", self.address)
        for future in self._waiting.values():
            _fail(future, NoAnswer("connection lost"))
        for callback in tuple(self._lost_callbacks):
            callback()

    async def _on_back(self) -> None:
        self._up.set()
        log.info("connected to %s again", self.address)
        for callback in tuple(self._back_callbacks):
            callback()

    async def _on_closed(self) -> None:
        if self._closing or not self._opened:
            return
        log.error("connection to %s closed for good: %s", self.address, _reason(self._client.last_error))
        await self.close()

    # -- sending and asking ----------------------------------------------------------------------------------------

    async def send(self, subject: str, body: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Hand one message to the connection; while it is lost, kept (up to 2 MiB) and sent after the reconnect."""
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            await self._client.publish(subject, body, reply, dict(headers) if headers else None)
        except nats.errors.OutboundBufferLimitError as error:
            raise NoAnswer("not connected") from error
        except nats.errors.ConnectionClosedError as error:
            raise BusClosed(f"the connection to {self.address} is closed") from error
        except nats.errors.Error as error:
            raise BusError(f"cannot send to {subject}: {_reason(error)}") from error
        if task and task.cancelling() > cancels:
            raise asyncio.CancelledError  # the library swallows it while it waits for room in its buffer

    async def ask(self, subject: str, body: bytes = b"", *, until: float, headers: Mapping[str, str] | None = None) -> Msg:
        """One attempt at a request: its answer, or NoAnswer at the loop time `until` or when the connection is lost."""
        await self.wait_up(until)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        token = self._new_token()
        self._waiting[token] = future
        timer = loop.call_at(until, _fail, future, NoAnswer("no answer in time"))
        try:
            await self.send(subject, body, reply=f"{self._inbox}.{token}", headers=headers)
            answer = await future
        finally:
            timer.cancel()
            del self._waiting[token]
            _discard(future)
        if is_no_responders(answer):
            raise NoResponders(f"nothing listens on {subject}")
        return answer

    async def ask_many(self, subject: str, body: bytes, *, until: float) -> list[Msg]:
        """One attempt at a request with many answers: all up to and with the first one that has a status line."""
        await self.wait_up(until)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Msg] = loop.create_future()
        answers: list[Msg] = []

        def collect(answer: Msg) -> None:
            answers.append(answer)
            if is_status(answer) and not done.done():
                done.set_result(answer)

        token = self._new_token()
        self._waiting[token] = done
        self._collecting[token] = collect
        timer = loop.call_at(until, _fail, done, NoAnswer("no answer in time"))
        try:
            await self.send(subject, body, reply=f"{self._inbox}.{token}")
            last = await done
        finally:
            timer.cancel()
            del self._waiting[token], self._collecting[token]
            _discard(done)
        if is_no_responders(last):
            raise NoResponders(f"nothing listens on {subject}")
        return answers

    async def round_trip(self, timeout_s: float) -> None:
        """Wait until the server has handled everything sent so far on this connection."""
        await self.ask(JETSTREAM_INFO, until=asyncio.get_running_loop().time() + timeout_s)

    async def subscribe_raw(self, subject: str, handler: _Handler) -> RawSubscription:
        """Subscribe without a local limit (what arrives is bounded by what was asked for); not confirmed by the server yet."""

        async def call(message: Msg) -> None:
            handler(message)

        try:
            return await self._client.subscribe(subject, cb=call, pending_msgs_limit=0, pending_bytes_limit=0)
        except nats.errors.ConnectionClosedError as error:
            raise BusClosed(f"the connection to {self.address} is closed") from error
        except nats.errors.Error as error:
            raise BusError(f"cannot subscribe to {subject}: {_reason(error)}") from error

    async def unsubscribe(self, subscription: RawSubscription) -> None:
        """End a subscription; quiet when the connection is gone, and the subscription with it."""
        if not self._client.is_closed:
            await subscription.unsubscribe()

    async def drain(self, subscription: RawSubscription) -> None:
        """End a subscription after handling what the server had sent; like `unsubscribe` while the connection is lost."""
        if self._client.is_closed:
            return
        if self.connected:  # shielded: a cancelled PING of the library stops its reader when the PONG comes
            await asyncio.shield(subscription.drain())  # type: ignore[no-untyped-call]
        else:
            await subscription.unsubscribe()

    def new_inbox(self) -> str:
        """A fresh reply subject prefix."""
        return self._client.new_inbox()

    def _new_token(self) -> str:
        self._next_token += 1
        return str(self._next_token)

    def _answered(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        handler = self._collecting.get(token)
        if handler is not None:
            handler(message)
            return
        future = self._waiting.get(token)
        if future is not None and not future.done():
            future.set_result(message)


def is_status(message: Msg) -> bool:
    """Whether this is a status line of the server and not a stored message (whose sender may have written any header)."""
    headers = message.headers or {}
    return "Status" in headers and "Nats-Sequence" not in headers


def is_no_responders(message: Msg) -> bool:
    """Whether the server says that nothing listens on the subject that was asked."""
    return is_status(message) and not message.data and (message.headers or {})["Status"] == "503"


def _fail(future: asyncio.Future[Msg], error: BusError) -> None:
    if not future.done():
        future.set_exception(error)


def _discard(future: asyncio.Future[Msg]) -> None:
    """Let go of a future that nobody waits for any more, without asyncio's complaint about an unread exception."""
    if not future.cancel() and not future.cancelled():
        future.exception()


def _reason(error: BaseException | None) -> str:
    """One line without the library's prefix."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        # asyncio's own text repeats the address; the numbers of name resolution are negative, and no errno
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix("nats: ").strip("'")
