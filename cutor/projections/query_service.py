"""Answers questions in SQL while the projector writes, over the wire as `questions` has it.

Every question runs in a process of its own (`query_worker`) on a copy of the views that holds all that was committed when it
came.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.service import Service
from cutor.projections.errors import ViewsRejected
from cutor.projections.questions import (
    LONGEST_TIMEOUT_S,
    MOST_ROWS,
    PARAMETERS,
    SQL_CHARACTERS,
    SUBJECT,
    Failure,
    FailureKind,
    Question,
)
from cutor.projections.snapshots import Snapshots

log = logging.getLogger(__name__)

ANSWER_BYTES: Final = 32 << 20
"""Most bytes of an answer's rows."""
MEMORY_BYTES: Final = 512 << 20
AT_ONCE: Final = 2
"""Questions that run at one time."""
WAITING: Final = 32
"""Further questions that may wait for their turn; more are turned away."""

_WORKER: Final = Path(__file__).with_name("query_worker.py")


class _NotAnswered(Exception):
    """Carries the document that says why."""

    def __init__(self, error: str, kind: FailureKind = "query") -> None:
        super().__init__(error)
        self.failure = Failure(error=error, kind=kind)


class QueryService:
    """Serves questions as long as its ``async with`` lasts."""

    def __init__(self, bus: Bus, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._service = Service(bus, SUBJECT, self._serve)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._present = 0

    async def __aenter__(self) -> Self:
        await self._service.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._service.__aexit__(kind, error, trace)

    async def _serve(self, body: bytes) -> bytes:
        """Return the answer to a question's document, or the document that says why there is none."""
        self._present += 1
        try:
            return await self._take_turn(self._read(body))
        except _NotAnswered as reason:
            return msgspec.json.encode(reason.failure)
        except ViewsRejected as rejection:
            return msgspec.json.encode(Failure(error=f"{rejection}: ask again", kind="unavailable"))
        except Exception:
            log.exception("a query was not answered")
            return msgspec.json.encode(Failure(error="a fault of the projector's: its log has more", kind="unavailable"))
        finally:
            self._present -= 1

    def _read(self, body: bytes) -> Question:
        if self._present > AT_ONCE + WAITING:
            raise _NotAnswered("too many questions wait already: ask again later", "unavailable")
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
            async with asyncio.timeout(timeout_s), self._turns:
                begun = True
                return await self._answer(question, timeout_s)
        except TimeoutError as error:
            waited = f"the query waited {timeout_s:g} s for its turn behind others and was not begun: ask again later"
            took = f"the query took longer than {timeout_s:g} s and was stopped"
            raise _NotAnswered(took if begun else waited, "timeout") from error

    async def _answer(self, question: Question, timeout_s: float) -> bytes:
        document = {
            "snapshot": str(await self._snapshots.current()),
            "sql": question.sql,
            "parameters": question.parameters,
            "rows": min(max(question.rows, 1), MOST_ROWS),
            "answer_bytes": ANSWER_BYTES,
            "memory_bytes": MEMORY_BYTES,
            "cpu_s": int(timeout_s) + 1,
        }
        answer = await _run_worker(msgspec.json.encode(document) + b"\n")
        if not answer:
            raise _NotAnswered("the query was stopped: it needs more memory or time than it may have")
        return answer


async def _run_worker(document: bytes) -> bytes:
    """Run a worker on a question; return what it wrote, empty where it died. It never outlives this call."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(_WORKER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LANG": "C.UTF-8"},
        cwd="/",
    )
    try:
        written, _ = await process.communicate(document)
        return written
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
