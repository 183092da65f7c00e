"""A stage that is watched for what its build adds to the store, and ended where that is too much, or the disk has no more.

Looking takes its time where there are many files; so it is done in slices, between which the stage goes on.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Iterable, Iterator
from typing import Final

from cutor.jail.inside.measure import KilledBy
from cutor.jail.inside.stage import Host
from cutor.nix.inside.additions import Additions
from cutor.nix.inside.disk_usage import MAX_DEPTH, TooDeep, free_bytes, unwritten_bytes

SLICE_NS: Final = 5_000_000
"""Of one look, in one go: the build's output and end wait no longer than that for the init."""
PAUSE_NS: Final = 10_000_000
"""Between two slices of one look: a third of a CPU at the most."""
INTERVAL_NS: Final = 100_000_000
"""Between two looks at the least, else `REST` times the CPU time of one: a busy machine is no reason to look less."""
REST: Final = 4
"""So a fifth of a CPU at the most goes into looking, over a while."""
REST_AT_MOST_NS: Final = 2_000_000_000
"""Whatever a look took: who makes looking slow is not looked at less for it."""
ROOM_INTERVAL_NS: Final = 100_000_000
"""Between two looks at what is free on the disk, which take no time: before each slice, and while there is none, too."""
FINISH_NS: Final = 5_000_000_000
"""For the last look, which a build that is over waits for. A million files take two seconds."""
TURN_NS: Final = 10_000_000_000
"""How long a build that ends for want of room waits for others that do: of several, each is measured by itself."""
GIVEN_BACK_NS: Final = 500_000_000
"""How long it is looked what a build's end gives back: of files in sockets and mounts the kernel lets go a little later."""
ASK_SECONDS: Final = 0.02
"""Between two looks at what the kernel gives back. A choice: a look is one call."""

TOO_MUCH: Final = "the build adds more than {limit} to the store (nix.store_bytes): {added} when it was ended"
TOO_DEEP: Final = f"the build makes directories more than {MAX_DEPTH} deep in the store: they can't be counted"
UNCOUNTED: Final = "the build keeps files without a name by mappings alone, which can't be counted, and {no_room}"
HIDDEN: Final = "the build adds more than {limit} to the store (nix.store_bytes): {added} in files without a name that it hid"
NO_ROOM: Final = "the store volume has {free} left (nix.min_free_bytes is {least}): free some with `cutor gc`"


class NoRoom(RuntimeError):
    """The store volume is as good as full: a fault of the machine's, whoever filled it."""

    def __init__(self, free: int, least: int) -> None:
        super().__init__(NO_ROOM.format(free=_size(free), least=_size(least)))


class Room:
    """What must stay free of the store's volume: no build begins with less than ``least_bytes``, and none goes on with half.

    Whose doing it is that so little is left, a build's end tells: there are more ways to keep a file without a name than can
    be looked at (in a socket, in a mount, in a rule of landlock), and what it takes is free again once the build is dead. So
    builds that end for want of room do so one after the other, under ``lock``, and each is measured by itself.
    """

    def __init__(self, store: str, least_bytes: int, lock: str) -> None:
        self._store = store
        self._least_bytes = least_bytes
        self._lock = lock
        self._turn: int | None = None
        self._before_bytes = 0

    def check(self) -> None:
        """Raise `NoRoom` where no build may begin."""
        if (free := free_bytes(self._store)) < self._least_bytes:
            raise NoRoom(free, self._least_bytes)

    def check_while_building(self) -> None:
        """Raise `NoRoom` where builds would soon fail for want of room, innocent ones among them."""
        if (free := free_bytes(self._store)) < self._least_bytes // 2:
            raise NoRoom(free, self._least_bytes)

    def begin_end(self) -> None:
        """Wait for the turn to end a build, and note what is free before: what it hides goes with its builders, at once.

        On a disk that has no room for the lock either there are no turns, and nothing is said of who took it.
        """
        try:
            self._turn = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return
        deadline_ns = time.monotonic_ns() + TURN_NS
        while not _locked(self._turn):
            if time.monotonic_ns() >= deadline_ns:
                self.end()
                return
            time.sleep(ASK_SECONDS)
        self._before_bytes = unwritten_bytes(self._store)

    def given_back_bytes(self) -> int:
        """Return what is free beyond what was before; call when the build's daemon and builders are dead. 0 without a turn."""
        if self._turn is None:
            return 0
        deadline_ns, most_bytes = time.monotonic_ns() + GIVEN_BACK_NS, 0
        while time.monotonic_ns() < deadline_ns:
            most_bytes = max(most_bytes, unwritten_bytes(self._store) - self._before_bytes)
            time.sleep(ASK_SECONDS)
        return most_bytes

    def end(self) -> None:
        """Give the turn, if there is one, to the next build: this one is dead, and what it left is removed."""
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None


def _locked(handle: int) -> bool:
    """Take an exclusive lock (flock) if nobody has it; return whether we do."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Timer:
    """A descriptor that becomes readable when its time has come."""

    def __init__(self) -> None:
        self._handle: int = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_CLOEXEC | os.TFD_NONBLOCK)  # type: ignore[attr-defined] # Python 3.13

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._handle

    def wait(self, ns: int) -> None:
        """Set the time: from now, once."""
        os.timerfd_settime_ns(self._handle, initial=ns)  # type: ignore[attr-defined] # Python 3.13

    def take(self) -> None:
        """Take note that it has come."""
        os.read(self._handle, 8)

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)


class StoreWatch:
    """A stage's host that stands for another one, too. What was found is in ``complaint`` (the user's) or ``no_room``."""

    def __init__(self, host: Host, additions: Additions, limit_bytes: int, room: Room) -> None:
        self._host = host
        self._additions = additions
        self._limit_bytes = limit_bytes
        self._room = room
        self.complaint: str | None = None
        self.no_room: NoRoom | None = None
        self._look: Iterator[None] | None = None
        self._look_cpu_ns = 0
        self._timer = Timer()
        self._room_timer = Timer()
        self._epoll = select.epoll()
        for descriptor in (host, self._timer, self._room_timer):
            self._epoll.register(descriptor.fileno(), select.EPOLLIN)
        self._timer.wait(INTERVAL_NS)
        self._room_timer.wait(ROOM_INTERVAL_NS)

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._epoll.fileno()

    def interrupted(self) -> KilledBy | None:
        """Look a little further, and hear what the other host has to say; return why the stage is to be ended."""
        for fd, _ in self._epoll.poll(0):
            if fd == self._timer.fileno():
                self._timer.take()
                self._go_on()
            elif fd == self._room_timer.fileno():
                self._room_timer.take()
                if not self._has_no_room():
                    self._room_timer.wait(ROOM_INTERVAL_NS)
            elif (cause := self._host.interrupted()) is not None:
                return cause
        return "store" if self.complaint is not None or self.no_room is not None else None

    def finish(self) -> None:
        """Look once more, to the end. Call when the stage is over, before its daemon is killed.

        A builder that the stage left may still be at work: it can't draw this out for longer than `FINISH_NS`.
        """
        if self.complaint is None and self.no_room is None:
            self._look_once_more()

    def _look_once_more(self) -> None:
        self._look = None
        self._step(time.monotonic_ns() + FINISH_NS)

    def close(self) -> None:
        """Look no more."""
        self._epoll.close()
        self._timer.close()
        self._room_timer.close()

    def _go_on(self) -> None:
        started_ns = time.monotonic_ns()
        if self._has_no_room():
            return
        started_cpu_ns = time.thread_time_ns()
        done = self._step(started_ns + SLICE_NS)
        self._look_cpu_ns += time.thread_time_ns() - started_cpu_ns
        if self.complaint is not None:
            return
        if done:
            self._timer.wait(max(INTERVAL_NS, min(REST * self._look_cpu_ns, REST_AT_MOST_NS)))
            self._look_cpu_ns = 0
        else:
            self._timer.wait(PAUSE_NS)

    def _has_no_room(self) -> bool:
        """Return whether the stage is to be ended for the disk. First those go of which nobody can say what they hold.

        Who took the room in one step, faster than any look (posix_fallocate), is over its own limit: so it is looked first,
        while its builders are there, or it would be tried again like those that it ends, and end them again.
        """
        if self.complaint is not None or self.no_room is not None:
            return True
        try:
            if self._additions.keeps_mapped:
                self._room.check()
        except NoRoom as found:
            self.complaint = UNCOUNTED.format(no_room=found)
            return True
        try:
            self._room.check_while_building()
        except NoRoom as found:
            self._look_once_more()
            if self.complaint is None:
                self._room.begin_end()
                self.no_room = found
            return True
        return False

    def _step(self, until_ns: int) -> bool:
        """Go on with a look, or begin one; return whether it is done."""
        if self._look is None:
            self._look = self._additions.look()
        try:
            for _ in self._look:
                if self._additions.total_bytes > self._limit_bytes:
                    break
                if time.monotonic_ns() >= until_ns:
                    return False
        except TooDeep:
            self.complaint = TOO_DEEP
        self._look = None
        self.complaint = self.complaint or _too_much(self._additions, self._limit_bytes)
        return True


def complaint_of_kept(additions: Additions, limit_bytes: int, paths: Iterable[str]) -> str | None:
    """Return what is wrong with what a build leaves that no look has seen, or null. It takes 2 µs a file, up to the limit."""
    try:
        for _ in additions.look_at_kept(paths):
            if additions.total_bytes > limit_bytes:
                break
    except TooDeep:
        return TOO_DEEP
    return _too_much(additions, limit_bytes)


def complaint_of_hidden(additions: Additions, limit_bytes: int, given_back_bytes: int) -> str | None:
    """Return what is wrong with a build whose end gave so much back, or null: what was counted may be among it."""
    hidden_bytes = given_back_bytes - additions.total_bytes
    return HIDDEN.format(limit=_size(limit_bytes), added=_size(hidden_bytes)) if hidden_bytes > limit_bytes else None


def _too_much(additions: Additions, limit_bytes: int) -> str | None:
    """Return what to say of a build that has added too much, null of one that has not."""
    added_bytes = additions.total_bytes
    return TOO_MUCH.format(limit=_size(limit_bytes), added=_size(added_bytes)) if added_bytes > limit_bytes else None


def _size(count: int) -> str:
    """Return bytes for people, in MiB."""
    return f"{count / (1 << 20):,.1f} MiB"
