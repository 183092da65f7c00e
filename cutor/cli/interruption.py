"""Work that Ctrl-C and SIGTERM end in the same way: what it began is cleaned up, and it counts as interrupted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run work on an event loop of its own. Raises `KeyboardInterrupt` for either signal, once the work has ended.

    A timer or a shutdown sends SIGTERM, which by itself would end the process where it stands.
    """
    try:
        return asyncio.run(_told(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _told(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
