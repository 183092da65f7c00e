"""Removing what the builders of a dead daemon left in the store, while other builds go on: under Nix's own locks.

Nix locks PATH.lock (flock) for as long as it makes PATH. Who holds the locks of a derivation's outputs is alone with the
directory of its builder and with what stands at the outputs' places: what nobody holds any more can go. What was left is found
by looking through the whole store for what changed since the build began, not by what was seen of the build: a
builder can begin and fail between two looks at it.

What Nix's database does not know is valid to nobody. Nix moves what a failed builder made to its place, for people to look at.
A path that has not Nix's time is not in the database; one that has it may not be either: a builder can set it, and Nix itself
sets it before it looks for what an output must not refer to. What takes longer than `REMOVAL_SECONDS` has been put aside, for
the next build that is alone (`store.remove_leftovers`).
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from cutor.jail.inside.box import remove_tree
from cutor.nix.inside.derivation import DerivationError, is_store_path
from cutor.nix.inside.files import FilesError
from cutor.nix.inside.store import ASIDE, StoreError, is_lock, read_outputs

REMOVAL_SECONDS: Final = 10.0
"""Of the time of a build whose daemon was killed. What it does not suffice for is put aside, for the next build."""
PLACE: Final = "/nix/store/"
NIX_TIME_S: Final = 1
"""Time of change of what is in the store: Nix sets it before a path becomes valid (Nix manual, "Store object")."""
CHROOT: Final = ".chroot"
TEMPORARY: Final = "tmp-"
"""Begins the name of a directory in which Nix unpacks a source; it holds a lock (flock) of the directory itself meanwhile."""
LOCKS_AT_ONCE: Final = 64
"""Locks that are held at one time, a descriptor each, and paths of one question to Nix's database. A choice."""

Unknown = Callable[[Sequence[str]], frozenset[str]]
"""Returns which of these names in the store Nix's database does not know; none where it can't be asked."""

_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tidying:
    """One removal of what changed since ``since_ns``; ``store`` is the open store directory, which is at ``root``."""

    def __init__(self, root: str, store: int, since_ns: int, unknown: Unknown) -> None:
        self._root = root
        self._store = store
        self._since_ns = since_ns
        self._unknown = unknown
        self._deadline = time.monotonic() + REMOVAL_SECONDS

    def run(self) -> None:
        """Remove directories first, which may be what fills the disk; the database is asked last."""
        paths = []
        for name, facts in list(self._changed()):
            if stat.S_ISDIR(facts.st_mode) and name.startswith(TEMPORARY):
                self._temporary(name)
            elif stat.S_ISDIR(facts.st_mode) and name.endswith(f".drv{CHROOT}") and self._facts(name.removesuffix(CHROOT)):
                self._builders_directory(name.removesuffix(CHROOT))
            elif is_store_path(PLACE + name) and not (name.endswith(".lock") and is_lock(facts)):
                paths.append(name)
        self._remove_alone([name for name in paths if self._is_unfinished(name)], self._are_unfinished)
        self._remove_alone(self._are_unknown(paths), self._are_unknown)

    def _changed(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield names in the store, and what they are, that were made or changed since."""
        with os.scandir(self._store) as entries:
            for entry in entries:
                facts = None if entry.name.startswith(".") else self._facts(entry.name)
                if facts is not None and facts.st_ctime_ns >= self._since_ns:
                    yield entry.name, facts

    def _temporary(self, name: str) -> None:
        """Remove the directory of a source that nobody unpacks any more. Nix looks again once it has locked a new one."""
        with suppress(OSError):
            handle = os.open(name, _DIRECTORY, dir_fd=self._store)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove(name)
            finally:
                os.close(handle)

    def _builders_directory(self, derivation: str) -> None:
        """Remove the directory in which ``derivation`` was built, if nobody builds it now."""
        with suppress(StoreError, DerivationError, FilesError):
            outputs = read_outputs(f"{PLACE}{derivation}").values()
            with self._locked([path.removeprefix(PLACE) for path in outputs]) as alone:
                if alone:
                    self._remove(f"{derivation}{CHROOT}")

    def _remove_alone(self, names: Sequence[str], are_left: Callable[[Sequence[str]], Sequence[str]]) -> None:
        """Remove paths that nobody makes now; ``are_left`` tells which are to go, once they are ours."""
        for start in range(0, len(names), LOCKS_AT_ONCE):
            with ExitStack() as locks:
                some = names[start : start + LOCKS_AT_ONCE]
                ours = [name for name in some if locks.enter_context(self._locked([name]))]
                for name in are_left(ours):
                    self._remove(name)

    def _are_unfinished(self, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if self._is_unfinished(name)]

    def _are_unknown(self, names: Sequence[str]) -> Sequence[str]:
        there = [name for name in names if self._facts(name) is not None]
        unknown = self._unknown(there) if there else frozenset()
        return [name for name in there if name in unknown]

    def _is_unfinished(self, name: str) -> bool:
        facts = self._facts(name)
        return facts is not None and int(facts.st_mtime) != NIX_TIME_S and facts.st_ctime_ns >= self._since_ns

    def _remove(self, name: str) -> None:
        """Put a file or directory aside at once, and remove it if there is time."""
        aside = f"{ASIDE}{os.urandom(8).hex()}"
        with suppress(OSError):
            os.rename(name, aside, src_dir_fd=self._store, dst_dir_fd=self._store)
            facts = self._facts(aside)
            if facts is not None and stat.S_ISDIR(facts.st_mode):  # never through a link that a builder made
                remove_tree(self._root, aside, max(self._deadline - time.monotonic(), 0.01))
            else:
                os.unlink(aside, dir_fd=self._store)

    def _facts(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._store, follow_symlinks=False)
        except OSError:
            return None

    @contextmanager
    def _locked(self, names: Sequence[str]) -> Iterator[bool]:
        """Hold Nix's locks of paths; false where another build has one. The lock files go, as when Nix lets go of them."""
        handles: list[int] = []
        try:
            alone = all(self._lock(f"{name}.lock", handles) for name in names)
            yield alone
            if alone:
                for name, handle in zip(names, handles, strict=True):
                    os.unlink(f"{name}.lock", dir_fd=self._store)
                    os.write(handle, b"d")  # says to who waits for this file that it is none any more
        finally:
            for handle in handles:
                os.close(handle)

    def _lock(self, file: str, handles: list[int]) -> bool:
        try:
            handle = os.open(file, _LOCK, 0o600, dir_fd=self._store)
        except OSError:
            return False
        handles.append(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        facts, named = os.fstat(handle), self._facts(file)
        return not facts.st_size and named is not None and (named.st_dev, named.st_ino) == (facts.st_dev, facts.st_ino)


def tidy(root: str, store: int, since_ns: int, unknown: Unknown) -> None:
    """Remove what was left unfinished in the store since: directories of builders, sources on their way, paths."""
    Tidying(root, store, since_ns, unknown).run()
