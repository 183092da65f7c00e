"""What a build adds to the shared store while its daemon runs, found by what its own processes hold.

The store's volume is shared, so neither its free space nor its listing says who wrote what. Whatever the daemon of this build
makes, it names first:

- each of its workers keeps a list of temporary roots, an open file: every path that it adds, builds or fetches, and others that
  it merely uses, which are told apart by their time of change;
- a builder's own root directory is the file system that Nix made for it, beside its derivation: what it has not finished yet.
  Its processes may take another root; but while they are at work a worker holds the lock of the derivation's output;
- a source that is on its way into the store is in a directory that the worker has open;
- a deleted file counts for as long as a process has it open, runs it, or has it mapped (`mapping_lists`, `mapped_files`).

Not seen are files without a name in a socket's queue, a mount or a rule of landlock, and more of a mapped one than is mapped
where it was open between two looks: what their build's end gives back tells of them (`store_watch.Room`).
"""

from __future__ import annotations

# Places beneath /proc, and names in an open directory:
# ruff: noqa: PTH115, PTH116, PTH208
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple

from cutor.nix.inside import derivation
from cutor.nix.inside.derivation import DerivationError, is_store_path
from cutor.nix.inside.disk_usage import BLOCK_BYTES, Tally, count_tree, unwritten_bytes
from cutor.nix.inside.mapping_lists import PROC, MappingLists, device_of
from cutor.nix.inside.namespace import JAIL_ID
from cutor.nix.inside.tidying import Unknown, tidy
from cutor.nix.inside.turns import Turns

PLACE: Final = "/nix/store/"
TEMPORARY_ROOTS: Final = "/nix/var/nix/temproots/"
CLOCK_SLACK_NS: Final = 20_000_000
"""The kernel takes a file's time from a clock that lags by a tick."""
DESCRIPTORS_AT_ONCE: Final = 4096
"""Of builders' first threads that one look looks at, 3 µs each, and those of one more; the next look goes on with others.

As many again of all further threads, which mostly have the same files open as the first.
"""
THREADS_AT_ONCE: Final = 64
"""Threads between two pauses of a look, so that a slice is not passed by much. A choice."""
KNOWN_AT_MOST: Final = 1 << 16
"""Files whose size is remembered from when they were seen open: the latest, while others may still turn out to be mapped."""
PIECE_BYTES: Final = 1 << 20
"""Read at one time of the temporary roots: some ten thousand paths. A choice."""
DERIVATION_BYTES: Final = 16 << 20
"""Of a derivation that is read for its outputs."""
LOCK: Final = ".lock"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Identity(NamedTuple):
    """What makes a file itself, whatever its name."""

    device: int
    inode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Identity:
        """Return that of a file."""
        return cls(facts.st_dev, facts.st_ino)


class Additions:
    """What has been added since this was made. `look` counts it anew, a little at a time; `close` lets go of everything."""

    def __init__(self, store: str = "/nix/store", proc: str = PROC, daemon_uid: int = 0, jail_uid: int = JAIL_ID) -> None:
        self._proc = proc
        self._daemon_uid = daemon_uid
        self._jail_uid = jail_uid
        self._root = store
        self._store = os.open(store, _DIRECTORY)
        self._device = os.fstat(self._store).st_dev
        self._mapping_lists = MappingLists(device_of(self._store, proc))
        self._unwritten_bytes = unwritten_bytes(store)
        self._since_ns = time.time_ns() - CLOCK_SLACK_NS
        self._roots: dict[Identity, _TemporaryRoots] = {}
        self._derivations: set[str] = set()
        self._pending: set[str] = set()
        self._settled: set[str] = set()
        self._settled_bytes = 0
        self._unfinished: dict[str, Identity] = {}
        self._outputs: dict[str, frozenset[str]] = {}
        self._locked: set[str] = set()
        self._tally = Tally()
        self._last_bytes = 0
        self._turns = Turns()
        self._further_turns = Turns()
        self._open_bytes: dict[int, int] = {}
        self._mapped_bytes = 0
        self._lost_bytes = 0
        self.keeps_mapped = False
        """Whether builders may keep more than what was counted: files by mappings alone, or too long a list of these.

        Also where others could not be looked at for long, and the disk has lost more than what was counted.
        """

    @property
    def total_bytes(self) -> int:
        """What the last look found, or what the one that goes on has found so far, if that is more."""
        return max(self._last_bytes, self._settled_bytes + self._tally.total_bytes)

    def look(self) -> Iterator[None]:
        """Count, pausing again and again. Raises `TooDeep` for directories that can't be counted."""
        self._since_ns = min(self._since_ns, time.time_ns() - CLOCK_SLACK_NS)  # a clock that was set back
        self._tally = Tally()
        roots: set[Identity] = set()
        self._locked.clear()
        yield from self._processes(roots)
        for kept in self._roots.values():
            self._take_note(kept.read())
        for name in self._derivations:
            self._builders_directory(name, roots)
            yield
        for name in sorted(self._pending):
            yield from self._path(name)
            yield
        for name, identity in sorted(self._unfinished.items()):
            if self._is(name, identity):
                yield from count_tree(self._tally, self._store, name)
            else:
                del self._unfinished[name]
        self._last_bytes = self._settled_bytes + self._tally.total_bytes
        self._tally = Tally()

    def look_at_kept(self, paths: Iterable[str]) -> Iterator[None]:
        """Count what of ``paths``, which the build leaves, no look has counted yet, pausing again and again.

        A worker that came and went between two looks took its list with it; what it made for good is here. Raises `TooDeep`.
        """
        self._take_note(paths)
        for name in sorted(self._pending):
            yield from self._path(name)
            self._last_bytes = max(self._last_bytes, self._settled_bytes)
            yield

    def _take_note(self, paths: Iterable[str]) -> None:
        """Note what was named: each path to be counted, once, and derivations as what may be built, again and again."""
        for path in paths:
            name = path.removeprefix(PLACE)
            if name.endswith(".drv"):
                self._derivations.add(name)
            if name not in self._settled:
                self._pending.add(name)

    def _path(self, name: str) -> Iterator[None]:
        """Count a path that the daemon named: once and for all where it is done, until then each time."""
        facts = self._facts(name)
        if facts is None or facts.st_ctime_ns < self._since_ns:
            return
        if self._facts(f"{name}.lock") is not None:
            yield from count_tree(self._tally, self._store, name)
            return
        done = Tally()
        yield from count_tree(done, self._store, name)
        self._settled_bytes += done.total_bytes
        self._settled.add(name)
        self._pending.discard(name)

    def _builders_directory(self, derivation_name: str, roots: set[Identity]) -> None:
        """Take note of a derivation's directory in the store that is the root of one of our builders, or was made for one."""
        name = f"{derivation_name}.chroot"
        with suppress(OSError):
            handle = os.open(name, _DIRECTORY, dir_fd=self._store)
            try:
                root = os.stat("root", dir_fd=handle, follow_symlinks=False)
                if Identity.of(root) in roots or not self._locked.isdisjoint(self._outputs_of(derivation_name)):
                    self._unfinished[name] = Identity.of(os.fstat(handle))
            finally:
                os.close(handle)

    def _outputs_of(self, name: str) -> frozenset[str]:
        """Return the names of a derivation's outputs, none for what can't be read as one. Raises `OSError`."""
        if name not in self._outputs:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._store)
            try:
                text = os.pread(handle, DERIVATION_BYTES, 0)
            finally:
                os.close(handle)
            self._outputs[name] = _outputs_in(text)
        return self._outputs[name]

    def _is(self, name: str, identity: Identity) -> bool:
        facts = self._facts(name)
        return facts is not None and Identity.of(facts) == identity

    def _facts(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._store, follow_symlinks=False)
        except OSError:
            return None

    # Processes

    def _processes(self, roots: set[Identity]) -> Iterator[None]:
        """Look at every process but our own: the daemon's workers, and everything else that may be a builder's.

        What runs in the evaluation's jail is none, and writes to the store by the daemon alone. Nobody can look into the jail's
        own first process: it would be one that is missed by each look, of any build that lasts.
        """
        pids = sorted(int(name) for name in os.listdir(self._proc) if name.isdigit() and int(name) != os.getpid())
        held, builders = _Held(), _Threads()
        for pid in pids:
            with suppress(OSError):  # it ended meanwhile
                uid = os.stat(f"{self._proc}/{pid}").st_uid
                if uid == self._daemon_uid:
                    self._worker(pid)
                elif uid != self._jail_uid:
                    yield from self._threads(pid, builders, roots)
            yield
        yield from self._all_opened(self._turns, builders.first, held)
        yield from self._all_opened(self._further_turns, builders.further, held)
        yield from self._mapping_lists.look(builders.first)
        yield from self._count_held(held)

    def _threads(self, pid: int, builders: _Threads, roots: set[Identity]) -> Iterator[None]:
        """Note the threads of a process that have not ended, and their roots.

        Each can have a root and open files of its own (unshare(2)), and the first, which stands for all, may have ended.
        """
        places, begun = builders.first, len(builders.further)
        for name in sorted(os.listdir(f"{self._proc}/{pid}/task"), key=int):
            place = f"{self._proc}/{pid}/task/{name}"
            with suppress(OSError):
                roots.add(Identity.of(os.stat(f"{place}/root")))
                places[int(name)] = place
                places = builders.further
            if not (len(builders.further) - begun + 1) % THREADS_AT_ONCE:
                yield

    def _all_opened(self, turns: Turns, places: Mapping[int, str], held: _Held) -> Iterator[None]:
        """Note the files that threads have open, or run, of as many as one look looks at."""
        left = DESCRIPTORS_AT_ONCE
        for thread in turns.begin(places):
            if left <= 0:
                break
            try:
                left -= self._opened(places[thread], held)
                turns.finished(thread)
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                turns.finished(thread)
            except OSError:
                left -= 1
            yield
        turns.end()

    def _worker(self, pid: int) -> None:
        """Take hold of a worker's list of temporary roots, and note sources that are on their way."""
        for fd in os.listdir(f"{self._proc}/{pid}/fd"):
            with suppress(OSError):
                link = f"{self._proc}/{pid}/fd/{fd}"
                target = os.readlink(link)
                if target.startswith(TEMPORARY_ROOTS):
                    self._hold(link)
                elif target.startswith(PLACE) and target.endswith(LOCK):
                    if _holds_lock(f"{self._proc}/{pid}/fdinfo/{fd}"):
                        self._locked.add(target.removeprefix(PLACE).removesuffix(LOCK))
                elif target.startswith(PLACE):
                    name = target.removeprefix(PLACE).partition("/")[0]
                    facts = self._facts(name)
                    if facts is not None and stat.S_ISDIR(facts.st_mode) and not is_store_path(PLACE + name):
                        self._unfinished.setdefault(name, Identity.of(facts))

    def _hold(self, link: str) -> None:
        facts = os.stat(link)
        if stat.S_ISREG(facts.st_mode) and Identity.of(facts) not in self._roots:
            self._roots[Identity.of(facts)] = _TemporaryRoots(os.open(link, os.O_RDONLY | os.O_CLOEXEC))

    def _opened(self, place: str, held: _Held) -> int:
        """Note the files that a thread has open, or runs; return how many descriptors were looked at."""
        looked = 1
        with suppress(OSError):
            self._note(f"{place}/exe", held)
        with os.scandir(f"{place}/fd") as descriptors:
            for descriptor in descriptors:
                looked += 1
                with suppress(OSError):
                    self._note(descriptor.path, held)
        return looked

    def _note(self, link: str, held: _Held) -> None:
        facts = os.stat(link)
        if facts.st_dev == self._device and stat.S_ISREG(facts.st_mode):
            (held.named if facts.st_nlink else held.deleted)[facts.st_ino] = facts.st_blocks * BLOCK_BYTES

    def _count_held(self, held: _Held) -> Iterator[None]:
        """Count what has no name, each file once, and remember the size of what may be mapped, and closed, at the next look.

        Where not all of what processes hold was looked at, the rest may be of any file that was seen.
        """
        known = self._open_bytes | held.named
        files = yield from self._mapping_lists.files()
        mapped = yield from files.uncounted(held.deleted, known)
        unwritten = unwritten_bytes(self._root)
        self._lost_bytes += max(self._unwritten_bytes - unwritten, 0)  # what others free meanwhile hides nothing of before
        self._unwritten_bytes = unwritten
        unexplained = self._lost_bytes - (self._last_bytes - self._mapped_bytes)
        self._mapped_bytes = mapped.total_bytes(unexplained)
        self._tally.total_bytes += sum(held.deleted.values()) + self._mapped_bytes
        is_behind = self._turns.is_behind or self._mapping_lists.is_behind
        is_uncounted = bool(mapped.inodes) or self._mapping_lists.is_too_long
        self.keeps_mapped = is_uncounted or (is_behind and unexplained > self._mapped_bytes)
        is_whole = self._turns.is_whole and self._further_turns.is_whole and self._mapping_lists.is_whole
        wanted = mapped.inodes if is_whole else known.keys()
        latest = {inode: size for inode, size in known.items() if inode in wanted} | held.named | held.deleted
        self._open_bytes = dict(islice(latest.items(), max(len(latest) - KNOWN_AT_MOST, 0), None))

    # The end

    def remove_unfinished(self, unknown: Unknown) -> None:
        """Remove what was left unfinished since this was made. Call when the daemon is dead: nobody writes it any more.

        What another build makes is left alone (`tidying`), and what Nix's database knows, as ``unknown`` tells.
        """
        tidy(self._root, self._store, self._since_ns, unknown)

    def close(self) -> None:
        """Let go of every descriptor."""
        for kept in self._roots.values():
            kept.close()
        self._roots.clear()
        self._mapping_lists.close()
        os.close(self._store)


def _outputs_in(text: bytes) -> frozenset[str]:
    try:
        return frozenset(path.rpartition("/")[2] for path in derivation.outputs_of(text).values())
    except DerivationError:
        return frozenset()


def _holds_lock(information: str) -> bool:
    """Return whether an open file is locked by who has it open: who waits for a lock has the file open, too (proc(5))."""
    with open(information, "rb") as opened:  # noqa: PTH123
        return any(line.startswith(b"lock:") for line in opened)


class _Threads:
    """Directories of builders' threads in ``/proc`` by their numbers: one of each process, and the further ones of all."""

    def __init__(self) -> None:
        self.first: dict[int, str] = {}
        self.further: dict[int, str] = {}


class _Held:
    """What builders hold open of the store's device: bytes of files by inode, those with a name and those without."""

    def __init__(self) -> None:
        self.named: dict[int, int] = {}
        self.deleted: dict[int, int] = {}


class _TemporaryRoots:
    """A worker's list of paths, each ended by a NUL byte; it grows only, and stays readable when its worker has gone."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._at = 0
        self._rest = b""

    def read(self) -> Iterator[str]:
        """Yield the paths that came since the last time."""
        while piece := os.pread(self._handle, PIECE_BYTES, self._at):
            self._at += len(piece)
            *texts, self._rest = (self._rest + piece).split(b"\0")
            yield from (text for raw in texts if is_store_path(text := raw.decode("ascii", "replace")))

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)
