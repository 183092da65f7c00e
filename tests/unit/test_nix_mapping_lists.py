"""How the kernel's lists of mappings are read: a piece at each look, however long they are; and the names of devices in them.

Lists are files made by hand, and once that of a real process which has made its own as long as it can.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Set
from io import FileIO
from pathlib import Path
from typing import Final, TypeVar

import pytest

from cutor.nix.inside import mapped_files, mapping_lists
from cutor.nix.inside.mapped_files import FILES_AT_ONCE
from cutor.nix.inside.mapping_lists import FIRST_BYTES, MAPS_AT_ONCE, PAGES_BYTES, MappingLists, device_of
from cutor.nix.inside.turns import BEHIND_LOOKS

DEVICE: Final = (254, 1)
LENGTH: Final = 0x1000
FILLING: Final = "7f8000000000-7f8000001000 r--p 00000000 fe:01 77    /x" + "\\012" * 249 + "\n"
"""A mapping of a file that has a name, and a long one: 1,052 bytes."""


T = TypeVar("T")


class Reads:
    """How much was read of each list since `clear`."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes.values())

    def clear(self) -> None:
        self.bytes.clear()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Count what is read, by the number of the process."""
    made = Reads()

    class Counting(FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            pid = str(self.name).split("/")[-2]
            made.bytes[pid] = made.bytes.get(pid, 0) + len(piece)
            return piece

    monkeypatch.setattr(mapping_lists, "FileIO", Counting)
    return made


@pytest.fixture
def lists() -> Iterator[MappingLists]:
    made = MappingLists(DEVICE)
    yield made
    made.close()


def deleted(inode: int) -> str:
    return f"7f0000000000-{0x7F0000000000 + LENGTH:x} rw-s 00000000 fe:01 {inode}    /x (deleted)\n"


def write(proc: Path, pid: int, text: str) -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / f"{pid}/maps").write_text(text)


def ended(steps: Generator[None, None, T]) -> T:
    """Go through all pauses; return what comes in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: T = end.value
            return answer


def inodes_of(lists: MappingLists) -> Set[int]:
    """Return those that are known to be mapped."""
    return ended(ended(lists.files()).uncounted((), {})).inodes


def look(lists: MappingLists, proc: Path, *pids: int) -> Set[int]:
    """Look once; return the inodes that are known to be mapped."""
    for _ in lists.look({pid: f"{proc}/{pid}" for pid in pids}):
        continue
    return inodes_of(lists)


def test_a_list_is_read_on_at_the_next_look_where_the_last_one_stopped(
    tmp_path: Path, lists: MappingLists, reads: Reads
) -> None:
    """Until its end has been seen it is told to be too long, and what was found in its former parts still counts."""
    write(tmp_path, 7, deleted(1) + FILLING * 2500 + deleted(2))
    seen = []
    for _ in range(4):
        reads.clear()
        seen.append((look(lists, tmp_path, 7), lists.is_too_long, lists.is_whole))
        assert reads.total_bytes <= FIRST_BYTES + MAPS_AT_ONCE + PAGES_BYTES
    part, everything = (frozenset({1}), True, False), (frozenset({1, 2}), True, False)
    assert seen == [part, part, everything, everything], "the third saw the end, the fourth began anew"
    for _ in range(3):
        write(tmp_path, 7, FILLING)
        look(lists, tmp_path, 7)
    assert (inodes_of(lists), lists.is_too_long, lists.is_whole) == (frozenset(), False, True)


def test_processes_share_what_one_look_reads_and_take_turns(tmp_path: Path, lists: MappingLists, reads: Reads) -> None:
    pids = {7, 8, 9}
    for pid in pids:
        write(tmp_path, pid, FILLING * 3500 + deleted(pid))
    turns = []
    for _ in range(6):
        reads.clear()
        look(lists, tmp_path, *pids)
        assert reads.total_bytes <= 3 * FIRST_BYTES + MAPS_AT_ONCE + PAGES_BYTES
        turns.append(max(reads.bytes, key=reads.bytes.__getitem__))
    assert {*turns[:3]} == {*turns[3:]} == {str(pid) for pid in pids}
    assert not lists.is_whole
    for _ in range(9):
        reads.clear()
        found = look(lists, tmp_path, *pids)
        assert reads.total_bytes <= 3 * FIRST_BYTES + 2 * MAPS_AT_ONCE + PAGES_BYTES, (
            "the end of one list, and a part of another"
        )
    assert found == pids


LONG: Final = 900
"""Lines of filling that one look reads one or two of, in one list each."""


def test_nobody_stays_unread_behind_new_long_lists(tmp_path: Path, lists: MappingLists) -> None:
    """Whoever began last, and has the highest number, as one has who is always begun anew after the others."""
    seen: set[int] = set()
    for begun in range(20, 20 + 3 * 30, 3):
        for decoy in (begun, begun + 1):
            write(tmp_path, decoy, FILLING * LONG)
        write(tmp_path, begun + 2, FILLING * LONG + deleted(7))
        seen |= look(lists, tmp_path, *[pid for pid in range(begun - 6, begun) if pid % 3 != 1], begun, begun + 1, begun + 2)
    assert seen == {7}


def test_new_processes_that_every_look_misses_are_told(tmp_path: Path, lists: MappingLists) -> None:
    write(tmp_path, 1, FILLING)
    behind = []
    for begun in range(10, 10 + 4 * (BEHIND_LOOKS + 1), 4):
        new = range(begun, begun + 4)
        for pid in new:
            write(tmp_path, pid, FILLING * LONG)
        look(lists, tmp_path, 1, *new)
        assert not lists.is_whole
        behind.append(lists.is_behind)
    assert behind == [False] * (BEHIND_LOOKS - 1) + [True] * 2
    look(lists, tmp_path, 1)
    assert (lists.is_behind, lists.is_whole) == (False, True)


def test_one_that_was_read_once_and_then_no_more_is_told(tmp_path: Path, lists: MappingLists) -> None:
    """Others that are new come before it each time; its list is not too long to be read at once."""
    write(tmp_path, 1, FILLING)
    look(lists, tmp_path, 1)
    write(tmp_path, 1, FILLING * LONG)
    for begun in range(10, 10 + 2 * BEHIND_LOOKS, 2):
        assert not lists.is_behind
        for pid in (begun, begun + 1):
            write(tmp_path, pid, FILLING * LONG)
        look(lists, tmp_path, 1, begun, begun + 1)
    assert lists.is_behind
    look(lists, tmp_path, 1)
    assert not lists.is_behind


def test_what_cannot_be_read_is_not_read_and_what_it_named_stays(
    tmp_path: Path, lists: MappingLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 7, deleted(1))
    assert look(lists, tmp_path, 7) == {1}

    def refuse(*_: object) -> FileIO:
        raise PermissionError

    monkeypatch.setattr(mapping_lists, "FileIO", refuse)
    for _ in range(BEHIND_LOOKS):
        assert not lists.is_behind
        assert look(lists, tmp_path, 7) == {1}
        assert not lists.is_whole
    assert lists.is_behind


def test_short_lists_are_all_read_and_none_is_too_long(tmp_path: Path, lists: MappingLists) -> None:
    for pid in range(100, 200):
        write(tmp_path, pid, FILLING + deleted(pid))
    assert look(lists, tmp_path, *range(100, 200)) == set(range(100, 200))
    assert (lists.is_too_long, lists.is_whole) == (False, True)
    assert look(lists, tmp_path, 100) == {100}, "the others have gone"


def test_of_many_long_lists_only_some_stay_open(tmp_path: Path, lists: MappingLists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping_lists, "OPEN_AT_MOST", 2)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for pid in range(10, 20):
        write(tmp_path, pid, FILLING * 1500)
    for _ in range(15):
        look(lists, tmp_path, *range(10, 20))
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= 2
        assert lists.is_too_long


def test_a_line_of_any_length_is_read_and_not_kept(tmp_path: Path, lists: MappingLists) -> None:
    long = "x" * (300 << 10)
    write(tmp_path, 7, deleted(1).replace("/x", f"/{long}") + deleted(2))
    assert look(lists, tmp_path, 7) == {1, 2}


def test_who_maps_more_files_than_are_told_apart_keeps_what_is_not_counted(
    tmp_path: Path, lists: MappingLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped_files, "FILES_AT_MOST", 3)
    write(tmp_path, 7, "".join(deleted(inode) for inode in (1, 2, 3, 1)))
    assert look(lists, tmp_path, 7) == {1, 2, 3}
    assert not lists.is_too_long
    write(tmp_path, 7, "".join(deleted(inode) for inode in (1, 2, 3, 4)))
    assert look(lists, tmp_path, 7) == {1, 2, 3}
    assert lists.is_too_long


def test_a_process_that_ended_meanwhile_has_nothing(tmp_path: Path, lists: MappingLists) -> None:
    write(tmp_path, 7, deleted(1))
    assert look(lists, tmp_path, 7) == {1}
    (tmp_path / "7/maps").unlink()
    assert look(lists, tmp_path, 7) == frozenset()


def test_however_many_files_are_mapped_they_are_gone_through_in_parts(tmp_path: Path, lists: MappingLists) -> None:
    """Three hundred processes with a thousand each took a sixth of a second in one step."""
    for pid in range(10, 40):
        write(tmp_path, pid, "".join(deleted(1000 * pid + n) for n in range(1000)))
    assert len(look(lists, tmp_path, *range(10, 40))) == 30_000
    files = ended(lists.files())
    assert sum(1 for _ in lists.files()) == 30
    assert sum(1 for _ in files.uncounted((), {})) == 30_000 // FILES_AT_ONCE


MANY: Final = r"""
import ctypes, os, sys
os.chdir(sys.argv[1])
for _ in range(14):
    name = chr(10) * 250
    os.mkdir(name)
    os.chdir(name)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
file = os.open("x", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 8192)
for n in range(3000):
    assert libc.mmap(None, 4096, 1, 2 - n % 2, file, 0) != 2**64 - 1
print("made", flush=True)
sys.stdin.read()
"""


def test_a_process_that_makes_its_list_as_long_as_it_can_is_read_in_pieces(tmp_path: Path, reads: Reads) -> None:
    """Of 3,000 mappings with 14 KiB of path, every look reads its part, and the kernel goes on where it was."""
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        lists = MappingLists(DEVICE)
        looks_bytes = []
        while not looks_bytes or lists._lists[process.pid].is_open:
            reads.clear()
            look(lists, Path("/proc"), process.pid)
            looks_bytes.append(reads.total_bytes)
        whole_bytes = len((Path("/proc") / str(process.pid) / "maps").read_bytes())
        assert lists.is_too_long
        process.communicate(b"")
        lists.close()
    assert max(looks_bytes) <= FIRST_BYTES + MAPS_AT_ONCE + 2 * PAGES_BYTES
    assert sum(looks_bytes) == whole_bytes
    assert whole_bytes > 30 * MAPS_AT_ONCE


def test_the_device_is_the_one_that_the_kernel_shows_for_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(bytes(mmap.PAGESIZE))
    directory = os.open(tmp_path, os.O_RDONLY)
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ):
        lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    (device,) = {line[3] for line in lines if line[5:6] == [str(path)]}
    assert ":".join(f"{number:02x}" for number in device_of(directory)) == device
    os.close(directory)


@pytest.mark.parametrize(
    ("fdinfo", "message"),
    [("pos:\t0\nmnt_id:\t7\n", "mount 7, which the store is on, is not among"), ("pos:\t0\n", "the kernel does not tell")],
)
def test_a_mount_that_nobody_knows_is_said(tmp_path: Path, fdinfo: str, message: str) -> None:
    (tmp_path / "self/fdinfo").mkdir(parents=True)
    (tmp_path / "self/fdinfo/3").write_text(fdinfo)
    (tmp_path / "self/mountinfo").write_text("77 1 254:0 / / rw - ext4 /dev/x rw\n")
    with pytest.raises(OSError, match=message):
        device_of(3, str(tmp_path))
