"""A connection for one bulk read: blocking, in a thread of its own, to a server of the bus's address.

It takes the same credential, TLS files and host name check as the bus's own connection. It never reconnects: what is lost
with it is for its reader to notice.
"""

from __future__ import annotations

import json
import random
import secrets
import socket
import ssl
from contextlib import suppress
from typing import Any, Final, Self
from urllib.parse import urlsplit

from cutor.bus.address import Address, Credential, credential_of, read_address
from cutor.bus.errors import BusError
from cutor.bus.tls import NO_TLS, client_context

PORT: Final = 4222
"""The port of NATS, for an address that names none."""
LINE_BYTES: Final = 64 << 10
"""Most of a line of the protocol before messages come. The longest is INFO, which names the servers of a cluster."""
CONNECT_S: Final = 8.0
"""Of a connect, each step."""
RECEIVE_BYTES: Final = 1 << 20
"""Taken of the socket at one time: hundreds of events for one system call, and small beside a batch. A choice."""
RECORD_BYTES: Final = 16 << 10
"""Longest piece of data that TLS hands over; of a record that was received nothing is left behind by who takes so much."""


class WireFailed(BusError):
    """The connection could not be made, or is gone."""


class Wire:
    """An open connection that is subscribed to an inbox of its own."""

    def __init__(self, opened: socket.socket, inbox: str) -> None:
        self._socket = opened
        self.inbox = inbox

    @classmethod
    def open(cls, server_url: str, name: str, timeout_s: float) -> Self:
        """Connect to one of the servers of an address, each tried once. Raises `WireFailed`, `TlsFileInvalid`."""
        address = read_address(server_url)
        failure: Exception = WireFailed("no server")
        for server in random.sample(address.servers, len(address.servers)):
            try:
                return cls._open_one(address, server, name, timeout_s)
            except (OSError, ValueError, WireFailed) as error:
                failure = error
        raise WireFailed(f"no connection to {address.shown}: {failure}") from failure

    @classmethod
    def _open_one(cls, address: Address, server: str, name: str, timeout_s: float) -> Self:
        parts = urlsplit(server)
        opened = socket.create_connection((parts.hostname, parts.port or PORT), timeout_s)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            info = json.loads(_line(opened).removeprefix(b"INFO "))
            if info.get("tls_required"):
                opened = client_context(address.tls).wrap_socket(opened, server_hostname=parts.hostname)
            elif parts.scheme == "tls":
                raise WireFailed(NO_TLS)
            credential = credential_of(server)
            inbox = f"{credential.inbox_prefix}.{secrets.token_hex(12)}"
            opened.sendall(
                b"CONNECT %b\r\nSUB %b.* 1\r\nPING\r\n" % (json.dumps(_hello(credential, name)).encode(), inbox.encode())
            )
            while (line := _line(opened)) != b"PONG":
                if line.startswith(b"-ERR"):
                    raise WireFailed(line.decode(errors="replace"))
            return cls(opened, inbox)
        except BaseException:
            opened.close()
            raise

    def send(self, data: bytes) -> None:
        """Send bytes. Raises `WireFailed`."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise WireFailed(f"the connection is lost: {error}") from error

    def pull(self, stream: str, consumer: str, number: int, body: bytes) -> None:
        """Ask a consumer for messages. Raises `WireFailed`."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.send(b"PUB %b %b.%d %d\r\n%b\r\n" % (subject.encode(), self.inbox.encode(), number, len(body), body))

    def receive(self, timeout_s: float) -> bytes:
        """Return what has come; nothing where that is nothing in so many seconds, 0 for at once. Raises `WireFailed`.

        That is a MiB or hardly more.
        """
        if not isinstance(self._socket, ssl.SSLSocket):
            return self._take(RECEIVE_BYTES, timeout_s)
        records = [self._take(RECORD_BYTES, timeout_s)]
        if records[0]:
            with suppress(WireFailed):  # the next call fails: what came before the end is to be had
                self._take_records(records)
        return b"".join(records)

    def _take_records(self, records: list[bytes]) -> None:
        size_bytes = len(records[0])
        while size_bytes < RECEIVE_BYTES and (record := self._take(RECORD_BYTES, 0)):
            records.append(record)
            size_bytes += len(record)

    def _take(self, size_bytes: int, timeout_s: float) -> bytes:
        try:
            self._socket.settimeout(timeout_s)
            data = self._socket.recv(size_bytes)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return b""
        except OSError as error:
            raise WireFailed(f"the connection is lost: {error}") from error
        if not data:
            raise WireFailed("the server closed the connection")
        return data

    def fileno(self) -> int:
        """Return the descriptor, to wait on it."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it; may be called twice."""
        self._socket.close()

    def interrupt(self) -> None:
        """Have a `receive` in another thread end at once."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _line(opened: socket.socket) -> bytes:
    """Read a line, byte by byte: what comes behind it may be for TLS."""
    line = bytearray()
    while not line.endswith(b"\r\n"):
        byte = opened.recv(1)
        if not byte or len(line) > LINE_BYTES:
            raise WireFailed("the server closed the connection" if not byte else "no NATS server answers there")
        line += byte
    return bytes(line[:-2])


def _hello(credential: Credential, name: str) -> dict[str, Any]:
    own = {"user": credential.user, "pass": credential.password, "auth_token": credential.token}
    hello = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1, "lang": "python3"}
    return hello | {"name": name} | {key: value for key, value in own.items() if value is not None}
