"""Run a program that ends when its parent does: `python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT…`.

A program of its own and not a `preexec_fn`, since that runs Python between fork and exec, where a thread of the parent may
hold a lock. It asks the kernel for SIGTERM at the parent's death and becomes the program; the request outlives exec
(prctl(2), PR_SET_PDEATHSIG). The kernel means the parent's *thread* that started us: start it from a thread that lives as
long as the process.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""``PR_SET_PDEATHSIG`` of prctl(2): the signal that the kernel sends when the parent dies."""


def main() -> None:
    """Bind this process to its parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(0)  # it died before the kernel knew of the request
    os.execv(program[0], program)  # noqa: S606 - the very purpose; arguments are a list, no shell


if __name__ == "__main__":
    main()
