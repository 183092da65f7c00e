"""The lists of mappings of builders' processes (``/proc/PID/maps``), and how the store's device is called in them.

A list is as long as its process likes: 65,530 mappings, each with a path in which a newline is four characters, are a gigabyte,
and take the kernel and us a minute. So a look reads `FIRST_BYTES` of each, which are all of a usual one, then `MAPS_AT_ONCE` of
those that are longer, and the next one goes on from there. An open list goes on behind the last mapping that it told of,
whatever has come and gone meanwhile; it keeps no process's memory.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from io import FileIO
from typing import Final

from cutor.nix.inside.mapped_files import MappedFiles
from cutor.nix.inside.turns import Turns

PROC: Final = "/proc"
PAGES_BYTES: Final = 16 << 10
"""The kernel gives a page or two of a list of mappings at a time, or one line that is longer."""
FIRST_BYTES: Final = 64 << 10
"""Of each list at every look, before more is read of any: usual ones are shorter, by far."""
FIRST_AT_ONCE: Final = 8 << 20
"""Of all those first parts at one look: a thousand usual lists."""
MAPS_AT_ONCE: Final = 1 << 20
"""Of one list at one look, beside its first part: some 10,000 mappings with usual paths. Of all, that and one list more."""
OPEN_AT_MOST: Final = 64
"""Lists that are gone on with at the next look; what is more than that begins anew each time, and is never read to its end."""
LINE_BYTES: Final = 4096
"""Of one line, what is kept until its end has come: its first part, which names range, device and inode, and its last."""


class MappingLists:
    """What the processes of builders have mapped of one device (major, minor), read a piece at each look.

    A process that is not looked at for a while counts as it did when it was.
    """

    def __init__(self, device: tuple[int, int]) -> None:
        self._device = device
        self._lists: dict[int, _List] = {}
        self._turns = Turns()

    @property
    def is_too_long(self) -> bool:
        """Whether some list is longer than what one look reads, or names more files than are told apart."""
        return any(one.is_long or one.is_overfull for one in self._lists.values())

    @property
    def is_behind(self) -> bool:
        """Whether some process's list was not read in many looks, or that of another new one in each of them."""
        return self._turns.is_behind

    @property
    def is_whole(self) -> bool:
        """Whether the last look read every list to its end."""
        return self._turns.is_whole and not any(one.is_long for one in self._lists.values())

    def look(self, places: Mapping[int, str]) -> Iterator[None]:
        """Read on in the lists of processes, pausing every page; the next look goes on with other ones. Forget the others.

        ``places`` are their directories in ``/proc``, by their numbers, or those of a thread of each.
        """
        order = self._turns.begin(places)
        self._forget_others(order)
        yield from self._first_parts(order, places)
        left = MAPS_AT_ONCE
        for pid in order:
            one = self._lists[pid]
            if one.is_read:
                self._turns.finished(pid)
            elif left > 0:
                left -= yield from self._rest(pid, one)
            else:
                one.drop_part()
        self._turns.end()

    def _first_parts(self, order: list[int], places: Mapping[int, str]) -> Iterator[None]:
        """Read the first part of each list but of those that the look goes on with."""
        left = FIRST_AT_ONCE
        for pid in order:
            one = self._lists.setdefault(pid, _List(f"{places[pid]}/maps", self._device))
            one.is_read = False
            one.drop_part()
            if left > 0 and not one.is_open:
                left -= yield from one.read(FIRST_BYTES)
                self._limit_open(one)

    def _rest(self, pid: int, one: _List) -> Generator[None, None, int]:
        read_bytes = yield from one.read(MAPS_AT_ONCE)
        if one.is_read:
            self._turns.finished(pid)
        elif one.is_open:
            self._turns.took(pid)
            one.leave_to_next_look()
            self._limit_open(one)
        return read_bytes

    def _limit_open(self, one: _List) -> None:
        if one.is_open and sum(other.is_open for other in self._lists.values()) > OPEN_AT_MOST:
            one.close()

    def files(self) -> Generator[None, None, MappedFiles]:
        """Return what all processes have mapped, as far as it was read, pausing after each."""
        together = MappedFiles(self._device)
        for one in self._lists.values():
            for files in one.files():
                together.add(files)
            yield
        return together

    def _forget_others(self, pids: Collection[int]) -> None:
        for pid in self._lists.keys() - set(pids):
            self._lists.pop(pid).close()

    def close(self) -> None:
        """Let go of everything."""
        self._forget_others(())


class _List:
    """One process's list. What it named is kept until it was read anew, to its end."""

    def __init__(self, path: str, device: tuple[int, int]) -> None:
        self._path = path
        self._device = device
        self._file: FileIO | None = None
        self._rest = b""
        self._before = MappedFiles(device)
        self._found = MappedFiles(device)
        self._takes_looks = False
        self.is_long = False
        self.is_read = False
        """Whether it was read to its end, or its process has ended. Who begins a look takes it back."""

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def is_overfull(self) -> bool:
        return self._before.is_overfull or self._found.is_overfull

    def files(self) -> tuple[MappedFiles, MappedFiles]:
        return self._before, self._found

    def read(self, at_most_bytes: int) -> Generator[None, None, int]:
        """Read on, or begin anew; return how many bytes there were. What can't be read is not at its end."""
        read_bytes = 0
        try:
            file = self._file or self._begin()
            while read_bytes < at_most_bytes:
                if not (piece := file.read(PAGES_BYTES)):
                    self._end()
                    break
                read_bytes += len(piece)
                self._take(piece)
                yield
        except (FileNotFoundError, ProcessLookupError):  # the process ended
            self._end()
        except OSError:
            self.close()
        return read_bytes

    def leave_to_next_look(self) -> None:
        """Go on here at the next look: the list is longer than what one reads."""
        self.is_long = self._takes_looks = True

    def drop_part(self) -> None:
        """Begin anew the next time, unless it was left to another look: else its parts are of one look."""
        if not self._takes_looks:
            self.close()

    def _begin(self) -> FileIO:
        self._file = FileIO(self._path, "rb")
        self._takes_looks, self._rest, self._found = False, b"", MappedFiles(self._device)
        return self._file

    def _take(self, piece: bytes) -> None:
        whole, newline, rest = piece.rpartition(b"\n")
        if newline:
            self._found.read(self._rest + whole)
            self._rest = rest
        else:
            self._rest += rest
        if len(self._rest) > LINE_BYTES:
            self._rest = self._rest[: LINE_BYTES // 2] + self._rest[-LINE_BYTES // 2 :]

    def _end(self) -> None:
        self.is_long, self.is_read = self._takes_looks, True
        self._before, self._found = self._found, MappedFiles(self._device)
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def device_of(handle: int, proc: str = PROC) -> tuple[int, int]:
    """Return the numbers (major, minor) by which lists of mappings call the device of an open file.

    They are those of the file system itself, which the list of mounts shows, too (proc(5)). What stat(2) says is another thing
    where a file system gives parts of itself devices of their own, as btrfs does with subvolumes. Raises `OSError`.
    """
    mount = _mount_of(handle, proc)
    with open(f"{proc}/self/mountinfo", "rb") as mounts:  # noqa: PTH123
        for line in mounts:
            number, _parent, device, *_ = line.split()
            if number == mount:
                major, minor = device.split(b":")
                return int(major), int(minor)
    raise OSError(f"mount {mount.decode()}, which the store is on, is not among this container's: run it with /nix as a volume")


def _mount_of(handle: int, proc: str) -> bytes:
    with open(f"{proc}/self/fdinfo/{handle}", "rb") as facts:  # noqa: PTH123
        for line in facts:
            if line.startswith(b"mnt_id:"):
                return line.split()[1]
    raise OSError("the kernel does not tell which mount an open file is on (proc(5), mnt_id)")
