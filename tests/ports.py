"""Ports for servers of tests that are named before they listen, and that stay named while a server is down.

A port that the kernel gives for the asking may be given to the next who asks: another test, before the server listens,
or while it is dead. So these are none that the kernel gives to anybody, and each process of tests has a block of them to
itself, by a lock that ends with it.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from cutor.bus.ports import is_free

HOST: Final = "127.0.0.1"
_FIRST: Final = 12_000
_BLOCK: Final = 100
"""More than one test has at one time; after so many a port is given again."""
_LOCKS: Final = Path(tempfile.gettempdir()) / f"cutor-test-ports-{os.getuid()}"


def free_port(host: str = HOST) -> int:
    """Return a port that nothing listens on, and that no other process of tests is given."""
    return next(port for port in itertools.islice(_ports(os.getpid()), _BLOCK) if is_free(host, port))


@cache
def _ports(_process: int) -> Iterator[int]:
    """The ports of this process, again and again; what is forked has others."""
    first = _lock_block()
    return itertools.cycle(range(first, first + _BLOCK))


def _lock_block() -> int:
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    blocks = [*range(_FIRST, end - _BLOCK, _BLOCK)]
    random.SystemRandom().shuffle(blocks)
    _LOCKS.mkdir(mode=0o700, exist_ok=True)
    for first in blocks:
        lock = os.open(_LOCKS / str(first), os.O_RDWR | os.O_CREAT, 0o600)  # open as long as the process lives
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return first
    raise OSError(errno.EADDRINUSE, "every block of ports has a process of tests")
