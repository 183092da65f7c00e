"""The stream as the harness reads it: every message, once, as plain JSON, by submission."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from tests.fault.at_cleaned import AtCleaned
from tests.fault.invariants import TERMINAL, Entry

EVENTS: Final = "EVENTS"
FROM_CLIENTS: Final = ("submitted", "cancelled")


class History:
    """What came into EVENTS so far, and a way to wait for more. ``work_ns``: the stream's times of what roles appended.

    ``cleaned_at``: when `time.monotonic` a submission was seen to be cleaned. ``at_cleaned`` looks at the host then.
    """

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self.message_ids: list[str] = []
        self.last_sequence = 0
        self.work_ns: list[int] = []
        self.cleaned_at: dict[str, float] = {}
        self.at_cleaned = AtCleaned()
        self._came = asyncio.Condition()

    async def take(self, stored: Stored) -> None:
        """Take the next message."""
        self.last_sequence = stored.sequence
        self.message_ids.append(stored.message_id or "")
        words = stored.subject.split(".")
        if len(words) == 5 and words[:2] == ["cutor", "ev"]:
            entry = entry_of(stored, words[4])
            if entry is not None:
                self.entries[words[3]].append(entry)
                if entry.kind not in FROM_CLIENTS:
                    self.work_ns.append(stored.time_ns)
                if entry.kind == "cleaned":
                    self.at_cleaned.look(words[3], entry)
                    self.cleaned_at.setdefault(words[3], time.monotonic())
        async with self._came:
            self._came.notify_all()

    def done(self, identity: str) -> bool:
        """Return whether a submission has ended and was cleaned."""
        kinds = {entry.kind for entry in self.entries.get(identity, ())}
        return "cleaned" in kinds and not kinds.isdisjoint(TERMINAL)

    def has(self, identity: str, kind: str, role: str = "") -> bool:
        """Return whether an event is there; of leases, whether one of a role."""
        return any(
            entry.kind == kind and (not role or entry.body["lease"]["role"] == role) for entry in self.entries.get(identity, ())
        )

    async def until(self, identity: str, kind: str, role: str = "", *, timeout_s: float) -> None:
        """Return when an event is there. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s), self._came:
            await self._came.wait_for(lambda: self.has(identity, kind, role))

    def caused_by(self, identity: str) -> list[str]:
        """Return the submissions that name another one as their cause."""
        return [one for one, entries in self.entries.items() if entries and entries[0].body.get("caused_by") == identity]

    async def until_done(self, identities: Collection[str], *, timeout_s: float) -> list[str]:
        """Return when all have ended and are cleaned, or the time is up: those that are not."""
        try:
            async with asyncio.timeout(timeout_s), self._came:
                await self._came.wait_for(lambda: all(map(self.done, identities)))
        except TimeoutError:
            pass
        return [one for one in identities if not self.done(one)]

    async def until_read(self, sequence: int, *, timeout_s: float) -> None:
        """Return when the stream was read up to a sequence. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s), self._came:
            await self._came.wait_for(lambda: self.last_sequence >= sequence)


def entry_of(stored: Stored, kind: str) -> Entry | None:
    """Return a message in the form that the invariants look at; None for one that is no JSON object: garbage of the harness."""
    try:
        body = json.loads(stored.body)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    return Entry(stored.sequence, kind, stored.message_id or "", body, stored.time_ns)


@asynccontextmanager
async def following(bus: Bus) -> AsyncIterator[History]:
    """Keep a history up to date while the block lasts. A stream that lost what was read ends the block with its error."""
    history = History()
    owner = asyncio.current_task()
    assert owner is not None
    failure: list[BaseException] = []

    async def follow() -> None:
        try:
            async with aclosing(bus.read(EVENTS, follow=True)) as messages:
                async for stored in messages:
                    await history.take(stored)
        except Exception as error:
            failure.append(error)
            owner.cancel()

    task = asyncio.create_task(follow(), name="history")
    try:
        yield history
    except asyncio.CancelledError:
        if failure:
            owner.uncancel()
            raise failure[0] from None
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
