"""What the projector and the process of its query service say to each other, over a socket that both have from the start.

One document of JSON a line. The projector begins with `Settings`. The service says ``Ready`` once, and asks `Hold` when it
wants a copy of the views; the answer is `Held`, and what it names stays as it is until the service says `Release`. What it
measures it says at any time (`Told`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import msgspec

from cutor.logs import LogFormat
from cutor.metrics.tally import Observation

LINE_BYTES: Final = 64 << 10
"""A line of JSON: settings, or measurements of one moment. Above what either side sends."""

T = TypeVar("T")


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """What the service is told at its start: the server's address with its credential, the paths that it works on, how it logs.

    ``worker`` and ``instance`` are the projector's, for lines of JSON.
    """

    server: str
    name: str
    database: str
    snapshot_age_ms: int
    snapshot_interval_s: float
    snapshot_path: str
    log_format: LogFormat = "text"
    worker: str = ""
    instance: str = ""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The service answers questions."""


class Hold(msgspec.Struct, tag="hold", frozen=True):
    """Hold the views for a copy, unless they are those of ``known`` still."""

    known: tuple[int, int] | None = None


class Release(msgspec.Struct, tag="release", frozen=True):
    """The copy is made, or given up."""


class Told(msgspec.Struct, tag="told", frozen=True):
    """What the service has measured: name of a metric, value, labels. The projector's endpoint exposes it."""

    observations: tuple[tuple[str, float, tuple[str, ...]], ...]


class Held(msgspec.Struct, kw_only=True, frozen=True):
    """The views as they are: see `Copied`. ``known``: they are those that the service knows, and nothing is held."""

    version: tuple[int, int] = (0, 0)
    inode: int = 0
    wal_bytes: int = 0
    known: bool = False
    error: str | None = None


Said = Ready | Hold | Release | Told
_SAID: Final[msgspec.json.Decoder[Said]] = msgspec.json.Decoder(Said)


class Tell(Protocol):
    """What takes measurements, as `Link.tell` does."""

    def __call__(self, *observations: Observation) -> None: ...


class LinkClosed(Exception):
    """The other side has ended."""


class Link:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, document: msgspec.Struct) -> None:
        """Send a document. Raises `LinkClosed`."""
        try:
            self._writer.write(msgspec.json.encode(document) + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            raise LinkClosed("the other side has ended") from error

    def tell(self, *observations: Observation) -> None:
        """Say what was measured; where the other side has ended, nobody wants to know."""
        told = tuple((one.metric.name, one.value, one.labels) for one in observations)
        with suppress(ConnectionError):
            self._writer.write(msgspec.json.encode(Told(told)) + b"\n")

    async def receive(self, kind: type[T]) -> T:
        """Return the next document, which is of this kind. Raises `LinkClosed`."""
        return msgspec.json.decode(await self._line(), type=kind)

    async def hear(self) -> Said:
        """Return the next document of the service's. Raises `LinkClosed`."""
        return _SAID.decode(await self._line())

    async def _line(self) -> bytes:
        try:
            line = await self._reader.readline()
        except ConnectionError as error:
            raise LinkClosed("the other side has ended") from error
        if not line.endswith(b"\n"):
            raise LinkClosed("the other side has ended")
        return line

    def close(self) -> None:
        """Close this end: the other side hears of it."""
        self._writer.close()
