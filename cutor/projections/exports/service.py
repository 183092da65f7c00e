"""Gives the views away as a file, piece by piece, over the wire as `orders` has it.

In the process of the query service. A file that is given away has no name any more: nothing is left of it, whoever dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import NotPermitted
from cutor.bus.service import Service
from cutor.projections.errors import ViewsRejected
from cutor.projections.exports.exports import Exports
from cutor.projections.exports.orders import PART_BYTES, PATIENCE_S, SUBJECT, Begin, End, ExportReport, Order, Part
from cutor.projections.queries.executors import ExecutorsGone
from cutor.projections.queries.link import LinkClosed

log = logging.getLogger(__name__)

AT_ONCE: Final = 4
"""Files that are given away, or made, at one time; each takes as much of the disk as the views."""
_ORDERS: Final[msgspec.json.Decoder[Order]] = msgspec.json.Decoder(Order)


@asynccontextmanager
async def giving_away(bus: Bus, exports: Exports) -> AsyncIterator[None]:
    """Serve as long as this lasts; where the server's permissions are older than this, all else goes on."""
    service = _Service(exports)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(service.end)
        try:
            await stack.enter_async_context(Service(bus, SUBJECT, service.serve))
        except NotPermitted as error:
            log.warning("`cutor projections snapshot` will find nobody: %s", error)
        yield


class _File:
    """One file on its way: made, then read from an open descriptor; its name is gone by then."""

    def __init__(self, exports: Exports) -> None:
        self.id = secrets.token_hex(8)
        self.report = ExportReport(state="making", id=self.id)
        self._exports = exports
        self._descriptor: int | None = None
        self._asked = asyncio.Event()
        self.task = asyncio.create_task(self._live(), name=f"snapshot {self.id}")

    async def _live(self) -> None:
        """Make the file, and keep it as long as somebody asks for it."""
        try:
            await self._make()
            with suppress(TimeoutError):
                while True:
                    self._asked.clear()
                    async with asyncio.timeout(PATIENCE_S):  # `wait_for` of Python 3.11 can lose a cancellation
                        await self._asked.wait()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    async def _make(self) -> None:
        try:
            async with self._exports.made() as (path, moments):
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (ViewsRejected, ExecutorsGone, LinkClosed) as error:
            self.report = ExportReport(state="failed", id=self.id, error=str(error))
        except OSError as error:
            log.error("a snapshot cannot be made: %s", error)
            self.report = ExportReport(state="failed", id=self.id, error=f"the file cannot be made: {error.strerror or error}")
        else:
            as_of = {moment.stream: moment.as_of() for moment in moments}
            size_bytes = os.fstat(self._descriptor).st_size
            self.report = ExportReport(state="ready", id=self.id, size_bytes=size_bytes, as_of=as_of)

    def asked(self) -> None:
        """Note that somebody asks for it still."""
        self._asked.set()

    async def part(self, offset: int) -> bytes:
        """Return a piece of the file; empty where there is none."""
        if self._descriptor is None or not 0 <= offset <= self.report.size_bytes:
            return b""
        return await asyncio.to_thread(_read, os.dup(self._descriptor), offset)


def _read(descriptor: int, offset: int) -> bytes:
    """Read a piece, and close the descriptor, which is the caller's own: the file may be given up meanwhile."""
    try:
        return os.pread(descriptor, PART_BYTES, offset)
    finally:
        os.close(descriptor)


class _Service:
    def __init__(self, exports: Exports) -> None:
        self._exports = exports
        self._files: dict[str, _File] = {}

    async def serve(self, body: bytes) -> bytes:
        """Return the answer to an order: bytes for a `Part`, a `ExportReport` for the others."""
        try:
            order = _ORDERS.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return msgspec.json.encode(ExportReport(state="failed", error=f"no order: {error}"))
        if isinstance(order, Begin):
            return msgspec.json.encode(self._begin())
        file = self._files.get(order.id)
        if file is None:
            return b"" if isinstance(order, Part) else msgspec.json.encode(ExportReport(state="unknown", id=order.id))
        if isinstance(order, End):
            file.task.cancel()
            return msgspec.json.encode(file.report)
        file.asked()
        return await file.part(order.offset) if isinstance(order, Part) else msgspec.json.encode(file.report)

    def _begin(self) -> ExportReport:
        if len(self._files) >= AT_ONCE:
            return ExportReport(state="busy")
        file = _File(self._exports)
        self._files[file.id] = file
        file.task.add_done_callback(lambda _: self._files.pop(file.id, None))
        return file.report

    async def end(self) -> None:
        """Give up all files."""
        tasks = [file.task for file in self._files.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
