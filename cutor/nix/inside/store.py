"""The daemon's side of a build: the lock against garbage collection, the closure, a stage's programs, the roots."""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import re
import select
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cutor.jail.inside.box import remove_tree
from cutor.jail.inside.nsjail_args import check_path
from cutor.nix.inside import daemon, derivation
from cutor.nix.inside.derivation import MAX_PATH_BYTES, Derivation, is_store_path
from cutor.nix.inside.files import read_file

STORE: Final = Path("/nix/store")
STATE: Final = Path("/nix/var/cutor")
LOCK: Final = STATE / "builds.lock"
"""Shared by every build for its life; a garbage collector takes it exclusively, because two containers' temporary roots
can bear the same name (facts: collection broke a live build)."""
TURN: Final = STATE / "builds.turn"
"""Held exclusively by who waits to be alone, and for a moment by every build that begins: so builds that come one after the
other don't keep him waiting for ever."""
ROOTS: Final = Path("/nix/var/nix/gcroots/cutor")
HALF_MADE: Final = ".half-made-"
ASIDE: Final = ".removing-"
"""Begins the name of a builder's directory that is being removed."""
CLEANING_SECONDS: Final = 1.0
"""Of a build's own time, for what others left. A choice: the rest is left for the next build."""
KEY: Final = re.compile(r"[0-9a-f]{32,64}")
MAX_DERIVATION_BYTES: Final = 16 << 20
"""A derivation is some KiB of text: what is larger than this is somebody's who wants memory. A choice in between."""
MAX_CLOSURE_PATHS: Final = 10_000
"""Each path of a closure is checked before a run, and stands in the event of its environment."""
_CLOSURE_BYTES: Final = MAX_CLOSURE_PATHS * (MAX_PATH_BYTES + 32)
"""A line each, with the path and its size."""
BATCH: Final = 2000
"""Paths for one command: Linux takes 2 MiB of arguments, and the longest path is 255 bytes."""
_PIECE_BYTES: Final = 64 << 10
"""What a pipe of Linux holds by default: one call takes all that is there."""
_INSIDE_STORE: Final = re.compile(r"(/nix/store/[^/\0]+)(/[^/\0]+)*")


class StoreError(RuntimeError):
    """The store is not as a finished build must have left it: a fault of cutor or of the machine."""


class TooManyPaths(RuntimeError):
    """An environment larger than what cutor keeps; the message is for the user."""

    def __init__(self, count: str) -> None:
        super().__init__(f"the environment has {count} store paths; at most {MAX_CLOSURE_PATHS} are supported")


class OutOfTime(RuntimeError):
    """A question to the daemon took longer than there was time."""


@dataclass(frozen=True, slots=True)
class Closure:
    """Store paths that reference each other and nothing else, sorted; their size as archives."""

    paths: tuple[str, ...]
    size_bytes: int


def _silent() -> None:
    """Tell nobody."""


class BuildsLock:
    """A share of the builds' lock, held until this process ends, and the way to be alone for a while."""

    def __init__(self, lock: int) -> None:
        self._lock = lock

    @property
    def wanted(self) -> bool:
        """Whether somebody waits to be alone, and nobody else begins meanwhile."""
        turn = _open_lock(TURN)
        try:
            return not _try_lock(turn, fcntl.LOCK_SH)
        finally:
            os.close(turn)

    @contextmanager
    def alone(self, on_wait: Callable[[], None] = _silent) -> Iterator[None]:
        """Wait until no other build is at work, and let none begin before the block ends; the share is held again then.

        It is given up meanwhile: of two that want to be alone each would wait for the other's. ``on_wait`` is called, once,
        where somebody is at work.
        """
        tell = _once(on_wait)
        turn = _open_lock(TURN)
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        try:
            _take(turn, fcntl.LOCK_EX, tell)
            _take(self._lock, fcntl.LOCK_EX, tell)
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            os.close(turn)


def hold_lock(on_wait: Callable[[], None], *, on_cleaning: bool = True) -> BuildsLock:
    """Take a share of the builds' lock; ``on_wait`` is called, once, where that may take its time.

    A build that finds itself alone removes what dead ones left (`remove_leftovers`), which counts as a wait unless
    ``on_cleaning`` is false; else somebody who wants to be alone may have to be done first: a garbage collection, or a build
    that mends the store.
    """
    tell = _once(on_wait)
    STATE.mkdir(exist_ok=True)
    lock, turn = _open_lock(LOCK), _open_lock(TURN)
    _take(turn, fcntl.LOCK_SH, tell)
    if _try_lock(lock, fcntl.LOCK_EX):
        remove_leftovers(tell if on_cleaning else _silent)
    _take(lock, fcntl.LOCK_SH, tell)
    os.close(turn)
    return BuildsLock(lock)


def _once(on_wait: Callable[[], None]) -> Callable[[], None]:
    left = [on_wait]
    return lambda: left.pop()() if left else None


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _take(handle: int, kind: int, on_wait: Callable[[], None]) -> None:
    if not _try_lock(handle, kind):
        on_wait()
        fcntl.flock(handle, kind)


def remove_leftovers(on_wait: Callable[[], None]) -> None:
    """Remove half-made roots, and builders' directories and Nix's locks from the store. For who holds the lock exclusively.

    Every build's daemon dies with its container and every container holds a share of the lock: so these belong to nobody.
    Their size is whoever's who filled them, and the time is that of somebody else's build: what takes longer than
    `CLEANING_SECONDS`, and what can't be removed, stays for the next one that finds itself alone.
    """
    deadline = time.monotonic() + CLEANING_SECONDS
    begun = False
    for entry in _leftovers():
        with suppress(OSError):
            if entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)  # noqa: PTH108 - an entry of the directory itself
                continue
            if not begun:
                on_wait()
            name, left = _aside(entry), deadline - time.monotonic()
            if not begun or left > 0:
                begun = True
                remove_tree(os.path.dirname(entry.path), name, left)  # noqa: PTH120 - a string is wanted


def _leftovers() -> Iterator[os.DirEntry[str]]:
    """Yield what a build that is alone may remove."""
    with suppress(FileNotFoundError), os.scandir(ROOTS) as entries:
        yield from (entry for entry in entries if entry.name.startswith(HALF_MADE))
    with os.scandir(STORE) as entries:
        yield from (entry for entry in entries if is_leftover(entry))


def is_leftover(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of the store directory is no store path, whatever users named theirs, and of a dead build.

    - The file system of a builder is exactly at DERIVATION.chroot. A store path can have such a name, too, but its hash is
      made of its content or its derivation, so it is not that of a derivation which exists. Without one nothing is removed.
    - What was put aside has a name that starts with a dot; a store path starts with its hash.
    - A lock is at PATH.lock with mode 0600; Nix gives a store path mode 0444 or 0555 before it is valid.
    """
    if entry.name.startswith(ASIDE):
        return entry.is_dir(follow_symlinks=False)
    if entry.name.endswith(".lock"):
        return entry.is_file(follow_symlinks=False) and is_lock(entry.stat(follow_symlinks=False))
    if not entry.name.endswith(".drv.chroot") or not entry.is_dir(follow_symlinks=False):
        return False
    try:
        return stat.S_ISREG(os.lstat(entry.path.removesuffix(".chroot")).st_mode)
    except FileNotFoundError:
        return False


def is_lock(facts: os.stat_result) -> bool:
    """Return whether a regular file called PATH.lock is Nix's lock of PATH."""
    return stat.S_IMODE(facts.st_mode) == 0o600 and facts.st_size <= 1


def _aside(entry: os.DirEntry[str]) -> str:
    """Give a builder's directory a name that is known for what it is, and in no other build's way; return the entry's name."""
    if not entry.name.endswith(".chroot"):
        return entry.name
    name = f"{ASIDE}{os.urandom(8).hex()}"
    os.chmod(entry.path, 0o700)  # noqa: PTH101 - it is ours
    os.rename(entry.path, STORE / name)  # noqa: PTH104
    return name


def read_derivation(path: str) -> Derivation:
    """Return the derivation stored at ``path``. Raises `DerivationError`, `StoreError` or `FilesError`."""
    return derivation.parse(_text_of(path))


def read_outputs(path: str) -> dict[str, str]:
    """Return the outputs of the derivation stored at ``path``, by name. Raises what `read_derivation` raises."""
    return derivation.outputs_of(_text_of(path))


def _text_of(path: str) -> bytes:
    if not is_store_path(path) or not path.endswith(".drv"):
        raise StoreError(f"{path[:300]!r} is not the path of a derivation")
    text = read_file(path, MAX_DERIVATION_BYTES)
    if text is None:
        raise StoreError(f"the derivation {path} is not in the store")
    return text


def realised_for(shell: Derivation) -> list[str]:
    """Return the paths that nix-shell would realise before it starts ``shell``: outputs of its inputs, and its sources."""
    wanted = [*shell.sources]
    for path, names in shell.inputs.items():
        outputs = read_outputs(path)
        wanted += [outputs[name] for name in names]
    return wanted


def check_count(paths: int) -> None:
    """Raise `TooManyPaths` for more paths than a closure may have."""
    if paths > MAX_CLOSURE_PATHS:
        raise TooManyPaths(str(paths))


def closure_of(paths: Sequence[str], seconds: float) -> Closure:
    """Return the closure of valid store paths, as the daemon knows it, within ``seconds``.

    Raises `TooManyPaths`, `OutOfTime`, or `StoreError` when a path is not valid. Paths and sizes only are asked for, and as
    text: the references between 10,000 paths can be 100 million.
    """
    if not paths:
        return Closure((), 0)
    check_count(len(paths))
    command = ["/usr/bin/nix", "--extra-experimental-features", "nix-command", "path-info", "--offline"]
    command += ["--recursive", "--size", "--stdin"]
    printed = _ask(command, "\n".join(paths).encode(), _CLOSURE_BYTES, seconds)
    lines = [line.split() for line in printed.decode().splitlines()]
    if len(printed) > _CLOSURE_BYTES:
        raise TooManyPaths(f"more than {len(lines) - 1}")
    check_count(len(lines))
    if not all(len(line) == 2 and is_store_path(line[0]) and line[1].isdecimal() for line in lines):
        raise StoreError("nix path-info prints what is not a store path and its size")
    return Closure(tuple(sorted(line[0] for line in lines)), sum(int(line[1]) for line in lines))


def absent(paths: Iterable[str]) -> list[str]:
    """Return which of these paths are not on the disk, whatever the database promises (2 µs a path). Raises `OSError`."""
    return [path for path in paths if not _is_there(path)]


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _ask(command: Sequence[str], stdin: bytes, max_bytes: int, seconds: float) -> bytes:
    """Return what a program of Nix prints; it is killed once that is more than ``max_bytes``, or after ``seconds``.

    Raises `OutOfTime` or `StoreError`. The kernel's OOM killer takes it before the daemon and us.
    """
    deadline = time.monotonic() + seconds
    given, said = os.memfd_create("stdin"), os.memfd_create("stderr")
    os.pwrite(given, stdin, 0)
    with subprocess.Popen(command, env=daemon.CLIENT_VARIABLES, stdin=given, stdout=subprocess.PIPE, stderr=said) as process:
        assert process.stdout is not None
        daemon.goes_before(process, 1000)
        try:
            printed, complete = _read(process.stdout.fileno(), max_bytes, deadline)
            failed = bool(process.wait()) if complete else False
        finally:
            process.kill()
    message = os.pread(said, _PIECE_BYTES, 0)[-500:].decode(errors="replace").strip()
    os.close(given)
    os.close(said)
    if failed:
        raise StoreError(f"nix path-info failed: {message}")
    return printed


def _read(pipe: int, max_bytes: int, deadline: float) -> tuple[bytes, bool]:
    """Return what comes through a pipe, and whether that is all. Raises `OutOfTime`."""
    data = b""
    while len(data) <= max_bytes:
        if not select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise OutOfTime
        if not (piece := os.read(pipe, _PIECE_BYTES)):
            return data, True
        data += piece
    return data, False


def find_program(name: str, directories: Iterable[str], closure: frozenset[str]) -> str | None:
    """Return the first program ``name`` in ``directories`` that a stage can be given (`program_at`)."""
    found = (program_at(f"{directory}/{name}", closure) for directory in directories)
    return next((path for path in found if path is not None), None)


def program_at(path: str, closure: frozenset[str]) -> str | None:
    """Return ``path`` in a form that a jail can be given, if it leads to an executable file of ``closure``, links resolved.

    That form is the path itself without empty and ``.`` segments; where it has ``..`` or odd characters, what it leads to.
    """
    real = os.path.realpath(path)
    if not path.startswith(f"{STORE}/") or _owner(real) not in closure or not _is_program(real):
        return None
    plain = posixpath.normpath(path)
    named = ".." not in path.split("/") and _owner(plain) in closure
    return next(filter(_is_plain, (plain, real) if named else (real,)), None)


def make_roots(key: str, paths: Iterable[str]) -> None:
    """Keep ``paths`` from garbage collection until the directory of roots ``key`` is removed; a new directory has all or none.

    Roots are named after their paths and only added, so builds of one key, at once or one after the other, don't disturb
    each other: what an earlier build promised stays. The directory's time is that of the last call.
    """
    if not KEY.fullmatch(key):
        raise StoreError(f"{key[:80]!r} is not the key of an environment")
    ROOTS.mkdir(parents=True, exist_ok=True)
    half_made = ROOTS / f"{HALF_MADE}{os.urandom(8).hex()}"
    half_made.mkdir()
    try:
        _link(half_made, paths)
        try:
            half_made.rename(ROOTS / key)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _link(ROOTS / key, paths)
            os.utime(ROOTS / key)  # a collection that was planned before spares it
    finally:
        shutil.rmtree(half_made, ignore_errors=True)


def _link(directory: Path, paths: Iterable[str]) -> None:
    for path in paths:
        with suppress(FileExistsError):  # links of one name lead to one path
            (directory / path.rpartition("/")[2]).symlink_to(path)


def _is_program(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False


def _is_plain(path: str) -> bool:
    try:
        return bool(check_path(path))
    except ValueError:
        return False


def _owner(path: str) -> str | None:
    found = _INSIDE_STORE.fullmatch(path)
    return found[1] if found else None


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
