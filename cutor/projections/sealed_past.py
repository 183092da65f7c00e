"""What a projector takes from the archive: what the stream has let go of, and what is long past when it begins anew.

Where the views need what only the archive has, and it cannot be had (the archive is not mounted, or damaged), they stay as they
are: views of the stream's tail alone would look whole. They say so (`Writer.note_wait`), look again after a while, and go on by
themselves once it is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from cutor.bus.connection import Bus
from cutor.projections.archive.beginning import Beginning, find, find_other
from cutor.projections.archive.errors import ArchiveError
from cutor.projections.archive.fold_copy import FoldUnusable, check_copy
from cutor.projections.archive.folding import fold_sealed
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import state_of
from cutor.projections.errors import RebuildFailed
from cutor.projections.schema import FOLDS
from cutor.projections.views_paths import beside
from cutor.projections.writer import Writer
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
"""Pause after progress; without any it doubles, up to `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S: Final = 60.0
"""Between two looks at an archive that cannot be used: each reads a segment."""


class SealedPast:
    """The archive beside a projector's file; without one it has nothing."""

    def __init__(self, bus: Bus, writer: Writer, archive: Archive | None) -> None:
        self._bus = bus
        self._writer = writer
        self._archive = archive
        self._told: dict[str, str | None] = {}

    def gone(self, stream: str, first: int) -> bool:
        """Whether a message that the stream has let go of will not be had: there is no archive, or it begins behind that."""
        if self._archive is None:
            return True
        try:
            manifest = self._archive.manifest(stream)
        except ArchiveError:
            return False
        return manifest is not None and bool(manifest.segments) and manifest.first > first

    async def begin(self) -> bool:
        """Where the views are empty, and there is a sealed fold that may be gone by, have a copy of it in their place.

        Returns whether that was done. Whatever is wrong with it is in the log, and costs time alone. Raises the errors of the
        bus.
        """
        if self._archive is None or any(self._writer.checkpoint(stream).sequence for stream in FOLDS):
            return False
        beginning, error = await find(self._bus, self._archive), None
        if beginning is not None and (error := await self._put(beginning)) is not None:
            other = await find_other(self._bus, self._archive, beginning)
            if other is not None:
                beginning, error = other, await self._put(other)
        if error is not None:
            log.error("%s: every event is folded in place of the sealed fold", error)
        elif beginning is not None:
            log.info("the views begin with the sealed fold of %s", beginning.fold.named())
        return beginning is not None and error is None

    async def _put(self, beginning: Beginning) -> FoldUnusable | RebuildFailed | None:
        """Have a copy of a fold in the place of the views; return why not, and they are as they were."""
        copy = beside(self._writer.path, "fold")
        try:
            await beginning.put(copy)
            await asyncio.to_thread(check_copy, copy, beginning.fold)
            await to_the_end(self._writer.replace_by(copy))
        except (FoldUnusable, RebuildFailed) as error:
            return error
        finally:
            copy.unlink(missing_ok=True)
        return None

    async def fold(
        self, stream: str, *, folded: Callable[[], None], waiting: Callable[[], None], otherwise: Callable[[], str | None]
    ) -> None:
        """Fold in what the archive has behind the views' checkpoint, until the stream has what comes next.

        It calls ``folded`` after each commit. Where what comes next cannot be had, it calls ``waiting``, and tries again until
        it can; then ``otherwise`` tells what keeps the views from going on.
        """
        pause_s, checkpoint = FIRST_PAUSE_S, self._writer.checkpoint(stream).sequence
        if self._archive is None and not checkpoint and (begins := (await state_of(self._bus, stream)).first) > 1:
            log.warning(
                "%s begins at %d, and no archive is configured: the views begin there, too, and not before", stream, begins
            )
        while (reason := await self._lacking(stream, folded)) is not None:
            waiting()
            reached = self._writer.checkpoint(stream).sequence
            await self._tell(stream, f"{reason}; the views go on from {reached} once that can be read")
            pause_s = FIRST_PAUSE_S if reached > checkpoint else min(2 * pause_s, LONGEST_PAUSE_S)
            checkpoint = reached
            await asyncio.sleep(pause_s)
        await self._tell(stream, None, otherwise())

    async def _lacking(self, stream: str, folded: Callable[[], None]) -> str | None:
        """Fold in what can be; return why the stream cannot go on from there, None where it can."""
        if self._archive is None:
            return None
        reason = None
        try:
            joined = await Joined.of(self._bus, stream, self._archive)
            await fold_sealed(self._writer, joined, 1, joined.last, lambda *_: folded())
            if not joined.sealed:
                reason = f"nothing of it is in the archive {self._archive.directory}: is that mounted?"
        except ArchiveError as error:
            reason = str(error)
        checkpoint, first = self._writer.checkpoint(stream).sequence, (await state_of(self._bus, stream)).first
        if reason is None or checkpoint >= first - 1:
            return None
        return f"{stream} begins at {first}, and {reason}"

    async def _tell(self, stream: str, reason: str | None, otherwise: str | None = None) -> None:
        """Say what is waited for, once, in the log and in the views; the views say ``otherwise`` where that is nothing."""
        if reason != self._told.get(stream):
            self._told[stream] = reason
            if reason is None:
                log.info("%s: what the views waited for is there; they go on", stream)
            else:
                log.error("%s", reason)
        if (noted := reason or otherwise) != self._writer.waits_for(stream):
            await self._writer.note_wait(stream, noted)
