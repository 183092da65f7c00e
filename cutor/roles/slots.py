"""Slots: how many jobs of a role run at once, each with a uid of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """Hands out the uids of a reserved range, so that no two running submissions share per-uid resources of the kernel."""

    def __init__(self, uid_base: int, count: int) -> None:
        self._free = list(range(uid_base + count - 1, uid_base - 1, -1))

    @contextmanager
    def uid(self) -> Iterator[int]:
        """Lend a uid. There is one free whenever the caller runs no more jobs at once than there are slots."""
        uid = self._free.pop()
        try:
            yield uid
        finally:
            self._free.append(uid)
