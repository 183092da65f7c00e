"""Making Nix's database and the disk agree again, where the one promises paths that the other lacks.

A path that somebody deleted by hand, or that went with a store volume whose database stayed, is valid to Nix for ever: no build
brings it back, and what is built on it fails. Here such paths are found, and

1. forgotten, where nothing that is there refers to them: the next build makes them like any others;
2. repaired in place, where a derivation is known: what refers to them stays as it is, in use or not;
3. removed together with everything that refers to them, where neither is possible. Derivations and sources go first: an
   evaluation brings them back, and with them the way to repair the rest.

Only for who is alone with the store (`store.BuildsLock.alone`): Nix itself is not careful about what others do meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from cutor.nix.inside import daemon, store
from cutor.nix.inside.derivation import is_store_path
from cutor.nix.inside.store import StoreError

MENDINGS_AT_MOST: Final = 3
"""Times that the store is mended in one build: derivations first, then what is made of them."""
REPAIR_SECONDS: Final = 120.0
"""How long paths are repaired one by one; what is not repaired then is removed, and built when it is wanted."""
MAX_OUTPUT_BYTES: Final = 256 << 20
"""Of a listing of the whole store: a million paths."""
TAIL_BYTES: Final = 500
"""The end of what a program of Nix said, in one line of a message. A choice."""

NIX: Final = ("/usr/bin/nix", "--extra-experimental-features", "nix-command")
STORE: Final = "/usr/bin/nix-store"
ALL: Final = (*NIX, "path-info", "--all", "--offline")
DELETE: Final = (*NIX, "store", "delete", "--ignore-liveness", "--option", "keep-derivations", "false", "--stdin")


class Done(NamedTuple):
    """How a program of Nix ended: whether well, what it printed, the end of what it said on stderr."""

    well: bool
    printed: bytes
    said: str


Run = Callable[[Sequence[str], bytes], Done]
"""Runs a program of Nix's on the store itself, with something on its stdin."""


def run(command: Sequence[str], stdin: bytes) -> Done:
    """Run a program to its end; how long that may take is the host's to say, who kills the container."""
    given, printed, said = (os.memfd_create(name) for name in ("stdin", "stdout", "stderr"))
    try:
        os.pwrite(given, stdin, 0)
        code = subprocess.run(command, stdin=given, stdout=printed, stderr=said, check=False).returncode
        tail = os.pread(said, TAIL_BYTES, max(0, os.fstat(said).st_size - TAIL_BYTES)).decode(errors="replace")
        output = os.pread(printed, min(os.fstat(printed).st_size, MAX_OUTPUT_BYTES), 0)
        return Done(code == 0, output, " ".join(tail.split()))
    finally:
        for handle in (given, printed, said):
            os.close(handle)


def lacking(run: Run) -> list[str]:
    """Return the paths that are valid to Nix and not on the disk (25 µs a path of the store). Raises `StoreError`."""
    done = run(ALL, b"")
    if not done.well:
        raise StoreError(f"nix path-info --all failed: {done.said}")
    paths = done.printed.decode(errors="replace").split()
    return store.absent(path for path in paths if is_store_path(path))


def mend(run: Run) -> list[str]:
    """Make database and disk agree, as the module says; return what is still promised and not there. Raises `StoreError`.

    An evaluation may bring back what it takes to repair that, or it was tried in vain.
    """
    if not lacking(run):
        return []
    run((STORE, "--verify"), b"")  # forgets what nothing refers to; its exit code says that there is more
    left = _repair(run, lacking(run))
    if left and not _remove_derivations(run, left):
        _remove(run, left)
    return lacking(run)


def _repair(run: Run, paths: list[str]) -> list[str]:
    """Repair outputs in place, as long as that makes a difference: one may need another. Return what is left."""
    deadline = time.monotonic() + REPAIR_SECONDS
    while outputs := [path for path in paths if not path.endswith(".drv")]:
        for path in outputs:
            if time.monotonic() < deadline and store.absent([path]):  # it may have come with another one
                run((STORE, "--repair-path", path), b"")
        if len(store.absent(paths)) == len(paths):
            break
        paths = store.absent(paths)
    return paths


def _remove_derivations(run: Run, paths: list[str]) -> bool:
    """Remove what an evaluation makes anew: derivations, and sources that nothing but derivations refers to, and those."""
    removed = False
    for is_derivation in (True, False):
        chosen = [path for path in paths if path.endswith(".drv") is is_derivation]
        referrers = _referrers(run, chosen)
        if chosen and all(path.endswith(".drv") for path in {*referrers} - {*paths}):
            removed = _delete(run, {*chosen, *referrers}) or removed
    return removed


def _remove(run: Run, paths: list[str]) -> None:
    """Remove paths with everything that refers to them: nothing of it is of any use without them."""
    _delete(run, {*paths, *_referrers(run, paths)})


def _referrers(run: Run, paths: Sequence[str]) -> list[str]:
    """Return what refers to any of ``paths``, by however many steps, themselves included."""
    found: set[str] = set()
    for start in range(0, len(paths), store.BATCH):
        done = run((STORE, "--query", "--referrers-closure", *paths[start : start + store.BATCH]), b"")
        if not done.well:
            raise StoreError(f"nix-store --query --referrers-closure failed: {done.said}")
        found.update(path for path in done.printed.decode(errors="replace").split() if is_store_path(path))
    return sorted(found)


def _delete(run: Run, paths: Iterable[str]) -> bool:
    return run(DELETE, "".join(f"{path}\n" for path in sorted(paths)).encode()).well


def in_jail(task: Literal["look", "mend"], configuration: str, file_size_bytes: int, open_files: int) -> list[str]:
    """Do `lacking` or `mend` in the place of the build's daemon, which must not run: in its jail and under its limits.

    There is one jail for all of it, since repairing runs builders. Raises `StoreError`.
    """
    program = ("/usr/bin/python3", "-S", "-E", "-c", PROGRAM, task)
    done = run(daemon.command(program, configuration, *daemon.limits_of(file_size_bytes, open_files)), b"")
    if not done.well:
        raise StoreError(f"to {task} for what the store lacks failed: {done.said}")
    return done.printed.decode().split()


def unknown(names: Sequence[str], configuration: str, file_size_bytes: int, open_files: int) -> frozenset[str]:
    """Return which of these names in the store Nix's database does not know, none where it can't be asked.

    Also in the place of the build's daemon (`in_jail`): 25 ms for up to `store.BATCH` names.
    """
    found: set[str] = set()
    for start in range(0, len(names), store.BATCH):
        paths = [f"{store.STORE}/{name}" for name in names[start : start + store.BATCH]]
        question = (STORE, "--check-validity", "--print-invalid", *paths)
        done = run(daemon.command(question, configuration, *daemon.limits_of(file_size_bytes, open_files)), b"")
        found.update(path.rpartition("/")[2] for path in done.printed.decode(errors="replace").split() if done.well)
    return frozenset(found)


PROGRAM: Final = "import sys; sys.path.insert(0, '/opt/cutor'); from cutor.nix.inside.mending import main; main()"


def main() -> None:
    """Do what `in_jail` asks for; print the paths."""
    try:
        paths = {"look": lacking, "mend": mend}[sys.argv[1]](run)
    except (StoreError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.write("".join(f"{path}\n" for path in paths))
