"""Uids of running submissions, each lent once on this host."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from cutor.nix.inside.namespace import HOST_ID_BASE, ID_COUNT
from cutor.roles.step import WorkerUnable

SPARE_UIDS: Final = 4096
"""How many uids beyond a runner's own count it looks at, before it believes that something is wrong on the host."""
TRIES_AT_ONCE: Final = 64
"""How many uids are tried before others have their turn: about a millisecond."""


class Uids:
    """Lends uids, so that no two running submissions of this host share per-uid resources of the kernel.

    Runners of any stack and user begin at the same uid and must not meet: who has a uid holds the abstract socket of its
    number. The kernel takes it back with the process; nobody needs a right, a directory or a clean-up for it
    (decision 0006). A runner reserves one for each slot before it takes a lease, and keeps them for its life: whoever takes all
    the others can't take these.
    """

    def __init__(self, uid_base: int, count: int) -> None:
        self._candidates = range(uid_base, uid_base + count + SPARE_UIDS)
        self._count = count
        self._reserved: dict[int, socket.socket] = {}
        self._free: deque[int] = deque()
        self._reserving = asyncio.Lock()
        self._withheld: Counter[int] = Counter()
        self._aside: dict[int, socket.socket] = {}

    def withhold(self, uid: int) -> None:
        """Keep a uid from being lent, to be called before the first `reserve`: a container of a dead life may still run as it.

        Its socket is held, too, where nobody else has it, so that runners of other stacks keep away from it.
        """
        self._withheld[uid] += 1
        if uid not in self._aside:
            with suppress(WorkerUnable):
                if (holder := _bound(uid)) is not None:
                    self._aside[uid] = holder

    def give_free(self, uid: int) -> None:
        """End one `withhold` of a uid; with the last one, whoever looks for uids may have it."""
        self._withheld -= Counter((uid,))
        if not self._withheld[uid] and (holder := self._aside.pop(uid, None)) is not None:
            holder.close()

    async def reserve(self) -> None:
        """Make sure that there is a uid for every slot: the lowest that nobody holds. Raises `WorkerUnable`.

        What it got of them it keeps, also where they are not enough.
        """
        if len(self._reserved) == self._count:
            return
        async with self._reserving:
            for tried, uid in enumerate(self._candidates, 1):
                if len(self._reserved) == self._count:
                    return
                self._try(uid)
                if tried % TRIES_AT_ONCE == 0:
                    await asyncio.sleep(0)
        if len(self._reserved) < self._count:
            first, last = self._candidates[0], self._candidates[-1]
            raise WorkerUnable(
                f"{self._count} uids are needed, and of those from {first} to {last} only {len(self._reserved)} could be had:"
                " the sockets of the others are held by other processes (ss -xlp shows @cutor-uid-…)"
            )

    def _try(self, uid: int) -> None:
        if uid in self._reserved or self._withheld[uid] or HOST_ID_BASE <= uid < HOST_ID_BASE + ID_COUNT:
            return  # ours already, of a container that is stuck, or of build containers
        if (holder := _bound(uid)) is not None:
            self._reserved[uid] = holder
            self._free.append(uid)

    def lend(self) -> int:
        """Lend the uid that has been free longest: there is one, where no more are lent than were to be reserved.

        What the kernel counts by uid, it may still be taking down behind a program's death.
        """
        return self._free.popleft()

    def take_back(self, uid: int) -> None:
        """Have a uid that was lent: nothing runs as it any more."""
        self._free.append(uid)

    @contextmanager
    def uid(self) -> Iterator[int]:
        """Lend one while the block lasts."""
        uid = self.lend()
        try:
            yield uid
        finally:
            self.take_back(uid)

    def close(self) -> None:
        """Give every uid back to the host."""
        for holder in (*self._reserved.values(), *self._aside.values()):
            holder.close()
        self._reserved.clear()
        self._aside.clear()
        self._free.clear()


def _bound(uid: int) -> socket.socket | None:
    """Return the socket that stands for a uid, None where another process has it. Raises `WorkerUnable`."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0cutor-uid-{uid}")
    except OSError as error:
        holder.close()
        if error.errno != errno.EADDRINUSE:
            raise WorkerUnable(f"a uid could not be reserved on this host: {error.strerror}") from error
        return None
    return holder
