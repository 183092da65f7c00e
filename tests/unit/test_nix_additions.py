"""Which paths of a store a build added: what its daemon's workers named, and what is its builders', told from everybody else's.

The directories of processes are made by hand; where a file must be a deleted one, they are this process's own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutor.nix.inside import additions as module
from cutor.nix.inside.additions import Additions
from cutor.nix.inside.disk_usage import ENTRY_BYTES
from cutor.nix.inside.store_watch import complaint_of_kept
from cutor.nix.inside.turns import BEHIND_LOOKS

MIB = 1 << 20
NOBODYS = -1
"""No process has this uid: whoever there is, is a builder's and not the daemon's."""


def named(name: str) -> str:
    """Return the name of a store path."""
    return f"{'0' * 32}-{name}"


class Place:
    """A store, processes, and the list of temporary roots of one worker, whose number is 5."""

    def __init__(self, root: Path) -> None:
        self.store = root / "store"
        self.proc = root / "proc"
        self.roots = root / "temproots"
        for directory in (self.store, self.proc / "5/fd", self.roots):
            directory.mkdir(parents=True)
        (self.roots / "5").touch()
        (self.proc / "5/fd/12").symlink_to(self.roots / "5")
        self.give_root(5, Path("/"))
        (self.proc / "self").symlink_to("/proc/self")

    def give_root(self, pid: int, root: Path) -> None:
        """Have the one thread of a process see a directory as its root."""
        thread = self.proc / f"{pid}/task/{pid}"
        thread.mkdir(parents=True, exist_ok=True)
        for name, target in (
            ("root", root),
            ("fd", Path("../../fd")),
            ("exe", Path("../../exe")),
            ("maps", Path("../../maps")),
        ):
            (thread / name).unlink(missing_ok=True)
            (thread / name).symlink_to(target)

    def name(self, name: str, end: str = "\0") -> None:
        """Have the worker name a path."""
        with (self.roots / "5").open("a") as file:
            file.write(f"/nix/store/{named(name)}{end}")

    def write(self, name: str, size: int = MIB) -> Path:
        path = self.store / named(name)
        path.write_bytes(bytes(size))
        return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(module, "TEMPORARY_ROOTS", f"{tmp_path}/temproots/")
    return Place(tmp_path)


@pytest.fixture
def additions(place: Place) -> Iterator[Additions]:
    made = Additions(str(place.store), str(place.proc), os.getuid(), NOBODYS)
    yield made
    made.close()


def total(additions: Additions) -> int:
    for _ in additions.look():
        continue
    return additions.total_bytes


def test_what_a_worker_named_and_was_written_since_counts_and_nothing_else(place: Place, additions: Additions) -> None:
    place.name("ours")
    place.name("not-there-yet")
    place.write("ours")
    place.write("of-another-build")
    assert MIB <= total(additions) < 2 * MIB
    place.write("not-there-yet")
    assert 2 * MIB <= total(additions) < 3 * MIB


def test_what_a_build_leaves_counts_once_though_nobody_saw_its_worker(place: Place, additions: Additions) -> None:
    place.name("seen")
    paths = [module.PLACE + place.write(name).name for name in ("seen", "unseen")]
    place.write("of-another-build")
    assert MIB <= total(additions) < 2 * MIB
    for _ in range(2):
        for _ in additions.look_at_kept(paths):
            continue
        assert 2 * MIB <= additions.total_bytes < 3 * MIB
    assert complaint_of_kept(additions, 3 * MIB, paths) is None
    assert complaint_of_kept(additions, MIB, paths) == (
        "the build adds more than 1.0 MiB to the store (nix.store_bytes): 2.0 MiB when it was ended"
    )


def test_what_was_there_before_does_not_count_until_it_is_written_anew(
    place: Place, additions: Additions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOCK_SLACK_NS", 0)
    path = place.write("left-by-a-dead-build")
    place.name("left-by-a-dead-build")
    additions._since_ns = path.stat().st_ctime_ns + 1
    assert total(additions) == 0
    while path.stat().st_ctime_ns < additions._since_ns:
        path.chmod(0o444)
    assert total(additions) >= MIB


def test_a_clock_that_was_set_back_hides_nothing(place: Place, additions: Additions) -> None:
    additions._since_ns = 1 << 62
    place.name("ours")
    place.write("ours")
    assert total(additions) >= MIB


def test_a_path_that_is_locked_is_counted_anew_each_time(place: Place, additions: Additions) -> None:
    place.name("growing")
    lock = place.store / f"{named('growing')}.lock"
    lock.touch()
    place.write("growing")
    assert MIB <= total(additions) < 2 * MIB
    place.write("growing", 3 * MIB)
    assert total(additions) >= 3 * MIB
    (place.store / named("growing")).unlink()
    assert total(additions) == 0
    place.write("growing")
    lock.unlink()
    assert MIB <= total(additions) < 2 * MIB


def test_the_list_is_read_to_its_end_when_its_worker_has_gone(place: Place, additions: Additions) -> None:
    place.name("first")
    assert total(additions) == 0
    place.name("second", end="")
    (place.proc / "5/fd/12").unlink()
    place.write("first")
    place.write("second")
    assert MIB <= total(additions) < 2 * MIB, "the second name is not whole yet"
    with (place.roots / "5").open("a") as file:
        file.write("\0")
    assert 2 * MIB <= total(additions) < 3 * MIB


def test_a_list_that_names_what_is_no_store_path_leads_nowhere(place: Place, additions: Additions) -> None:
    with (place.roots / "5").open("a") as file:
        file.write("/etc\0../../etc\0/nix/store/../../etc\0\0/nix/store/\0")
    assert total(additions) == 0


def test_the_root_of_a_builder_counts_once_it_was_seen_until_it_goes(place: Place, additions: Additions) -> None:
    place.name("a.drv")
    place.name("b.drv")
    for derivation in ("a.drv", "b.drv"):
        place.write(derivation, 100)
        (place.store / f"{named(derivation)}.chroot/root/tmp").mkdir(parents=True)
        (place.store / f"{named(derivation)}.chroot/root/tmp/scratch").write_bytes(bytes(MIB))
    derivations = total(additions)
    assert derivations == 2 * ENTRY_BYTES, "nobody is at work in either"
    place.give_root(5, place.store / f"{named('a.drv')}.chroot/root")
    additions._daemon_uid = NOBODYS
    assert MIB < total(additions) - derivations < 2 * MIB
    (place.proc / "5/task/5/root").unlink()
    assert MIB < total(additions) - derivations < 2 * MIB, "its builder ended, Nix looks at what it made"
    (place.store / f"{named('a.drv')}.chroot").rename(place.store / "elsewhere")
    assert total(additions) == derivations, "what stands there later is not what was seen"


@pytest.mark.parametrize(("held", "counts"), [(True, True), (False, False)], ids=["held", "waited for"])
def test_a_builder_that_takes_another_root_is_found_by_the_lock_of_its_output(
    place: Place, additions: Additions, monkeypatch: pytest.MonkeyPatch, held: bool, counts: bool
) -> None:
    """Whose lock it is tells whose builder it is; who waits for it has the file open, too."""
    monkeypatch.setattr(module, "PLACE", f"{place.store}/")
    text = f'Derive([("out","/nix/store/{named("a")}","","")],[],[],"s","b",[],…'  # the rest may be long, and is not read
    (place.store / named("a.drv")).write_text(text)
    with (place.roots / "5").open("a") as file:
        file.write(f"{place.store}/{named('a.drv')}\0")
    (place.store / f"{named('a.drv')}.chroot/root").mkdir(parents=True)
    (place.store / f"{named('a.drv')}.chroot/root/scratch").write_bytes(bytes(MIB))
    lock = place.store / f"{named('a')}.lock"
    lock.touch()
    (place.proc / "5/fd/13").symlink_to(lock)
    (place.proc / "5/fdinfo").mkdir()
    for number in (12, 13):
        (place.proc / f"5/fdinfo/{number}").write_text("pos:\t0\n")
    if held:
        (place.proc / "5/fdinfo/13").write_text("pos:\t0\nlock:\t1: FLOCK  ADVISORY  WRITE 5 00:01:2 0 EOF\n")
    monkeypatch.setattr(module, "is_store_path", lambda path: path.startswith(f"{place.store}/"))
    assert (total(additions) >= MIB) is counts


@pytest.mark.parametrize("text", [b"", b"Derive(", b"\xff", b"x" * 100])
def test_what_is_no_derivation_has_no_outputs(text: bytes) -> None:
    assert module._outputs_in(text) == frozenset()


def test_a_source_on_its_way_counts_while_a_worker_has_its_directory_open(
    place: Place, additions: Additions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLACE", f"{place.store}/")
    (place.store / "tmp-5-0").mkdir()
    (place.store / "tmp-5-0/x").write_bytes(bytes(MIB))
    assert total(additions) == 0
    (place.proc / "5/fd/13").symlink_to(place.store / "tmp-5-0")
    assert MIB < total(additions) < 2 * MIB


def test_what_was_left_unfinished_is_removed_in_the_end_whether_it_was_seen_or_not(place: Place, additions: Additions) -> None:
    (place.store / "tmp-5-0").mkdir()
    place.write("failed")
    additions.remove_unfinished(lambda _: frozenset())
    assert list(place.store.iterdir()) == []


def test_a_deleted_file_counts_as_long_as_somebody_has_it_open(place: Place, additions: Additions) -> None:
    (place.proc / "7").symlink_to("/proc/self")
    additions._daemon_uid = NOBODYS
    path = place.write("deleted")
    with path.open("rb") as first, path.open("rb"):
        assert total(additions) == 0
        path.unlink()
        assert MIB <= total(additions) < 2 * MIB, "however often it is open"
        assert first.read(1) == b"\0"
    assert total(additions) == 0


def maps_of(path: Path, length: int) -> str:
    """Return what stands in a list of mappings for a file that was deleted, beside what counts for nothing."""
    facts = path.stat()
    device = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}"
    return (
        f"7f0000000000-{0x7F0000000000 + length:x} rw-s 00000000 {device} {facts.st_ino}    {path} (deleted)\n"
        f"7f8000000000-7f8000001000 r-xp 00000000 {device} {facts.st_ino + 1}    /bin/true\n"
        "7f9000000000-7f9040000000 rw-s 00000000 00:01 77    /memfd:x (deleted)\n"
        "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]\n"
    )


def test_mappings_are_told_by_the_device_that_the_kernel_calls_them_by(place: Place, disk: Disk) -> None:
    """Which is another one than stat(2) says in a subvolume of btrfs: as the list of mounts has it."""
    path = place.write("mapped")
    facts = path.stat()
    stat_device = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}"
    (place.proc / "self").unlink()
    (place.proc / "self").mkdir()
    (place.proc / "self/fdinfo").symlink_to("/proc/self/fdinfo")
    mounts = [line.split(" ", 3) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    (place.proc / "self/mountinfo").write_text("".join(f"{one} {parent} 1:2748 {rest}\n" for one, parent, _, rest in mounts))
    additions = Additions(str(place.store), str(place.proc), NOBODYS, NOBODYS)
    maps = of_builders(place, additions, 21) / "maps"
    disk.free -= 9 * MIB
    maps.write_text(maps_of(path, MIB))
    assert total(additions) == 0, "of another device"
    maps.write_text(maps_of(path, MIB).replace(stat_device, "01:abc"))
    assert total(additions) == MIB
    additions.close()


class Disk:
    """How much is free: as much as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1 << 40
        monkeypatch.setattr(module, "unwritten_bytes", lambda _: self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def of_builders(place: Place, additions: Additions, pid: int) -> Path:
    """Make a process that is a builder's; return its directory."""
    additions._daemon_uid = NOBODYS
    (place.proc / f"{pid}/fd").mkdir(parents=True)
    place.give_root(pid, Path("/"))
    return place.proc / str(pid)


def test_what_runs_in_the_evaluations_jail_is_no_builder(place: Place, disk: Disk, additions: Additions) -> None:
    """Nobody can look into its first process: that would be missed by each look, as if it hid something."""
    path = place.write("mapped")
    process = of_builders(place, additions, 21)
    (process / "maps").write_text(maps_of(path, MIB))
    disk.free -= 9 * MIB
    assert total(additions) == MIB
    additions._jail_uid = os.getuid()
    assert total(additions) == 0
    assert not additions.keeps_mapped


def test_a_file_that_only_mappings_keep_counts_once(place: Place, disk: Disk, additions: Additions) -> None:
    """As much of it as is mapped, in whatever process."""
    path = place.write("mapped")
    for pid in (21, 22):
        (of_builders(place, additions, pid) / "maps").write_text(maps_of(path, MIB))
    disk.free -= 2 * MIB
    assert total(additions) == MIB
    disk.free += 1 << 30
    assert total(additions) == MIB, "others have freed something"
    assert additions.keeps_mapped
    for pid in (21, 22):
        (place.proc / f"{pid}/maps").write_text("")
    assert total(additions) == 0
    assert not additions.keeps_mapped


def test_a_sparse_file_that_is_mapped_counts_no_more_than_the_disk_lost(place: Place, disk: Disk, additions: Additions) -> None:
    path = place.write("mapped")
    (of_builders(place, additions, 21) / "maps").write_text(maps_of(path, 1 << 40))
    assert total(additions) == 0
    place.name("ours")
    place.write("ours", 3 * MIB)
    additions._daemon_uid = os.getuid()
    disk.free -= 3 * MIB
    assert total(additions) == 3 * MIB
    additions._daemon_uid = NOBODYS
    assert total(additions) == 3 * MIB, "what the disk lost is what it added to the store"
    disk.free -= MIB
    assert total(additions) == 4 * MIB


def test_a_file_that_was_seen_open_counts_as_large_as_it_was_then(place: Place, disk: Disk, additions: Additions) -> None:
    """However little of it is mapped later, and also where it is filled through the mapping then."""
    path = place.write("mapped")
    process = of_builders(place, additions, 21)
    (process / "fd/3").symlink_to(path)
    assert total(additions) == 0, "it has a name"
    (process / "fd/3").unlink()
    (process / "maps").write_text(maps_of(path, 4096))
    for _ in range(2):
        assert total(additions) == MIB
    (process / "maps").write_text(maps_of(path, 3 * MIB))
    disk.free -= 3 * MIB
    assert total(additions) == 3 * MIB


def test_too_long_a_list_of_mappings_is_read_on_and_until_then_nobody_can_say_what_it_keeps(
    place: Place, disk: Disk, additions: Additions
) -> None:
    """What a file had when it was seen open is remembered until the list has been read to where the file stands."""
    path = place.write("mapped")
    process = of_builders(place, additions, 21)
    (process / "maps").write_text(
        "7f8000000000-7f8000001000 r-xp 00000000 00:01 7    /bin/true\n" * 50_000 + maps_of(path, 4096)
    )
    (process / "fd/3").symlink_to(path)
    looks = []
    for _ in range(3):
        looks.append((total(additions), additions.keeps_mapped))
        (process / "fd/3").unlink(missing_ok=True)
    assert looks == [(0, True), (0, True), (MIB, True)]


def test_a_file_that_is_open_and_mapped_counts_once(place: Place, disk: Disk, additions: Additions) -> None:
    path = place.write("deleted")
    process = of_builders(place, additions, 21)
    (process / "maps").write_text(maps_of(path, MIB))
    disk.free -= 9 * MIB
    with path.open("rb") as opened:
        (process / "fd/3").symlink_to(f"/proc/self/fd/{opened.fileno()}")
        path.unlink()
        assert total(additions) == MIB
        assert not additions.keeps_mapped
        (process / "fd/3").unlink()
        assert total(additions) == MIB


def test_a_program_that_was_deleted_counts_as_long_as_it_runs(place: Place, additions: Additions) -> None:
    path = place.write("program")
    with path.open("rb") as opened:
        path.unlink()
        (of_builders(place, additions, 21) / "exe").symlink_to(f"/proc/self/fd/{opened.fileno()}")
        assert total(additions) == MIB


def test_only_so_many_descriptors_are_looked_at_and_the_next_look_goes_on(
    place: Place, additions: Additions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DESCRIPTORS_AT_ONCE", 2)
    additions._daemon_uid = NOBODYS
    (place.proc / "5").rename(place.proc / "no-process")
    for pid in (21, 22, 23):
        of_builders(place, additions, pid)
        for fd in range(3):
            (place.proc / f"{pid}/fd/{fd}").symlink_to("/dev/null")
    looked = Counter[str]()
    opened = Additions._opened

    def counting(additions: Additions, place: str, held: module._Held) -> int:
        looked[place.rpartition("/")[2]] += 1
        return opened(additions, place, held)

    monkeypatch.setattr(Additions, "_opened", counting)
    for _ in range(6):
        total(additions)
    assert looked == {"21": 2, "22": 2, "23": 2}


@pytest.mark.parametrize(("lost_bytes", "told_at_last"), [(MIB, True), (0, False)])
def test_who_is_not_looked_at_for_long_may_keep_what_the_disk_lost_beyond_what_counts(
    place: Place, disk: Disk, additions: Additions, monkeypatch: pytest.MonkeyPatch, lost_bytes: int, told_at_last: bool
) -> None:
    monkeypatch.setattr(module, "DESCRIPTORS_AT_ONCE", 2)
    told = []
    for begun in range(100, 100 + 2 * BEHIND_LOOKS, 2):
        disk.free -= lost_bytes
        for pid in (begun, begun + 1):
            of_builders(place, additions, pid)
            (place.proc / f"{pid}/maps").touch()
            for fd in range(3):
                (place.proc / f"{pid}/fd/{fd}").symlink_to("/dev/null")
        total(additions)
        told.append(additions.keeps_mapped)
        for pid in (begun, begun + 1):
            (place.proc / str(pid)).rename(place.proc / f"ended-{pid}")
    assert told == [False] * (BEHIND_LOOKS - 1) + [told_at_last]
