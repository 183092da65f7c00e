"""Slots: the uids of running submissions, each lent once on this host."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cutor.containers.errors import ContainerError
from cutor.nix.inside.namespace import HOST_ID_BASE, ID_COUNT

SPARE_UIDS: Final = 4096
"""How many uids beyond a runner's own count it looks at, before it believes that something is wrong on the host."""


class Slots:
    """Lends uids, so that no two running submissions of this host share per-uid resources of the kernel.

    Runners of any stack and user begin at the same uid and must not meet: who has a uid holds the abstract socket of its
    number. The kernel takes it back with the process; nobody needs a right, a directory or a clean-up for it
    (decision 0006).
    """

    def __init__(self, uid_base: int, count: int) -> None:
        self._candidates = range(uid_base, uid_base + count + SPARE_UIDS)

    @contextmanager
    def uid(self) -> Iterator[int]:
        """Lend the lowest uid that is free. Raises `ContainerError` where there is none."""
        uid, claim = self._claim()
        with claim:
            yield uid

    def _claim(self) -> tuple[int, socket.socket]:
        for uid in self._candidates:
            if HOST_ID_BASE <= uid < HOST_ID_BASE + ID_COUNT:
                continue  # of build containers
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0cutor-uid-{uid}")
            except OSError as error:
                claim.close()
                if error.errno != errno.EADDRINUSE:
                    raise ContainerError(f"a uid could not be claimed on this host: {error.strerror}") from error
            else:
                return uid, claim
        first, last = self._candidates[0], self._candidates[-1]
        raise ContainerError(f"no uid from {first} to {last} is free on this host: other runners hold them all")
