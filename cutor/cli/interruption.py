"""Work that Ctrl-C, SIGTERM and the end of its terminal end in the same way: what it began is cleaned up, and it counts as
interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class CommandInterrupted(KeyboardInterrupt):
    """One of the signals ended the work of a command; its message, which may be empty, says what is so now."""


def run(work: Coroutine[Any, Any, T], leaves: str = "") -> T:
    """Run work on an event loop of its own. Raises `CommandInterrupted` for any of the signals, once the work has ended.

    ``leaves`` is what users are told then: how things stand after work that was cut short. A timer or a shutdown sends SIGTERM,
    a terminal that is closed SIGHUP: by themselves they would end the process where it stands. What was told to ignore SIGHUP
    (`nohup`) goes on.
    """
    import asyncio  # noqa: PLC0415 - `CommandInterrupted` is of the overview of commands, which is to be there at once

    try:
        return asyncio.run(_told(work))
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise CommandInterrupted(leaves) from None


async def _told(work: Coroutine[Any, Any, T]) -> T:
    import asyncio  # noqa: PLC0415 - as above

    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, task.cancel)
    return await task
