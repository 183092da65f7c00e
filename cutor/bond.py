"""The bond that ends a child process when its parent dies."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

from cutor.errors import CutorError

HURRY: Final = signal.SIGUSR1
"""Tells a role to stop without its grace, however often it comes: from its supervisor, or from the kernel when that died."""
_PR_SET_PDEATHSIG: Final = 1
"""``PR_SET_PDEATHSIG`` of prctl(2): the signal that the kernel sends when the parent dies."""


class BondFailed(CutorError):
    """The kernel refused to end this process with its parent: not a Linux that cutor knows."""


def end_with_parent(parent_pid: int, number: signal.Signals = HURRY) -> None:
    """Ask the kernel for a signal, or `HURRY`, when the parent dies; end at once if it died before that.

    See prctl(2), PR_SET_PDEATHSIG.

    The server dies with the parent as well: what would run on in the grace could tell nobody what came of it, and would keep
    the next life waiting. Raises `BondFailed`.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise BondFailed(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        raise SystemExit(0)
