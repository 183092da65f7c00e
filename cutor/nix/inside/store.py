"""The daemon's side of a build: the lock against garbage collection, the closure, a stage's programs, the roots."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cutor.nix.inside import daemon, derivation
from cutor.nix.inside.derivation import Derivation, is_store_path
from cutor.nix.inside.files import read_file

STATE: Final = Path("/nix/var/cutor")
LOCK: Final = STATE / "builds.lock"
"""Shared by every build for its life; a garbage collector takes it exclusively, because two containers' temporary roots
can bear the same name (facts: collection broke a live build)."""
ROOTS: Final = Path("/nix/var/nix/gcroots/cutor")
HALF_MADE: Final = ".half-made-"
KEY: Final = re.compile(r"[0-9a-f]{32,64}")
MAX_DERIVATION_BYTES: Final = 16 << 20
_INSIDE_STORE: Final = re.compile(r"(/nix/store/[^/\0]+)(/[^/\0]+)*")


class StoreError(RuntimeError):
    """The store is not as a finished build must have left it: a fault of cutor or of the machine."""


@dataclass(frozen=True, slots=True)
class Closure:
    """Store paths that reference each other and nothing else, sorted; their size as archives."""

    paths: tuple[str, ...]
    size_bytes: int


def hold_lock(on_wait: Callable[[], None]) -> None:
    """Hold the builds' lock until this process ends; ``on_wait`` is called when a garbage collection has to end first.

    A build that finds itself alone removes the half-made roots that dead ones left.
    """
    STATE.mkdir(exist_ok=True)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if _try_lock(lock, fcntl.LOCK_EX):
        for left in ROOTS.glob(f"{HALF_MADE}*"):
            shutil.rmtree(left)
    if not _try_lock(lock, fcntl.LOCK_SH):
        on_wait()
        fcntl.flock(lock, fcntl.LOCK_SH)


def read_derivation(path: str) -> Derivation:
    """Return the derivation stored at ``path``. Raises `DerivationError`, `StoreError` or `FilesError`."""
    if not is_store_path(path) or not path.endswith(".drv"):
        raise StoreError(f"{path[:300]!r} is not the path of a derivation")
    text = read_file(path, MAX_DERIVATION_BYTES)
    if text is None:
        raise StoreError(f"the derivation {path} is not in the store")
    return derivation.parse(text)


def realised_for(shell: Derivation) -> list[str]:
    """Return the paths that nix-shell would realise before it starts ``shell``: outputs of its inputs, and its sources."""
    wanted = [*shell.sources]
    for path, names in shell.inputs.items():
        outputs = read_derivation(path).outputs
        wanted += [outputs[name] for name in names]
    return wanted


def closure_of(paths: Sequence[str]) -> Closure:
    """Return the closure of valid store paths, as the daemon knows it. Raises `StoreError` when one is not valid."""
    if not paths:
        return Closure((), 0)
    command = ["/usr/bin/nix", "--extra-experimental-features", "nix-command", "path-info", "--offline"]
    command += ["--json", "--json-format", "1", "--recursive", "--", *paths]
    done = subprocess.run(command, env=daemon.CLIENT_VARIABLES, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise StoreError(f"nix path-info failed: {done.stderr[-500:].decode(errors='replace').strip()}")
    known: dict[str, dict[str, int] | None] = json.loads(done.stdout)
    sizes = {path: facts["narSize"] for path, facts in known.items() if facts is not None and is_store_path(path)}
    if len(sizes) != len(known):
        raise StoreError("nix path-info names paths that are not in the store")
    return Closure(tuple(sorted(sizes)), sum(sizes.values()))


def find_program(name: str, directories: Iterable[str], closure: frozenset[str]) -> str | None:
    """Return the first executable ``name`` in ``directories`` that lies, links resolved, within ``closure``."""
    for directory in directories:
        path = f"{directory}/{name}"
        if _owner(path) in closure and _owner(os.path.realpath(path)) in closure and os.access(path, os.X_OK):
            return path
    return None


def make_roots(key: str, paths: Iterable[str]) -> None:
    """Keep ``paths`` from garbage collection until the directory of roots ``key`` is removed; all of them or none."""
    if not KEY.fullmatch(key):
        raise StoreError(f"{key[:80]!r} is not the key of an environment")
    ROOTS.mkdir(parents=True, exist_ok=True)
    half_made = ROOTS / f"{HALF_MADE}{os.urandom(8).hex()}"
    half_made.mkdir()
    for number, path in enumerate(sorted(set(paths))):
        (half_made / str(number)).symlink_to(path)
    try:
        half_made.rename(ROOTS / key)
    except OSError:  # the same environment was built before, perhaps of other paths: the lock keeps collectors away
        shutil.rmtree(ROOTS / key)
        half_made.rename(ROOTS / key)


def _owner(path: str) -> str | None:
    found = _INSIDE_STORE.fullmatch(path)
    return found[1] if found and ".." not in path.split("/") else None


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
