"""Waiting for a submission's end: what is said where that takes too long, or the server goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cutor.bus.errors import BusClosed, BusUnreachable
from cutor.errors import CutorError, WaitedTooLong
from cutor.model.subjects import Address


def watch_command(submission_id: str, tenant: str) -> str:
    """Return the command that follows a submission."""
    return f"cutor watch {submission_id}" + ("" if tenant == "default" else f" --tenant {tenant}")


class OutOfSight(CutorError):
    """The server went away while a submission was followed; that goes on. ``details`` has id and tenant."""


@asynccontextmanager
async def keeping_in_sight(address: Address) -> AsyncIterator[None]:
    """Raise `OutOfSight` where the server goes away in the block: who waits must not lose an id that was made up for him."""
    try:
        yield
    except (BusUnreachable, BusClosed) as error:
        follow = watch_command(address.id, address.tenant)
        raise OutOfSight(
            f"{address.id} was submitted, and is out of sight: {error}; later: `{follow}`",
            details={"id": address.id, "tenant": address.tenant},
        ) from error


@asynccontextmanager
async def waiting_for(address: Address, timeout_s: float | None, told: Callable[[], str] = str) -> AsyncIterator[None]:
    """Raise `WaitedTooLong` where the block takes longer; a `TimeoutError` of something within it stays what it is.

    ``told`` returns what the error repeats of what was heard meanwhile.
    """
    try:
        async with asyncio.timeout(timeout_s) as limit:
            yield
    except TimeoutError as error:
        if timeout_s is None or not limit.expired():
            raise
        follow, heard = watch_command(address.id, address.tenant), told()
        raise WaitedTooLong(
            f"{address.id} has not ended within {timeout_s:g} s; it goes on: `{follow}`"
            + (f"; the last that was heard of it: {heard}" if heard else ""),
            details={"id": address.id, "tenant": address.tenant},
        ) from error
