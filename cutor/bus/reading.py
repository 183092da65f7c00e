"""Reading stored messages without a consumer: single ones and the whole history of one submission.

**How fresh.** With one replica every read sees every append that was acknowledged before it. With three, `allow_direct`
lets any replica answer, so a plain read may be a few messages behind. The leader is never behind; `at_least` and
`consistent` make a reader ask it for exactly the messages that the direct answer lacks, one by one, and so end after as
many steps as messages are missing.

**How much.** Anybody may publish under a submission's subjects, as much as the stream takes. So histories come in batches that
are bounded in number and bytes: who folds them needs to hold one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from cutor.bus.api import ATTEMPT_S, DEFAULT_TIMEOUT_S, Api, until_answered
from cutor.bus.errors import BusError
from cutor.bus.link import Link, is_status
from cutor.bus.message import LeaderMessage, Stored, from_direct, from_leader
from cutor.bus.waiting import NoAnswer

BATCH: Final = 1000
"""Most messages of one batched direct get."""
BATCH_BYTES: Final = 9 << 20
"""Most bytes of one batched direct get; more than the largest message (8 MiB), so that each batch brings one at least."""
NO_MESSAGE: Final = 10037
"""Error code of the JetStream API of NATS: the stream has no such message."""

Query = dict[str, Any]


class _LeaderAnswer(msgspec.Struct):
    message: LeaderMessage | None = None
    error: dict[str, Any] | None = None


_LEADER_ANSWER: Final = msgspec.json.Decoder(_LeaderAnswer)
"""Made here, since clients read in threads: two that make msgspec learn a type at one time can crash the interpreter."""


class Reading:
    """The read side of a bus."""

    def __init__(self, link: Link, api: Api) -> None:
        self._link = link
        self._api = api

    async def direct(self, stream: str, query: Query, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Stored | None:
        """One message by `{"seq": …}` or `{"last_by_subj": …}` from any replica; None if there is none."""
        body = msgspec.json.encode(query)

        async def attempt(until: float) -> Stored | None:
            answer = await self._link.ask(f"$JS.API.DIRECT.GET.{stream}", body, until=until, again_every_s=ATTEMPT_S)
            if is_status(answer):
                _expect_not_found(stream, answer.headers)
                return None
            return from_direct(stream, answer.headers, answer.data)

        return await until_answered(
            self._link, attempt, timeout_s=timeout_s, unserved=lambda: self._api.require_stream(stream), whole=True
        )

    async def leader(self, stream: str, query: Query, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Stored | None:
        """The same, from the stream's leader, which has every acknowledged message."""
        body = msgspec.json.encode(query)

        async def attempt(until: float) -> Stored | None:
            message = await self._link.ask(f"$JS.API.STREAM.MSG.GET.{stream}", body, until=until, again_every_s=ATTEMPT_S)
            answer = _LEADER_ANSWER.decode(message.data)
            if answer.message is not None:
                return from_leader(stream, answer.message)
            code = (answer.error or {}).get("err_code")
            if code != NO_MESSAGE:
                await self._api.require_stream(stream)
                raise NoAnswer(f"stream {stream} cannot be read at the moment (code {code})")
            return None

        return await until_answered(
            self._link, attempt, timeout_s=timeout_s, unserved=lambda: self._api.require_stream(stream), whole=True
        )

    async def oldest(self, stream: str, subject: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Stored | None:
        """The oldest message on a subject without wildcards; None where there is none, and the leader was asked, too.

        Not the newest: a stranger's later message on the subject that opens a history must not become its beginning, whatever
        headers it carries. The server has an index of plain subjects: 0.6 ms behind 100,000 messages of others.
        """
        query = {"seq": 1, "next_by_subj": subject}
        oldest = await self.direct(stream, query, timeout_s=timeout_s)
        return oldest if oldest is not None else await self.leader(stream, query, timeout_s=timeout_s)

    async def history(
        self, stream: str, *, matching: str, first: str, at_least: int, consistent: bool, timeout_s: float
    ) -> AsyncGenerator[list[Stored], None]:
        """See `Bus.history_batches`. Two round trips for one message, four for more, however many lie behind in the stream."""
        read = self.leader if consistent else self.direct
        opening, newest = await asyncio.gather(
            self.oldest(stream, first, timeout_s=timeout_s),
            read(stream, {"last_by_subj": matching}, timeout_s=timeout_s),
        )
        if opening is None:
            return
        at_least = max(at_least, newest.sequence if newest else 0)
        sequence = opening.sequence
        yield [opening]
        del opening, newest  # as large as a message may be
        if sequence < at_least:
            async with aclosing(self.since(stream, sequence, matching, at_least, timeout_s)) as batches:
                async for batch in batches:
                    yield batch

    async def since(
        self, stream: str, sequence: int, matching: str, at_least: int, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> AsyncGenerator[list[Stored], None]:
        """All matching messages behind `sequence` in order: those that a replica has, and from the leader what it lacks of
        those up to `at_least`.
        """
        async with aclosing(self.behind(stream, sequence, matching, timeout_s)) as batches:
            async for batch in batches:
                sequence = batch[-1].sequence
                yield batch
        while sequence < at_least:
            query = {"seq": sequence + 1, "next_by_subj": matching}
            following = await self.leader(stream, query, timeout_s=timeout_s)
            if following is None:
                return
            sequence = following.sequence
            yield [following]

    async def behind(
        self, stream: str, sequence: int, matching: str, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> AsyncGenerator[list[Stored], None]:
        """All matching messages behind `sequence` in order, as far as the replica that answers has them.

        Asks for one message first, whose answer says how many follow, then for exactly so many: a server that is asked for
        more looks for them through the whole rest of the stream (26 ms instead of 0.5 with 300,000 messages behind).
        """
        pending = 1
        while pending > 0:
            batch, pending = await self.batch(stream, sequence + 1, matching, pending, timeout_s)
            if not batch:
                return
            sequence = batch[-1].sequence
            yield batch

    async def batch(
        self, stream: str, sequence: int, matching: str, count: int, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> tuple[list[Stored], int]:
        """One batched direct get: up to `count` matching messages from `sequence` on, and how many more are waiting."""
        count = min(count, BATCH)
        body = msgspec.json.encode({"seq": sequence, "next_by_subj": matching, "batch": count, "max_bytes": BATCH_BYTES})

        async def attempt(until: float) -> tuple[list[Stored], int]:
            *answers, end = await self._link.ask_many(f"$JS.API.DIRECT.GET.{stream}", body, until=until)
            status = end.headers or {}
            if status.get("Status") != "204":
                _expect_not_found(stream, status)
                return [], 0
            batch = [stored for answer in answers if (stored := from_direct(stream, answer.headers, answer.data))]
            if batch and int(status.get("Nats-Last-Sequence", 0)) != batch[-1].sequence:
                raise NoAnswer("the batch is not complete")
            return batch, int(status.get("Nats-Num-Pending", 0))

        return await until_answered(self._link, attempt, timeout_s=timeout_s, unserved=lambda: self._api.require_stream(stream))


def _expect_not_found(stream: str, headers: dict[str, str] | None) -> None:
    status = (headers or {}).get("Status")
    if status != "404":
        raise BusError(f"stream {stream}: the server refused a read with status {status}: {(headers or {}).get('Description')}")
