"""Who refers to which bodies: submissions that have not ended or are parked, and environments that stand.

Folded from both streams in their order, and gone on with where that ended. Of a submission that ended nothing is kept; whoever
acts on what is found here looks at that submission once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec

from cutor.bus.bodies import BodyRef, body_subject, check_reference
from cutor.bus.connection import Bus
from cutor.bus.errors import BodyCorrupt
from cutor.journal.environments import Environments
from cutor.journal.journal import Journal
from cutor.journal.parked import ParkedSubmissions
from cutor.journal.versions import EventNewer
from cutor.model.environments import EnvironmentBuilt, EnvironmentRemoved
from cutor.model.messages import SUBMITTED, Unreadable, read_environment, read_message
from cutor.model.nesting import check_nesting
from cutor.model.state import TERMINAL, Folding, Stamp, outline
from cutor.model.subjects import ENVIRONMENTS, EVENTS, Address, parse_environment_subject, parse_event_subject
from cutor.projections.archive.unended import Message

MARK: Final = b'"sha256"'
"""Stands in every message that has a reference, as cutor writes it."""
SUBJECTS: Final = "cutor.body."
CHUNK_DIGITS: Final = 6
"""More than the number of any chunk has; whatever is published under a subject, it is cheap to read."""
BATCH: Final = 5000
"""Events that are read at one time for the contents they refer to."""


class Holder(NamedTuple):
    """Who refers to a body: a submission, or else the environment of a key."""

    address: Address | None = None
    key: str = ""

    def __str__(self) -> str:
        return f"the environment {self.key}" if self.address is None else f"the submission {self.address}"


class References:
    """References of a log, as far as it was read: `catch_up` goes on."""

    def __init__(self) -> None:
        self._folding: dict[Address, Folding] = {}
        self._refs: dict[Holder, frozenset[BodyRef]] = {}
        self._read: Counter[str] = Counter()

    async def catch_up(self, bus: Bus) -> None:
        """Read what both streams have come to hold since. Raises `StreamRewound` where they have lost what was read."""
        for stream in (EVENTS, ENVIRONMENTS):
            reading = bus.read_batches(stream, from_sequence=self._read[stream] + 1, batch=BATCH)
            async with aclosing(reading) as batches:
                async for batch in batches:
                    for message in batch:
                        self.take(stream, message)
                    self._read[stream] = batch[-1].sequence

    def holders(self) -> Holders:
        """Return who refers to what by now."""
        return Holders(self._refs)

    def take(self, stream: str, message: Message) -> None:
        """Take one more message of a stream. Pure."""
        if stream == EVENTS:
            self._take_event(message)
        else:
            self._take_environment(message)

    def _take_event(self, message: Message) -> None:
        parsed = parse_event_subject(message.subject)
        if parsed is None:
            return
        holder, folding = Holder(parsed.address), self._folding.get(parsed.address)
        if folding is None:
            if parsed.kind != SUBMITTED:
                return
            folding = self._folding[parsed.address] = Folding(parsed.address)
        self._refer(holder, message)
        state = folding.take(read_message(message.subject, message.body), Stamp(message.sequence, message.time_ns))
        if state is None:
            return
        folding.state = outline(state)
        if state.status in TERMINAL:
            del self._folding[parsed.address]
            if state.status != "PARKED":
                self._refs.pop(holder, None)

    def _take_environment(self, message: Message) -> None:
        key = parse_environment_subject(message.subject)
        if key is None:
            return
        event = read_environment(message.subject, message.body)
        if isinstance(event, EnvironmentBuilt | EnvironmentRemoved):
            self._refs.pop(Holder(key=key), None)
        if isinstance(event, EnvironmentBuilt | Unreadable):  # which may be one that a newer cutor wrote
            self._refer(Holder(key=key), message)

    def _refer(self, holder: Holder, message: Message) -> None:
        if found := references_in(message.body):
            self._refs[holder] = self._refs.get(holder, frozenset()) | found


class Holders:
    """Who refers to which bodies, by the hash of their content."""

    def __init__(self, refs: Mapping[Holder, frozenset[BodyRef]]) -> None:
        self._by_hash: dict[str, list[tuple[BodyRef, Holder]]] = {}
        for holder, those in refs.items():
            for ref in those:
                self._by_hash.setdefault(ref.sha256, []).append((ref, holder))

    @property
    def hashes(self) -> list[str]:
        """All hashes that somebody refers to."""
        return list(self._by_hash)

    def of(self, subject: str) -> list[Holder]:
        """Return who refers to a subject of BODIES."""
        return [holder for those in self.among([subject]).values() for holder in those]

    def among(self, subjects: Iterable[str]) -> dict[BodyRef, list[Holder]]:
        """Return the references to contents of which a chunk is under one of these subjects of BODIES, and who has them."""
        found: dict[BodyRef, dict[Holder, None]] = {}
        for subject in subjects:
            name, _, chunk = subject.removeprefix(SUBJECTS).rpartition(".")
            if not (chunk.isdecimal() and len(chunk) <= CHUNK_DIGITS):
                continue
            for ref, holder in self._by_hash.get(name.partition("-")[0], ()):
                if int(chunk) < ref.chunks and body_subject(ref.sha256, int(chunk), ref.salt) == subject:
                    found.setdefault(ref, {})[holder] = None
        return {ref: [*those] for ref, those in found.items()}


def references_in(body: bytes) -> frozenset[BodyRef]:
    """Return the references to BODIES that a message holds, wherever in it. Pure."""
    if MARK not in body:
        return frozenset()
    try:
        check_nesting(body)
        return frozenset(_references(msgspec.json.decode(body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()


def _references(value: Any) -> Iterator[BodyRef]:
    if isinstance(value, list):
        for one in value:
            yield from _references(one)
    if not isinstance(value, dict):
        return
    if "sha256" in value:
        try:
            ref = msgspec.convert(value, BodyRef)
            check_reference(ref)
        except (msgspec.ValidationError, BodyCorrupt):
            pass
        else:
            yield ref
    for one in value.values():
        yield from _references(one)


async def still_refers(journal: Journal, holder: Holder) -> bool:
    """Whether a submission has not ended, or is parked and nobody has decided about it; whether an environment stands.

    What only a newer cutor can read of it counts as a yes.
    """
    try:
        return await _refers_now(journal, holder)
    except EventNewer:
        return True


async def _refers_now(journal: Journal, holder: Holder) -> bool:
    if holder.address is None:
        return await Environments(journal.bus).find(holder.key, consistent=True) is not None
    state = await journal.state(holder.address)
    if state is None or (state.status in TERMINAL and state.status != "PARKED"):
        return False
    return state.status != "PARKED" or not await ParkedSubmissions(journal).decided(state)
