"""The first connect, which ends at once, and the client that goes on connecting by itself afterwards.

The client library (nats-py) would try the first connect without end when it is given several servers, and would send a
credential in clear text to a server that offers no TLS.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import nats.errors

from cutor.bus.address import Address, Credential, credential_of
from cutor.bus.errors import BusError
from cutor.bus.tls import NO_TLS, client_context
from cutor.bus.tolerant import TolerantClient

RECONNECT_WAIT_S: Final = 0.2
"""Pause between attempts to reconnect; there is no last attempt."""
PING_INTERVAL_S: Final = 10
"""A peer that is gone without a word is noticed after at most three of these."""
PING: Final = b"PING\r\n"
FLUSH_TIMEOUT_S: Final = 2
"""Longest wait for room in the outgoing buffer; without a bound a publisher hangs when the writer task dies."""


class Reports(NamedTuple):
    """Who is told what the client notices once it was connected."""

    error: Callable[[Exception], None]
    lost: Callable[[], None]
    back: Callable[[], None]
    closed: Callable[[], Awaitable[None]]


class ConnectFailed(BusError):
    """No server of the address could be connected to; `cause` is what the last one failed with."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(reason_of(cause))
        self.cause = cause


class _AttemptFailed(Exception):
    """Carries the cause of one failed attempt out of the library's endless ones."""


class GuardedClient(TolerantClient):
    """Refuses to send a credential in clear text where the address asks for TLS and the server does not offer it."""

    def _connect_command(self) -> bytes:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise nats.errors.Error(NO_TLS)
        return super()._connect_command()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Send a PING behind all that waits to be sent: the library would let it overtake that."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING)
        await self._flush_pending()

    async def ping(self, answered: Callable[[], None]) -> None:
        """Call `answered` when the server has handled everything sent so far; not at all if the connection is lost before."""
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # nobody may cancel it: that ends the reader
        pong.add_done_callback(lambda _: answered())
        await self._send_ping(pong)

    @property
    def in_cluster(self) -> bool:
        """Whether the server is one of a cluster."""
        return bool(self._server_info.get("cluster"))

    async def _attempt_reconnect(self) -> None:
        """Reconnect; what is left of the old connection is given up: its end, of TLS above all, is waited for very long."""
        self._abort()
        await super()._attempt_reconnect()

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        self._transport = None

    async def close_at_once(self) -> None:
        """Close without a farewell: after a handshake that failed, or to a server that is away, it would never end."""
        self._abort()
        if not self.is_closed:
            await self.close()


class Connected(NamedTuple):
    """A client that is connected, and as whom."""

    client: GuardedClient
    credential: Credential


async def first_connect(address: Address, name: str, timeout_s: float, reports: Reports) -> Connected:
    """Connect to one of the servers, each tried once, in any order. ConnectFailed, TlsFileInvalid.

    One that is silent takes up to twice `timeout_s` before the next one's turn: a slow way needs that for each of them.
    """
    wants_tls = any(server.startswith("tls:") for server in address.servers)
    context = client_context(address.tls) if wants_tls or address.tls.tls_ca else None
    failure: BaseException = OSError("no server")
    for server in random.sample(address.servers, len(address.servers)):
        attempt = _Attempt(reports)
        try:
            return await attempt.connect(server, name, timeout_s, context)
        except (_AttemptFailed, OSError, nats.errors.Error) as error:
            failure = error.__cause__ or error
        finally:
            await attempt.end_unless_connected()
    raise ConnectFailed(failure) from failure


class _Attempt:
    """One client and its reports: until it is connected, they are the failure of this attempt and nothing else."""

    def __init__(self, reports: Reports) -> None:
        self._client = GuardedClient()
        self._reports = reports
        self._connected = False
        self._ending = False

    async def connect(self, server: str, name: str, timeout_s: float, context: ssl.SSLContext | None) -> Connected:
        """Connect, or raise what it failed with."""
        credential = credential_of(server)
        async with asyncio.timeout(2 * timeout_s):
            await self._client.connect(
                server,
                name=name,
                error_cb=self._on_error,
                disconnected_cb=self._on_lost,
                reconnected_cb=self._on_back,
                closed_cb=self._on_closed,
                connect_timeout=timeout_s,  # type: ignore[arg-type]  # annotated int, passed on to asyncio.wait_for
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # likewise
                max_reconnect_attempts=-1,
                tls=context,
                user=credential.user,
                password=credential.password,
                token=credential.token,
                inbox_prefix=credential.inbox_prefix,
                ping_interval=PING_INTERVAL_S,
                flush_timeout=FLUSH_TIMEOUT_S,
            )
        self._connected = True
        return Connected(self._client, credential)

    async def end_unless_connected(self) -> None:
        """Close the client of a failed attempt; what it reports meanwhile matters to nobody."""
        if not self._connected:
            self._ending = True
            await self._client.close_at_once()

    async def _on_error(self, error: Exception) -> None:
        if self._connected:
            self._reports.error(error)
        elif not self._ending:
            raise _AttemptFailed from error

    async def _on_lost(self) -> None:
        if self._connected:
            self._reports.lost()

    async def _on_back(self) -> None:
        if self._connected:
            self._reports.back()

    async def _on_closed(self) -> None:
        if self._connected:
            await self._reports.closed()


def reason_of(error: BaseException | None) -> str:
    """One line without the library's prefix."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        # asyncio's own text repeats the address; the numbers of name resolution are negative, and no errno
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix("nats: ").strip("'")
