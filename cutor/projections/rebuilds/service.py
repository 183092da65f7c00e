"""The projector makes its views anew because somebody asked for it (`orders`), and follows the streams meanwhile.

The new file is made beside the old one, over the same bus. What makes it safe to be killed at any point is that the old file is
whole until a rename puts the new one in its place; a draft that was left is removed at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import NotPermitted
from cutor.bus.service import Service
from cutor.errors import CutorError
from cutor.projections.archive.place import Archive
from cutor.projections.rebuilds.orders import PATIENCE_S, SUBJECT, Order, RebuildReport, subject_of
from cutor.projections.rebuilds.rebuild import FreshViews, Progress, Rebuilt, ends
from cutor.projections.rebuilds.start import Way
from cutor.projections.views_file import check_room, draft_of

log = logging.getLogger(__name__)

Swap = Callable[[FreshViews], Awaitable[Rebuilt]]
"""Brings a new file up to where the old one stands, and puts it in its place."""


class RebuildService:
    """Takes orders as long as its ``async with`` lasts; one rebuild at a time."""

    def __init__(self, bus: Bus, path: Path, swap: Swap, archive: Archive | None = None) -> None:
        self._bus = bus
        self._path = path
        self._swap = swap
        self._archive = archive
        self._rebuild: _Rebuild | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._stack.enter_async_context(Service(self._bus, SUBJECT, self._begin))
        except NotPermitted as error:  # a server whose permissions are older than this: all else goes on
            log.warning("`cutor projections rebuild` will find nobody: %s", error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        if self._rebuild is not None:
            await self._rebuild.end()

    async def _begin(self, body: bytes) -> bytes:
        if self._rebuild is not None and not self._rebuild.over:
            return msgspec.json.encode(RebuildReport(state="busy"))
        order = Order()
        with suppress(msgspec.DecodeError):
            order = msgspec.json.decode(body, type=Order)
        self._rebuild = _Rebuild(self._bus, self._path, self._swap, Way(self._archive, from_events=order.from_events))
        await self._rebuild.begin()
        return self._rebuild.report()


class _Rebuild:
    """One rebuild, and who asks about it."""

    def __init__(self, bus: Bus, path: Path, swap: Swap, way: Way) -> None:
        self._bus = bus
        self._path = path
        self._way = way
        self._swap = swap
        self._id = secrets.token_hex(8)
        self._report = RebuildReport(state="working", id=self._id)
        self._service = Service(bus, subject_of(self._id), self._asked)
        self._was_asked = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is done any more."""
        return self._report.state != "working"

    def report(self) -> bytes:
        """Return how far it is, encoded."""
        return msgspec.json.encode(self._report)

    async def begin(self) -> None:
        """Begin."""
        await self._service.__aenter__()
        self._work = asyncio.create_task(self._rebuild(), name="rebuild the views")
        self._watch = asyncio.create_task(self._give_up_unasked(), name="watch the rebuild")

    async def end(self) -> None:
        """Stop, and leave nothing behind."""
        for task in (self._watch, self._work):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _asked(self, body: bytes) -> bytes:
        self._was_asked.set()
        with suppress(msgspec.DecodeError):
            if msgspec.json.decode(body, type=Order).cancel and self._work is not None:
                self._work.cancel()
                await asyncio.wait([self._work])
        return self.report()

    async def _give_up_unasked(self) -> None:
        """Cancel the work where nobody asks; the answers end some time after the work, so that its end is heard."""
        try:
            while await self._is_asked():
                self._was_asked.clear()
            if self._work is not None and not self._work.done():
                log.warning("nobody asks for the rebuild any more: it is given up")
                self._work.cancel()
                await asyncio.wait([self._work])
        finally:
            await self._service.__aexit__(None, None, None)

    async def _is_asked(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._was_asked.wait()
        except TimeoutError:
            return False

    async def _rebuild(self) -> None:
        log.info("the views are made anew, as somebody asked for; the old ones go on meanwhile")
        try:
            check_room(self._path)
            async with FreshViews.making(self._bus, draft_of(self._path), self._tell, self._way) as fresh:
                await fresh.fold_to(await ends(self._bus))
                done = await self._swap(fresh)
            self._report = RebuildReport(
                state="done",
                id=self._id,
                messages=done.messages,
                body_bytes=done.body_bytes,
                took_s=done.took_s,
                positions=done.positions,
                begins=done.begins,
                from_fold=done.from_fold,
            )
            log.info("the views were made anew of %d messages in %.1f s", done.messages, done.took_s)
        except asyncio.CancelledError:
            log.warning("the rebuild was called off: the old views stay as they are")
            self._report = RebuildReport(state="failed", id=self._id, error="the rebuild was called off: the old views stay")
            raise
        except CutorError as error:
            self._fail(str(error))
        except Exception:
            log.exception("the views were not made anew: the old ones stay")
            self._fail("a fault of the projector's: its log has more")

    def _fail(self, error: str) -> None:
        log.error("the views were not made anew, the old ones stay: %s", error)
        self._report = RebuildReport(state="failed", id=self._id, error=error)

    def _tell(self, now: Progress) -> None:
        self._report = RebuildReport(state="working", id=self._id, **now._asdict())
