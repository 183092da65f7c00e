"""Answers questions in SQL while the projector writes, over the wire as `questions` has it.

Runs in a process of its own (`process`); every question runs in another one (`executors`), on a copy of the views
(`copies`) that holds all that was committed when it came, or some time before, if that is enough for who asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.bus.service import Service
from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.projections.errors import ViewsRejected
from cutor.projections.queries.copies import Copies
from cutor.projections.queries.executors import ExecutorsGone, Holder
from cutor.projections.queries.link import LinkClosed, Tell
from cutor.projections.queries.questions import (
    LONGEST_TIMEOUT_S,
    MOST_ROWS,
    PARAMETERS,
    SQL_CHARACTERS,
    SUBJECT,
    AsOf,
    Failure,
    FailureKind,
    Question,
    Standing,
)
from cutor.projections.queries.turns import TurnOver, Turns

log = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Questions that run at one time."""
LONG_S: Final = 5.0
"""Where all of them have run for so long, and others wait, the newest of them is stopped: one place at least changes hands."""
WAITING: Final = 32
"""Further questions that may wait for their turn; more are turned away."""
ENDS_AGE_S: Final = 0.05
"""How long the ends of the streams are taken for known."""


class _NotAnswered(Exception):
    """Carries the document that says why, and what is counted."""

    def __init__(self, error: str, kind: FailureKind = "query", *, result: str = "refused") -> None:
        super().__init__(error)
        self.failure = Failure(error=error, kind=kind)
        self.result = result


class _Refusal(msgspec.Struct):
    """What an executor says where it has no answer; ``stopped``: for want of memory."""

    error: str
    stopped: bool = False


class QueryService:
    """Serves questions as long as its ``async with`` lasts."""

    def __init__(self, bus: Bus, copies: Copies, tell: Tell, *, max_age_s: float) -> None:
        self._copies = copies
        self._tell = tell
        self._max_age_s = max_age_s
        self._ends = _Ends(bus)
        self._service = Service(bus, SUBJECT, self._serve)
        self._turns = Turns(AT_ONCE, LONG_S)
        self._present = 0

    async def __aenter__(self) -> Self:
        await self._service.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._service.__aexit__(kind, error, trace)

    async def _serve(self, body: bytes) -> bytes:
        """Return the answer to a question's document, or the document that says why there is none; count it."""
        loop = asyncio.get_running_loop()
        came_s = loop.time()
        self._present += 1
        try:
            answer, result = await self._take_turn(self._read(body)), "answered"
            self._tell(Observation(table.ANSWER_BYTES, float(len(answer))))
        except _NotAnswered as reason:
            answer, result = msgspec.json.encode(reason.failure), reason.result
        except Exception as error:
            answer, result = msgspec.json.encode(Failure(error=_why_unavailable(error), kind="unavailable")), "unavailable"
        finally:
            self._present -= 1
        self._tell(Observation(table.QUESTIONS, labels=(result,)), Observation(table.QUESTION_TIME, loop.time() - came_s))
        return answer

    def _read(self, body: bytes) -> Question:
        if self._present > AT_ONCE + WAITING:
            raise _NotAnswered("too many questions wait already: ask again later", "unavailable", result="busy")
        try:
            question = msgspec.json.decode(body, type=Question)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _NotAnswered(f"not a question: {error}") from error
        if len(question.sql) > SQL_CHARACTERS:
            raise _NotAnswered(f"the statement has more than {SQL_CHARACTERS} characters")
        if len(question.parameters) > PARAMETERS:
            raise _NotAnswered(f"the question has more than {PARAMETERS} parameters")
        return question

    async def _take_turn(self, question: Question) -> bytes:
        timeout_s = min(max(question.timeout_s, 0.1), LONGEST_TIMEOUT_S)
        begun = False
        try:
            async with asyncio.timeout(timeout_s), self._turns.turn() as begin:
                begun = True
                return await self._answer(question, timeout_s, begin)
        except TurnOver as error:
            why = (
                f"the query was stopped after {LONG_S:g} s or more: {AT_ONCE} long ones ran, and others waited: ask again later"
            )
            raise _NotAnswered(why, "unavailable", result="busy") from error
        except TimeoutError as error:
            waited = f"the query waited {timeout_s:g} s for its turn behind others and was not begun: ask again later"
            took = f"the query took longer than {timeout_s:g} s and was stopped"
            raise _NotAnswered(took if begun else waited, "timeout", result="timeout") from error

    async def _answer(self, question: Question, timeout_s: float, begin: Callable[[], None]) -> bytes:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        max_age_s = self._max_age_s if question.max_age_s is None else max(0.0, question.max_age_s)
        views = await self._copies.current(max_age_s)
        head = msgspec.json.encode(await self._standing(views))
        rows = min(max(question.rows, 1), MOST_ROWS)
        begin()  # the copy, for which all wait, is nobody's turn
        answer = await views.ask(question.sql, question.parameters, rows=rows, time_s=end_s - loop.time())
        if not answer and loop.time() >= end_s:
            raise TimeoutError  # the kernel was faster
        if not answer:
            raise _NotAnswered("the query was stopped: it needs more memory or time than it may have", result="stopped")
        if answer.startswith(b'{"error"'):
            refusal = msgspec.json.decode(answer, type=_Refusal)
            raise _NotAnswered(refusal.error, result="stopped" if refusal.stopped else "refused")
        return head[:-1] + b"," + answer[1:]

    async def _standing(self, views: Holder) -> Standing:
        """Return up to where the views go, and how far that is behind the streams: null where the server says nothing."""
        as_of = {moment.stream: moment.as_of() for moment in views.as_of}
        try:
            ends = await self._ends.read(as_of)
        except BusError:
            behind = None
        else:
            behind = {name: ends[name].beyond(at) for name, at in as_of.items()}
        return Standing(as_of=as_of, behind=behind, views_bytes=views.views_bytes)


def _why_unavailable(error: Exception) -> str:
    """Return why there is no answer whatever was asked, in one line; what is not foreseen goes into the log."""
    match error:
        case ViewsRejected() | ExecutorsGone():
            return f"{error}: ask again"
        case LinkClosed():
            return "the projector stops: ask again"
        case OSError():
            log.error("no copy of the views can be made: %s", error)
            return f"the projector cannot copy the views: {error.strerror or error}"
    log.error("a query was not answered", exc_info=error)
    return "a fault of the projector's: its log has more"


class _Range(NamedTuple):
    """The first and last sequence of a stream."""

    first: int
    last: int

    def beyond(self, at: AsOf) -> int:
        """Return how many messages the stream holds beyond views; where these wait for what it has let go of, with that."""
        return max(0, self.last - (at.sequence if at.waits_for else max(at.sequence, self.first - 1)))


class _Ends:
    """The first and last sequences of streams, asked for once in a while, however many questions there are."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: dict[str, _Range] = {}
        self._read_s = float("-inf")

    async def read(self, streams: Iterable[str]) -> dict[str, _Range]:
        """Return those of some streams. Raises `BusError`."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._read_s > ENDS_AGE_S:
            states = {name: (await self._bus.stream_info(name))["state"] for name in streams}
            self._known = {name: _Range(int(state["first_seq"]), int(state["last_seq"])) for name, state in states.items()}
            self._read_s = now_s
        return self._known
