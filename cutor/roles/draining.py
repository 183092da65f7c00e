"""The end of a role's work in a shutdown: what runs may finish for a while; what is left is cancelled, and so handed back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

log = logging.getLogger(__name__)


async def grace(work: Collection[asyncio.Task[None]], grace_s: float, hurry: asyncio.Event) -> None:
    """Wait until none of it runs any more; no longer than ``grace_s`` seconds, and not once ``hurry`` is set."""
    log.info("%d in work may finish within %g s", len(work), grace_s)
    hurried = asyncio.create_task(hurry.wait(), name="hurried")
    ended = asyncio.create_task(asyncio.wait({*work}), name="ended")
    try:
        await asyncio.wait({hurried, ended}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurried.cancel()
        ended.cancel()


async def cut_short(work: Collection[asyncio.Task[None]]) -> None:
    """Cancel what still runs, and wait until it has ended, which hands it back."""
    left = {task for task in work if not task.done()}
    for task in left:
        task.cancel()
    if left:
        log.info("%d in work: stopped and handed back", len(left))
        await asyncio.wait(left)
