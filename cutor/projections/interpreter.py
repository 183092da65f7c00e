"""How Python is set while some of its threads write views and others read what comes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

TURN_S: Final = 0.0005
"""How long one of the process's threads may keep the others waiting for the interpreter: the one that writes the views asks for
it behind each statement, the one that copies a fold behind each piece, the one that hears of events whenever some come."""
GARBAGE: Final = (20_000, 20, 50)
"""When the collector looks for what only refers to itself. There is little of it, and looking at all that is kept stops the
process for 0.1 s."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let threads take short turns, and seldom look for garbage, while the block lasts."""
    usual_s, usual_thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(TURN_S)
    gc.set_threshold(*GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*usual_thresholds)
        sys.setswitchinterval(usual_s)
