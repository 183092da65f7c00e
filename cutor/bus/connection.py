"""The bus: cutor's one way to the event log. It knows bytes, subjects and headers, and nothing of what they mean."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

from cutor.bus.api import DEFAULT_TIMEOUT_S as READ_TIMEOUT_S
from cutor.bus.api import Api, Json
from cutor.bus.appending import DEFAULT_TIMEOUT_S, Appending
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.following import as_it_comes
from cutor.bus.bulk.reader import BATCH as BULK_BATCH
from cutor.bus.bulk.reader import BulkReader, P, Pace, Way, in_a_thread
from cutor.bus.following import Followed, Follower
from cutor.bus.link import Link
from cutor.bus.message import Stored
from cutor.bus.moments import first_since
from cutor.bus.publish_ack import Appended, fence_headers
from cutor.bus.reader import DEFAULT_BATCH, Range, Reader
from cutor.bus.reading import Reading
from cutor.bus.subscription import Notices
from cutor.bus.waiting import NoAnswer

EVENTS: Final = "EVENTS"
CONNECT_TIMEOUT_S: Final = 8.0
"""Of each step of a connect: for a link on which every message takes 3 s each way."""


class Bus:
    """A connection to NATS JetStream. Make one with `Bus.connect`; it reconnects by itself, without end."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.api = Api(link)
        self._reading = Reading(link, self.api)
        self._appending = Appending(link, self.api, self._reading)

    @classmethod
    @asynccontextmanager
    async def connect(cls, server_url: str, *, name: str, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncIterator[Bus]:
        """`async with Bus.connect(url, name=…) as bus:`; the address is `nats://user:password@host:port` or `tls://…`.

        `name` shows up in the server's monitoring. Errors: BusUnreachable at once if the first connect fails, BusError for
        an address that is none, a server that is too old or has no JetStream.
        """
        bus = cls(await Link.open(server_url, name=name, connect_timeout_s=connect_timeout_s))
        try:
            yield bus
        finally:
            await bus.close()

    async def close(self) -> None:
        """Close the connection; what still waits gets BusClosed."""
        await self.link.close()

    @property
    def connected(self) -> bool:
        """Whether a server is connected at this moment."""
        return self.link.connected

    @property
    def address(self) -> str:
        """The server's address without the credential."""
        return self.link.address

    # -- writing ---------------------------------------------------------------------------------------------------

    async def append(
        self,
        subject: str,
        body: bytes,
        *,
        message_id: str,
        fence: str,
        expected_sequence: int,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Appended:
        """Append one message if the newest one under `fence` (a subject with wildcards) has `expected_sequence` (0: none).

        The same `message_id` makes it idempotent: an append that is in the log already, from a lost answer or another process,
        returns with `duplicate` (read again then: more may have happened since).
        FenceConflict: another message came first, nothing was stored, or ours was stored earlier and is no longer the newest.
        AppendUnconfirmed: no answer within `timeout_s`; BusUnreachable: not even sent; AppendRefused: never.
        """
        fenced = fence_headers(message_id, fence, expected_sequence, headers)
        return await self._appending.fenced(subject, body, fenced, timeout_s=timeout_s)

    async def append_once(
        self, subject: str, body: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> bool:
        """Write the one message that a subject holds for ever: True if stored now, False if one was there already."""
        return await self._appending.once(subject, body, headers or {}, timeout_s=timeout_s)

    async def flush(self, timeout_s: float = 2.0) -> None:
        """Wait until the server has handled everything sent so far: acknowledgements and hand-backs before a close, say.

        BusUnreachable where it does not answer in time.
        """
        try:
            await self.link.round_trip(timeout_s)
        except NoAnswer as error:
            raise self.link.unreachable("the server does not answer") from error

    async def publish(self, subject: str, body: bytes, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> int:
        """Store a message without a fence and return its sequence; after a lost answer it may be stored twice."""
        return (await self._appending.plain(subject, body, timeout_s=timeout_s)).sequence

    async def notify(self, subject: str, body: bytes) -> None:
        """Publish a notice for whoever listens at the moment. While no server is connected it is dropped: nobody would hear it
        in time. BusError where the connection does not take it.
        """
        if self.connected:
            await self.link.send(subject, body)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def history(
        self,
        filter: str,  # noqa: A002 - the word of NATS
        first: str,
        *,
        stream: str = EVENTS,
        at_least: int = 0,
        consistent: bool = False,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> list[Stored]:
        """All messages under `filter` in order, from the oldest one on the subject `first` on; empty where there is none.

        With one replica this sees every acknowledged append. With three it may lack the newest ones, unless `at_least`
        names a sequence it must reach (that of one's own append, or `FenceConflict.last_sequence`) or `consistent` asks the
        leader for the newest one first (one more round trip).
        """
        batches = self.history_batches(
            filter, first, stream=stream, at_least=at_least, consistent=consistent, timeout_s=timeout_s
        )
        async with aclosing(batches):
            return [stored async for batch in batches for stored in batch]

    def history_batches(
        self,
        filter: str,  # noqa: A002 - as above
        first: str,
        *,
        stream: str = EVENTS,
        at_least: int = 0,
        consistent: bool = False,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> AsyncGenerator[list[Stored], None]:
        """The same in lists that are bounded in number and bytes, none empty: a history may be as large as the stream."""
        return self._reading.history(
            stream, matching=filter, first=first, at_least=at_least, consistent=consistent, timeout_s=timeout_s
        )

    def since_batches(
        self,
        filter: str,  # noqa: A002 - as above
        sequence: int,
        *,
        stream: str = EVENTS,
        at_least: int = 0,
    ) -> AsyncGenerator[list[Stored], None]:
        """What stands under `filter` behind a sequence, in such lists; `at_least` as in `history`. Two round trips, or one
        where one message or none is there.
        """
        return self._reading.since(stream, sequence, filter, at_least)

    async def last(self, stream: str, subject: str, *, consistent: bool = False) -> Stored | None:
        """The newest message on a subject (wildcards allowed), from the leader if `consistent`; None if there is none."""
        read = self._reading.leader if consistent else self._reading.direct
        return await read(stream, {"last_by_subj": subject})

    async def get(self, stream: str, sequence: int, *, consistent: bool = False) -> Stored | None:
        """The message with this sequence; None if there is none."""
        read = self._reading.leader if consistent else self._reading.direct
        return await read(stream, {"seq": sequence})

    async def oldest(self, stream: str, subject: str) -> Stored | None:
        """The oldest message on a subject without wildcards; None if there is none, and the leader was asked, too."""
        return await self._reading.oldest(stream, subject)

    async def next(self, stream: str, sequence: int) -> Stored | None:
        """The first message from a sequence on, from the leader; None if there is none."""
        return await self._reading.leader(stream, {"seq": sequence, "next_by_subj": ">"})

    async def first_since(self, stream: str, time_ns: int) -> int:
        """The first sequence whose message is of this time or later, one behind the last where there is none: see `moments`."""
        return await first_since(self._reading, self.api, stream, time_ns)

    async def read(
        self,
        stream: str,
        *,
        filter: str | Sequence[str] = (),  # noqa: A002 - as above
        from_sequence: int = 1,
        until_sequence: int | None = None,
        follow: bool = False,
        batch: int = DEFAULT_BATCH,
        patience_s: float | None = None,
        headers_only: bool = False,
    ) -> AsyncGenerator[Stored, None]:
        """Messages one by one in stream order; see `read_batches`. Leave early with `contextlib.aclosing`."""
        batches = self.read_batches(
            stream,
            filter=filter,
            from_sequence=from_sequence,
            until_sequence=until_sequence,
            follow=follow,
            batch=batch,
            patience_s=patience_s,
            headers_only=headers_only,
        )
        async with aclosing(batches):
            async for messages in batches:
                for message in messages:
                    yield message

    async def read_batches(
        self,
        stream: str,
        *,
        filter: str | Sequence[str] = (),  # noqa: A002 - as above
        from_sequence: int = 1,
        until_sequence: int | None = None,
        follow: bool = False,
        batch: int = DEFAULT_BATCH,
        patience_s: float | None = None,
        headers_only: bool = False,
    ) -> AsyncGenerator[list[Stored], None]:
        """What has arrived, in lists of 1 to `batch` messages and, of several, 16 MiB: for those who commit by the batch.

        Ends after `until_sequence`, else at the end that the stream had when it began, and never with `follow`. Survives
        restarts of the server; a follower waits `patience_s` for a lost connection (None: without end), then BusUnreachable.
        StreamRewound if the stream is shorter than `from_sequence - 1` or loses what was read;
        StreamMissing.
        """
        filters = (filter,) if isinstance(filter, str) else tuple(filter)
        wanted = Range(stream, filters, from_sequence, until_sequence, follow, patience_s, headers_only)
        reader = Reader(self.link, self.api, wanted, batch)
        batches = reader.batches()
        async with aclosing(batches):
            async for messages in batches:
                yield messages

    async def read_columns(
        self, stream: str, *, from_sequence: int, until_sequence: int, batch: int = BULK_BATCH
    ) -> AsyncGenerator[Columns, None]:
        """All messages of a range of a stream, in columns, as fast as it goes (`cutor.bus.bulk`). Errors as `read_batches`."""
        way = in_a_thread(batch)
        async with aclosing(
            self.read_in_bulk(stream, way, from_sequence=from_sequence, until_sequence=until_sequence)
        ) as parts:
            async for columns in parts:
                yield columns

    async def follow_columns(
        self,
        stream: str,
        *,
        from_sequence: int,
        batch: int,
        anew: Callable[[], None] | None = None,
        pace: Pace | None = None,
    ) -> AsyncGenerator[Columns, None]:
        """What a stream holds from a sequence on, and what comes: all that is there whenever it is asked for, up to ``batch``
        messages; it is not touched meanwhile. Never ends. Errors as `read_batches`.

        ``anew`` is called when it goes on over another connection, and all that came over the last one was taken: of a server
        that died, that may be what it lost. Where a ``pace`` is given, it is asked before more is read.
        """
        reader = BulkReader(self.link, self.api, stream, from_sequence, None, as_it_comes, anew, pace)
        async with aclosing(reader.parts()) as parts:
            async for columns in parts:
                for start in range(0, len(columns), batch):
                    yield columns.part(start, start + batch)

    def read_in_bulk(
        self, stream: str, way: Way[P], *, from_sequence: int, until_sequence: int
    ) -> AsyncGenerator[P | Columns, None]:
        """Likewise, read in another way: what that makes of the messages, and the columns of those that it could not read."""
        return BulkReader(self.link, self.api, stream, from_sequence, until_sequence, way).parts()

    async def follow(
        self,
        filter: str,  # noqa: A002 - as above
        first: str,
        *,
        stream: str = EVENTS,
        patience_s: float,
        wakes: Callable[[str], bool] = lambda _subject: True,
    ) -> AsyncGenerator[Stored, None]:
        """The `history` of a few messages, and what comes behind it, each once and in order; without a consumer.

        What comes on a subject of which ``wakes`` is false comes with the next message of which it is true, or within seconds.
        Ends at once where there is nothing on the subject `first`, and else never: leave with `contextlib.aclosing`.
        Survives restarts of the server; BusUnreachable once none has answered for `patience_s`. StreamRewound if the stream
        loses what was read; StreamMissing.
        """
        wanted = Followed(stream, filter, first, patience_s, wakes)
        async with aclosing(Follower(self.link, self.api, self._reading, wanted).batches()) as batches:
            async for messages in batches:
                for message in messages:
                    yield message

    def subscribe(self, subject: str, *, on_gap: Callable[[], None] | None = None) -> Notices:
        """Notices on a subject; see `Notices`."""
        return Notices(self.link, subject, on_gap)

    async def stream_info(self, stream: str) -> Json:
        """The server's `config` and `state` (`messages`, `first_seq`, `last_seq`, `bytes` …) of a stream; StreamMissing."""
        return await self.api.stream_info(stream)


__all__ = ["Appended", "Bus"]
