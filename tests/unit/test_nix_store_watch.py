"""A stage that is watched: it goes on while its build is within the limit, and is told to end for one reason alone."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

import pytest

from cutor.jail.inside.measure import KilledBy
from cutor.nix.inside import store_watch
from cutor.nix.inside.additions import Additions
from cutor.nix.inside.disk_usage import TooDeep, free_bytes
from cutor.nix.inside.store_watch import NoRoom, Room, StoreWatch, complaint_of_hidden

LIMIT = 100 << 20
NEVER = 1 << 62
PLENTY = Room("/", 1, "/nowhere")


class Host:
    """A stage's host on a pipe: what is written there cancels."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def cancel(self) -> None:
        os.write(self._write, b"x")

    def interrupted(self) -> KilledBy | None:
        return "cancel" if os.read(self._read, 1) else None


class Growing:
    """Additions that grow by a step with every pause of every look."""

    def __init__(self, *steps_bytes: int, deep: bool = False) -> None:
        self.total_bytes = 0
        self.looks = 0
        self.keeps_mapped = False
        self._steps = steps_bytes
        self._deep = deep

    def look(self) -> Iterator[None]:
        self.looks += 1
        for step in self._steps:
            self.total_bytes += step
            yield
        if self._deep:
            raise TooDeep


class Clock:
    """A timer whose time has come as soon as it is set, if it ever comes."""

    waits: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def wait(self, ns: int) -> None:
        self.waits.append(ns)
        if ns != NEVER:
            os.write(self._write, b"x")

    def take(self) -> None:
        os.read(self._read, 1)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    """Timers without time, and looks in one slice however busy the machine is."""
    Clock.waits.clear()
    monkeypatch.setattr(store_watch, "Timer", Clock)
    monkeypatch.setattr(store_watch, "SLICE_NS", NEVER)
    return Clock


def watching(additions: Growing, room: Room = PLENTY, host: Host | None = None) -> StoreWatch:
    return StoreWatch(host or Host(), cast("Additions", additions), LIMIT, room)


def until_readable(watch: StoreWatch) -> KilledBy | None:
    """Wait as a stage does, until there is something to hear."""
    assert select.select([watch], [], [], 30)[0]
    return watch.interrupted()


def test_a_build_within_its_limit_goes_on_and_is_looked_at_again() -> None:
    additions = Growing(1, 1)
    watch = watching(additions)
    for _ in range(3):
        assert until_readable(watch) is None
    assert additions.looks == 3
    watch.finish()
    assert (watch.complaint, watch.no_room, additions.looks) == (None, None, 4)
    watch.close()


def test_a_build_over_its_limit_is_ended_in_the_midst_of_a_look() -> None:
    additions = Growing(*[60 << 20] * 10)
    watch = watching(additions)
    assert until_readable(watch) == "store"
    assert additions.total_bytes == 120 << 20, "the rest of the look changes nothing"
    assert watch.complaint == "the build adds more than 100.0 MiB to the store (nix.store_bytes): 120.0 MiB when it was ended"
    assert watch.interrupted() == "store"
    watch.finish()
    assert additions.looks == 1
    watch.close()


def test_the_last_look_is_a_whole_one() -> None:
    additions = Growing(60 << 20, 60 << 20)
    watch = watching(additions)
    watch.finish()
    assert watch.complaint is not None
    assert watch.interrupted() == "store"
    watch.close()


def test_the_last_look_is_not_drawn_out_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Growing):
        def look(self) -> Iterator[None]:
            while True:
                yield

    monkeypatch.setattr(store_watch, "FINISH_NS", 1_000_000)
    watch = watching(Endless())
    watch.finish()
    assert watch.complaint is None
    watch.close()


def test_a_long_look_is_done_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_watch, "SLICE_NS", 0)
    additions = Growing(1, 1, 1)
    watch = watching(additions)
    heard = []
    while additions.looks < 2:
        heard.append(until_readable(watch))
    assert heard == [None] * 5, "three pauses and an end, before the next look began"
    watch.close()


def test_a_cancel_is_heard_and_passed_on() -> None:
    host = Host()
    watch = watching(Growing(1), host=host)
    host.cancel()
    assert until_readable(watch) == "cancel"
    watch.close()


def test_what_cannot_be_counted_ends_the_build() -> None:
    watch = watching(Growing(1, deep=True))
    assert until_readable(watch) == "store"
    assert watch.complaint == "the build makes directories more than 200 deep in the store: they can't be counted"
    watch.close()


def test_a_full_disk_is_the_fault_of_no_build_within_its_limit(tmp_path: Path) -> None:
    additions = Growing(LIMIT)
    watch = watching(additions, room=Room("/", 1 << 60, str(tmp_path / "lock")))
    assert until_readable(watch) == "store"
    watch.finish()
    assert watch.complaint is None
    assert isinstance(watch.no_room, NoRoom)
    assert additions.looks == 1, "while its builders were there, and not again when they had gone"
    watch.close()


@pytest.mark.parametrize("timer", ["_timer", "_room_timer"])
def test_who_filled_the_disk_before_anybody_looked_is_over_its_own_limit(
    timer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_watch, "INTERVAL_NS", NEVER)
    monkeypatch.setattr(store_watch, "ROOM_INTERVAL_NS", NEVER)
    watch = watching(Growing(LIMIT, LIMIT), room=Room("/", 1 << 60, str(tmp_path / "lock")))
    getattr(watch, timer).wait(0)
    assert until_readable(watch) == "store"
    assert watch.no_room is None
    assert watch.complaint == "the build adds more than 100.0 MiB to the store (nix.store_bytes): 200.0 MiB when it was ended"
    watch.close()


def test_half_of_what_a_build_needs_to_begin_is_enough_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    room = Room("/", 10 << 20, str(tmp_path / "lock"))
    for free, begins, goes_on in ((10 << 20, True, True), ((10 << 20) - 1, False, True), ((5 << 20) - 1, False, False)):
        monkeypatch.setattr(store_watch, "free_bytes", lambda _, free=free: free)
        for check, holds in ((room.check, begins), (room.check_while_building, goes_on)):
            if holds:
                check()
            else:
                with pytest.raises(NoRoom, match=r"the store volume has [\d.]+ MiB left \(nix\.min_free_bytes"):
                    check()


def test_looking_rests_longer_the_longer_it_takes(monkeypatch: pytest.MonkeyPatch, clock: type[Clock]) -> None:
    times = iter((0, 50_000_000))
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(times))
    watch = watching(Growing(1))
    assert until_readable(watch) is None
    assert 4 * 50_000_000 in clock.waits
    watch.close()


def test_who_makes_looking_slow_is_not_looked_at_less_for_it(monkeypatch: pytest.MonkeyPatch, clock: type[Clock]) -> None:
    times = iter((0, 94_000_000_000))
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(times))
    watch = watching(Growing(1))
    assert until_readable(watch) is None
    assert max(clock.waits) == store_watch.REST_AT_MOST_NS
    watch.close()


def test_a_busy_machine_is_no_reason_to_look_less(monkeypatch: pytest.MonkeyPatch, clock: type[Clock]) -> None:
    times = iter((0, 94_000_000_000, 94_000_000_000))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(times))
    monkeypatch.setattr(time, "thread_time_ns", lambda: 0)
    watch = watching(Growing(1))
    assert until_readable(watch) is None
    assert max(clock.waits) == store_watch.INTERVAL_NS
    watch.close()


def test_the_disk_is_looked_at_while_no_look_at_the_build_is_due(
    monkeypatch: pytest.MonkeyPatch, clock: type[Clock], tmp_path: Path
) -> None:
    """A look that rests, or is drawn out, keeps nobody from seeing that the disk gets full."""
    monkeypatch.setattr(store_watch, "INTERVAL_NS", NEVER)
    monkeypatch.setattr(store_watch, "free_bytes", lambda _: 10 << 20)
    additions = Growing(1)
    watch = watching(additions, room=Room("/", 10 << 20, str(tmp_path / "lock")))
    for _ in range(3):
        assert until_readable(watch) is None
    monkeypatch.setattr(store_watch, "free_bytes", lambda _: 1 << 20)
    assert additions.looks == 0
    assert until_readable(watch) == "store"
    assert (additions.looks, watch.complaint) == (1, None)
    assert isinstance(watch.no_room, NoRoom)
    watch.close()


def test_a_build_over_its_limit_is_not_called_a_full_disk_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store_watch, "free_bytes", lambda _: 10 << 20)
    watch = watching(Growing(LIMIT * 2), room=Room("/", 10 << 20, str(tmp_path / "lock")))
    monkeypatch.setattr(store_watch, "ROOM_INTERVAL_NS", NEVER)
    while until_readable(watch) is None:
        continue
    monkeypatch.setattr(store_watch, "free_bytes", lambda _: 1 << 20)
    watch._room_timer.wait(0)
    assert until_readable(watch) == "store"
    assert watch.no_room is None
    watch.close()


def test_who_keeps_what_nobody_can_count_goes_before_the_others_when_the_disk_gets_short(tmp_path: Path) -> None:
    """Below what must be free for a build to begin; the others go on down to half of that."""
    free = free_bytes("/")
    additions = Growing(1)
    watch = watching(additions, room=Room("/", free + (1 << 30), str(tmp_path / "lock")))
    assert until_readable(watch) is None
    additions.keeps_mapped = True
    assert until_readable(watch) == "store"
    assert watch.no_room is None
    assert watch.complaint is not None
    assert watch.complaint.startswith("the build keeps files without a name by mappings alone, which can't be counted, and the")
    assert "(nix.min_free_bytes is" in watch.complaint
    watch.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the disk has free for bytes, of which the last one holds on."""
    free = [10 << 20]
    monkeypatch.setattr(store_watch, "unwritten_bytes", lambda _: free.pop(0) if len(free) > 1 else free[0])
    return free


def test_what_a_build_hid_is_what_its_end_gives_back(disk: list[int], tmp_path: Path) -> None:
    """Though the kernel lets go of it a little later, and others write meanwhile."""
    room = Room("/", 1, str(tmp_path / "lock"))
    room.begin_end()
    disk[:] = [9 << 20, 210 << 20, 180 << 20]
    assert room.given_back_bytes() == 200 << 20
    room.end()


def test_of_builds_that_end_for_want_of_room_each_is_measured_by_itself(
    disk: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has no turn in time is not measured: it may be what another one gives back that it would see."""
    monkeypatch.setattr(store_watch, "TURN_NS", 50_000_000)
    first, second = (Room("/", 1, str(tmp_path / "lock")) for _ in range(2))
    first.begin_end()
    second.begin_end()
    disk[0] = 200 << 20
    assert (first.given_back_bytes(), second.given_back_bytes()) == (190 << 20, 0)
    first.end()
    second.begin_end()
    disk[0] = 500 << 20
    assert second.given_back_bytes() == 300 << 20
    second.end()
    first.end()


def test_what_was_counted_is_not_hidden_and_less_than_the_limit_is_nobodys_fault() -> None:
    growing = Growing()
    additions = cast("Additions", growing)
    assert complaint_of_hidden(additions, LIMIT, LIMIT) is None
    told = complaint_of_hidden(additions, LIMIT, LIMIT + (20 << 20))
    assert told == (
        "the build adds more than 100.0 MiB to the store (nix.store_bytes): 120.0 MiB in files without a name that it hid"
    )
    growing.total_bytes = 30 << 20
    assert complaint_of_hidden(additions, LIMIT, LIMIT + (20 << 20)) is None


def test_a_disk_without_room_for_the_lock_blames_nobody(disk: list[int], tmp_path: Path) -> None:
    room = Room("/", 1, str(tmp_path / "nowhere" / "lock"))
    room.begin_end()
    disk[0] = 500 << 20
    assert room.given_back_bytes() == 0
    room.end()
