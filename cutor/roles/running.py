"""One submission that a role process attends to: what is known of it, its work, and what stops that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from cutor.journal.versions import EventNewer
from cutor.model.events import Lease
from cutor.model.state import Submission
from cutor.model.subjects import Address
from cutor.roles.places import Place
from cutor.roles.step import LeasedStep, LeaseLost

T = TypeVar("T")


class EndedMeanwhile(Exception):
    """The stream says that the submission ended while this process worked on it; the work has been stopped."""


class Running:
    """One submission that this process attends to, for the event at ``sequence``.

    It is known here before its lease is taken: so no notice is missed. ``taking`` is the lease that this process appends or has
    appended, ``token`` its token; ``lease`` is that lease once it is known to be in the log, and ``leased`` the step that is
    done under it. ``former`` is the newest lease before, null for none. ``known`` is the state that was read last, so that the
    next look reads only what is behind it; where it is ``doubted``, because the server was away, all is read anew. ``place``:
    with or without a slot. ``told_of_end``: a notice said that it is cancelled.
    """

    def __init__(self, address: Address, sequence: int, place: Place, token: str) -> None:
        self.address = address
        self.sequence = sequence
        self.place = place
        self.token = token
        self.taking: Lease | None = None
        self.lease: Lease | None = None
        self.former: Lease | None = None
        self.leased: LeasedStep | None = None
        self.known: Submission | None = None
        self.doubted = False
        self.told_of_end = False
        self.noticed = asyncio.Event()
        self._work: asyncio.Task[Any] | None = None
        self._stopped: EndedMeanwhile | LeaseLost | EventNewer | None = None
        self._unread_until_s = 0.0

    def begin(self, state: Submission, *, unread_s: float) -> None:
        """Attend to a state; ``unread_s``: for so long, what stands behind its event may be from before its first delivery."""
        self.known, self.former = state, state.lease
        self._unread_until_s = clock_s() + unread_s if unread_s else 0.0

    @property
    def is_unread(self) -> bool:
        """Whether that is so, and nothing was met yet."""
        return self._unread_until_s > 0

    def meet(self, state: Submission) -> bool:
        """Meet what stands behind the event, the first time. A lease there is from before the delivery, as after a restore or
        a crash of the server, which counts deliveries anew: it gives this one to nobody else for as long as a lease lasts.

        Returns whether ``former`` is another one now.
        """
        until_s, self._unread_until_s = self._unread_until_s, 0.0
        if clock_s() >= until_s or self.former == state.lease:
            return False
        self.former = state.lease
        return True

    def stop(self, reason: EndedMeanwhile | LeaseLost | EventNewer) -> None:
        """Cancel the work, once; it cleans up undisturbed."""
        if self._stopped is None:
            self._stopped = reason
            if self._work is not None:
                self._work.cancel()

    @property
    def seen(self) -> str:
        """The token of the newest lease before, empty for none."""
        return "" if self.former is None else self.former.token

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work. Raises what it raises, and what `stop` was given once it was cancelled by that, or need not begin."""
        if self._stopped is not None:
            work.close()
            raise self._stopped
        task: asyncio.Task[T] = asyncio.create_task(work, name=f"work on {self.address}")
        self._work = task
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise  # who waits for the work was cancelled
            raise self._stopped or RuntimeError("the work was cancelled by nobody") from None


def clock_s() -> float:
    """Return the time by a clock that runs on while the host is asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
