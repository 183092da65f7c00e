"""A range of the log, read again as it stands there: which messages it has, and each as a line of JSON.

A range ends where the stream ended when it was asked for: what comes meanwhile is not in it. Both ends belong to it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.errors import REFUSED, CutorError
from cutor.model.moments import Moment, Place, Sequence, exact_time
from cutor.model.nesting import check_nesting
from cutor.model.request import UNREADABLE
from cutor.model.subjects import ENVIRONMENTS, EVENTS

BATCH: Final = 1000
"""Events that are read at one time."""


class RangeEmpty(CutorError):
    """The range ends before it begins; the message names both ends."""

    exit_code = REFUSED


class NoSuchMessage(CutorError):
    """A message by which a place is named is not in its stream any more."""

    exit_code = REFUSED


class BeginningGone(CutorError):
    """Messages that a range asks for are gone from the stream, and no archive here has them; the message says what to do."""

    exit_code = REFUSED


class NotYet(CutorError):
    """The log has not come to a place yet."""

    exit_code = REFUSED


class Span(NamedTuple):
    """Sequences of a stream, from ``first`` to ``last``, both included; none where ``first`` is the greater one."""

    first: int
    last: int

    @property
    def empty(self) -> bool:
        """Whether no message can be in it."""
        return self.first > self.last


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as a line. ``event`` is its body byte by byte where that is JSON without a line break, else ``body_base64``."""

    stream: str
    sequence: int
    time: str
    subject: str
    message_id: str | None
    headers: dict[str, str] = {}
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body_base64: bytes | msgspec.UnsetType = msgspec.UNSET


class Past(Protocol):
    """A stream with what it has let go of; `cutor.projections.archive.joined.Joined` is one."""

    first: int
    last: int

    async def first_since(self, time_ns: int) -> int: ...
    async def time_of(self, sequence: int) -> int | None: ...
    def read_batches(
        self, *, from_sequence: int, until_sequence: int | None, batch: int
    ) -> AsyncGenerator[list[Stored], None]: ...


NO_PAST: Final[Mapping[str, Past]] = MappingProxyType({})


async def span_of(bus: Bus, stream: str, begin: Place | None, end: Place | None, past: Past | None = None) -> Span:
    """Return the sequences between two places; what lies beyond the ends of the stream, or of its past, is left out.

    Raises `RangeEmpty` where the places contradict each other, `StreamMissing`.
    """
    _check_order(begin, end)
    state = (await bus.stream_info(stream))["state"]
    first, last = (max(1, int(state["first_seq"])), int(state["last_seq"])) if past is None else (past.first, past.last)
    if begin is not None:
        first = max(first, await _first_at(bus, stream, begin, past))
    if end is not None:
        last = min(last, await last_until(bus, stream, end, past))
    return Span(first, last)


async def spans_of(bus: Bus, begin: Place | None, end: Place | None, past: Mapping[str, Past] = NO_PAST) -> dict[str, Span]:
    """Return the sequences of EVENTS between two places, and those of ENVIRONMENTS from its beginning up to the same moment.

    An environment that stood before the range began is one that submissions within it use. Raises as `span_of`, and
    `NoSuchMessage`.
    """
    events = await span_of(bus, EVENTS, begin, end, past.get(EVENTS))
    moment = end if end is None or isinstance(end, Moment) else await _moment(bus, end, past.get(EVENTS))
    environments = await span_of(bus, ENVIRONMENTS, None, moment, past.get(ENVIRONMENTS))
    return {EVENTS: events, ENVIRONMENTS: environments}


async def _moment(bus: Bus, place: Sequence, past: Past | None) -> Moment | None:
    """Return the moment of a message of EVENTS; None for a sequence behind the last."""
    if place.number > int((await bus.stream_info(EVENTS))["state"]["last_seq"]):
        return None
    if past is not None and (time_ns := await past.time_of(place.number)) is not None:
        return Moment(time_ns)
    stored = await bus.get(EVENTS, place.number, consistent=True)
    if stored is None:
        raise NoSuchMessage(f"EVENTS has no message {place.number} any more: give a time in its place")
    return Moment(stored.time_ns)


async def begins_late(bus: Bus, stream: str, begin: Place | None, past: Past | None = None) -> int | None:
    """Return the first sequence that there is, where what came before it and is gone may belong to a range that begins here.

    None where nothing of the range is gone.
    """
    first = await _first_kept(bus, stream) if past is None else past.first
    if first <= 1:
        return None
    if isinstance(begin, Moment):
        oldest_ns = await _time_of(bus, stream, first, past)
        return None if oldest_ns is not None and oldest_ns < begin.time_ns else first
    return first if begin is None or begin.number < first else None


async def check_reached(bus: Bus, place: Place, now_ns: int) -> None:
    """Raise `NotYet` for a place that the log has not come to: how things stand then, nobody can say."""
    if isinstance(place, Moment):
        if place.time_ns > now_ns:
            raise NotYet(f"{place} is yet to come: how things stand then, nobody can say")
        return
    last = int((await bus.stream_info(EVENTS))["state"]["last_seq"])
    if place.number > last:
        raise NotYet(f"EVENTS ends at {last}: it has not come to {place} yet")


async def last_until(bus: Bus, stream: str, place: Place, past: Past | None = None) -> int:
    """Return the last sequence that is not behind a place: of a moment, everything of that moment is before it."""
    if isinstance(place, Moment):
        return await _first_since(bus, stream, place.time_ns + 1, past) - 1
    return place.number


async def _first_kept(bus: Bus, stream: str) -> int:
    return int((await bus.stream_info(stream))["state"]["first_seq"])


async def _time_of(bus: Bus, stream: str, sequence: int, past: Past | None) -> int | None:
    if past is not None:
        return await past.time_of(sequence)
    stored = await bus.get(stream, sequence, consistent=True)
    return None if stored is None else stored.time_ns


async def _first_at(bus: Bus, stream: str, place: Place, past: Past | None) -> int:
    return await _first_since(bus, stream, place.time_ns, past) if isinstance(place, Moment) else place.number


async def _first_since(bus: Bus, stream: str, time_ns: int, past: Past | None) -> int:
    return await (bus.first_since(stream, time_ns) if past is None else past.first_since(time_ns))


def _check_order(begin: Place | None, end: Place | None) -> None:
    if type(begin) is type(end) and begin is not None and end is not None and begin > end:
        raise RangeEmpty(f"the range has nothing in it: it would begin at {begin} and end at {end}")


async def lines(
    bus: Bus, stream: str, span: Span, *, beneath: str | None = None, past: Past | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a range, many at a time, in the order of the stream; ``beneath``: of subjects that begin so alone.

    With a ``past``, from there. Raises `StreamRewound`, `BusUnreachable`, and errors of the archive.
    """
    if span.empty:
        return
    if past is None:
        matching = () if beneath is None else f"{beneath}.>"
        batches = bus.read_batches(stream, filter=matching, from_sequence=span.first, until_sequence=span.last, batch=BATCH)
    else:
        batches = past.read_batches(from_sequence=span.first, until_sequence=span.last, batch=BATCH)
    async with aclosing(batches):
        async for batch in batches:
            if wanted := [one for one in batch if beneath is None or one.subject.startswith(f"{beneath}.")]:
                yield b"".join(map(line_of, wanted))


def line_of(stored: Stored) -> bytes:
    """Return a message as one line of JSON, with its line end."""
    line = Line(
        stream=stored.stream,
        sequence=stored.sequence,
        time=exact_time(stored.time_ns),
        subject=stored.subject,
        message_id=stored.message_id,
        headers=dict(stored.headers),
        **_body(stored.body),
    )
    return msgspec.json.encode(line) + b"\n"


def _body(body: bytes) -> dict[str, Any]:
    """Return the field that has a body: in the place of a value where it can stand there as it is."""
    if b"\n" in body or b"\r" in body:
        return {"body_base64": body}
    try:
        check_nesting(body)
        msgspec.json.decode(body)
    except UNREADABLE:
        return {"body_base64": body}
    return {"event": msgspec.Raw(body)}
