"""Copies between the store and a binary cache, by Nix's own ``nix copy``: signed on the way out, verified on the way in.

Nix refuses what is not signed by a trusted key and what is not what its signature says. A path that was refused halfway stays
on the disk as garbage, and is no valid path; whoever looks at a store from outside knows one by its time
(`closure.look_at`).
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from cutor.nix.inside import namespace, nix, store
from cutor.nix.inside.derivation import is_store_path
from cutor.nix.inside.files import FilesError, read_file
from cutor.nix.inside.store import BuildsLock, StoreError

MOUNT: Final = Path("/cache")
MOUNTED: Final = f"file://{MOUNT}"
SECRET: Final = "/run/cutor-cache-key"  # noqa: S105 - a file in memory, of this container alone
COPYING: Final = b"copying path '/nix/store/"
COPY: Final = (*nix.NIX, "copy", "--option", "stalled-download-timeout", "30")
"""A server that takes or gives nothing for so many seconds is given up, tried once more (``download-attempts`` of the image's
nix.conf), and given up for good, long before the whole time is over."""
FULL: Final = os.strerror(errno.ENOSPC)
UNREACHED: Final = "unable to download"
"""How Nix says that a server was not reached, or failed; what the server has not, or Nix does not take, it says otherwise."""
REPAIR_SECONDS: Final = 120.0
"""For one path that Nix believes to be there."""
PROBE_SECONDS: Final = 20.0
"""A choice: a cache that takes longer for one question counts as away."""
NO_REPAIR: Final = "{path} went from this host's store, and the cache, from which it could be had again, does not answer"
NEVER_USED: Final = "nothing was published to the cache yet"
NARINFO_BYTES: Final = 1 << 20
"""Of a cache's file about one path: what is longer is not one."""
VERIFIED: Final = 8
"""Paths of a mounted cache whose signatures are looked at."""
NAMED: Final = 4
"""Of the paths that a cache lacks, as many as stand in a message."""
_TIMEOUT: Final = ("/usr/bin/timeout", "--signal=KILL", f"{PROBE_SECONDS:.0f}")
_FORGETFUL: Final = ("/usr/bin/env", "XDG_CACHE_HOME=/tmp/probe")
"""Else Nix believes for a week what a cache said of itself to the copy before."""
_SUMMARY: Final = re.compile(r"build of .* failed\s*$")
"""The error of Nix's behind others that names no cause."""
_BEFORE_NAME: Final = len("/nix/store/") + 32 + len("-")
_ARCHIVE: Final = re.compile(rb"^URL: (nar/[0-9a-z]{52}\.nar(?:\.[a-z0-9]+)?)$", re.MULTILINE)
_STORE_PATH: Final = re.compile(rb"^StorePath: (\S+)$", re.MULTILINE)
_CONTENT: Final = re.compile(rb"^CA: \S", re.MULTILINE)
_ARCHIVE_SIZE: Final = re.compile(rb"^FileSize: ([0-9]{1,18})$", re.MULTILINE)


class CopyRefused(Exception):
    """Nix did not copy; the message is the end of what it said, for the host to make a line of.

    ``cause`` and ``present_bytes`` are those of the frame (`cutor.nix.store_report.RefusedHeader`).
    """

    def __init__(self, message: str, cause: str = "nix", present_bytes: int = 0) -> None:
        super().__init__(message)
        self.cause = cause
        self.present_bytes = present_bytes


def publish(
    url: str, secret: bytes, closure: Sequence[str], seconds: float, on_count: Callable[[int], None], lock: BuildsLock
) -> None:
    """Copy a closure into the cache, signed and compressed, unless somebody waits to be alone. Raises `CopyRefused`."""
    if lost := store.absent(closure):
        raise CopyRefused(f"{lost[0]} is not in the store any more", "gone")
    handle = os.open(SECRET, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
    if url == MOUNTED:
        _forget_hollow(closure)
    command = [*COPY, "--to", f"{url}?secret-key={SECRET}&compression=zstd", "--stdin"]
    _copy(command, closure, seconds, on_count, lambda: lock.wanted)


def _forget_hollow(closure: Sequence[str]) -> None:
    """Have a mounted cache forget those of these paths whose archive is not there any more, or not whole.

    Nix looks for what the cache says of a path, and for the archive's name, and would take it for published. It writes the
    archive first, and whole, so nobody else's publication is taken for one that went. Over HTTP nothing can be taken back.
    """
    for path in closure:
        told = MOUNT / f"{path.removeprefix('/nix/store/')[:32]}.narinfo"
        with suppress(FilesError, OSError):  # what is wrong with the place Nix tells
            narinfo = read_file(str(told), NARINFO_BYTES) or b""
            archive, size = _ARCHIVE.search(narinfo), _ARCHIVE_SIZE.search(narinfo)
            if archive is None or size is None:
                continue  # not as Nix writes it
            there = MOUNT / os.fsdecode(archive[1])
            if not there.exists() or there.stat().st_size != int(size[1]):
                told.unlink()
                there.unlink(missing_ok=True)


def fetch(
    url: str, keys: Sequence[str], closure: Sequence[str], seconds: float, on_count: Callable[[int], None], lock: BuildsLock
) -> None:
    """Copy what the store lacks of a closure from the cache. Raises `CopyRefused` where it lacks something afterwards, too."""
    if url == MOUNTED and not (MOUNT / "nix-cache-info").exists():
        raise CopyRefused(NEVER_USED)
    trusted = ("--option", "substituters", "", "--option", "trusted-public-keys", " ".join(keys))
    if lost := _promised(store.absent(closure)):
        if _lacking(url, lost) is None:
            raise CopyRefused(NO_REPAIR.format(path=lost[0]), "away")
        with lock.alone():
            _repair(url, keys, lost)
    try:
        _copy([*COPY, "--from", url, *trusted, "--stdin"], closure, seconds, on_count)
    except CopyRefused as refusal:
        if refusal.cause == "no-room":
            refusal.present_bytes = _present_bytes(closure)
        elif lacking := _lacking(url, [*dict.fromkeys((*store.absent(closure), *closure))]):
            raise CopyRefused(_lacks(lacking)) from refusal
        elif lacking is None or UNREACHED in str(refusal):  # it may tell what it has, and fail to give it
            refusal.cause = "away"
        raise
    if lost := store.absent(closure):
        raise CopyRefused(f"{lost[0]} and {len(lost) - 1} other paths are missing from the store after they were copied")


def _copy(
    command: list[str],
    closure: Sequence[str],
    seconds: float,
    on_count: Callable[[int], None],
    gives_way: Callable[[], bool] = lambda: False,
) -> None:
    copied, gave_way = 0, False

    def asked() -> bool:
        nonlocal gave_way
        gave_way = gives_way()
        return gave_way

    def on_line(line: bytes) -> None:
        nonlocal copied
        if line.startswith(COPYING):
            copied += 1
            on_count(copied)

    done = nix.watched(command, "".join(f"{path}\n" for path in closure).encode(), on_line, seconds, asked)
    if gave_way and done.code:
        raise CopyRefused("somebody waits to be alone with the store", "gives-way")
    if done.stopped:
        raise CopyRefused(f"it took longer than {seconds:.0f} s")
    if done.code:
        raise CopyRefused(_cause(done.said), "no-room" if FULL in done.said else "nix")


def _cause(said: str) -> str:
    """Return the last error that Nix printed which is no summary of others; all of what it printed where it told none."""
    errors = said.split("error: ")
    told = [error.strip() for error in errors[1:] if not _SUMMARY.match(error)]
    return told[-1] if told else errors[-1].strip()


def _lacking(url: str, paths: Sequence[str]) -> list[str] | None:
    """Return which of these paths the cache does not have; none where it does not say so, null where it does not answer.

    It has `PROBE_SECONDS` for that. Nix wants all of a closure to be in the cache, also what this host has. What the copy was
    told before is not to be remembered here. `nix-store --check-validity` of 2.34 asks the same, but ends by SIGSEGV now and
    then where the cache is on HTTP.
    """
    command = [*_TIMEOUT, *nix.NIX, "--refresh", "path-info", "--json", "--json-format", "1", "--store", url]
    try:
        with nix.output([*command, *paths[: store.BATCH]]) as printed:
            text = printed.read()
        found = json.loads(text)
        return [path for path in paths if path in found and found[path] is None]
    except (StoreError, ValueError) as error:
        return None if UNREACHED in str(error) or not _answers(url) else []


def _answers(url: str) -> bool:
    """Return whether the cache answers at all, be it with a refusal."""
    try:
        probe(url, write=False)
    except CopyRefused as refusal:
        return refusal.cause != "away"
    return True


def _lacks(paths: Sequence[str]) -> str:
    named = ", ".join(path[_BEFORE_NAME:] for path in paths[:NAMED])
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"the cache lacks {named}{more}"


def _present_bytes(paths: Sequence[str]) -> int:
    """Return the size, as archives, of those of these paths that are valid."""
    invalid, size = _invalid(paths), 0
    present = [path for path in paths if path not in invalid]
    for start in range(0, len(present), store.BATCH):
        with nix.output([nix.STORE, "--query", "--size", *present[start : start + store.BATCH]]) as printed:
            size += sum(map(int, printed.read().split()))
    return size


def _promised(paths: Sequence[str]) -> list[str]:
    """Return which of these paths, none of them on the disk, are valid to Nix: it would not copy them."""
    invalid = _invalid(paths)
    return [path for path in paths if path not in invalid]


def _invalid(paths: Sequence[str]) -> set[str]:
    invalid: set[str] = set()
    for start in range(0, len(paths), store.BATCH):
        command = [nix.STORE, "--check-validity", "--print-invalid", *paths[start : start + store.BATCH]]
        with nix.output(command) as printed:
            invalid.update(printed.read().decode(errors="replace").split())
    return invalid


def _repair(url: str, keys: Sequence[str], paths: Sequence[str]) -> None:
    """Bring back what the database promises, from the cache alone: nothing is built here. What fails is missing afterwards.

    Nobody builds on this host meanwhile: so one path that takes too long is the last that is tried.
    """
    options = ("--option", "substituters", url, "--option", "trusted-public-keys", " ".join(keys), "--option", "max-jobs", "0")
    for path in paths:
        if nix.watched([nix.STORE, "--repair-path", path, *options], b"", lambda _: None, REPAIR_SECONDS).stopped:
            break


def probe(url: str, *, write: bool, path: str = "", keys: Sequence[str] = ()) -> None:
    """Raise `CopyRefused` where the cache can't be reached, or not be written to: of one on HTTP that shows at a copy alone.

    Its cause is ``away`` where the cache does not answer. One on HTTP is asked for a store path, too, if any is given: what it
    says of itself may come from a proxy before it. In a mounted one a signature by one of ``keys`` is looked for, if any.
    """
    if url == MOUNTED:
        if not os.access(MOUNT, os.R_OK | os.X_OK | (os.W_OK if write else 0)):
            raise CopyRefused(f"uid {namespace.HOST_ID_BASE} of the host, the owner of the store, has no access to it", "away")
        if keys:
            _check_signatures(keys)
        return
    questions = [("store", "info", "--store", url), *([("path-info", "--store", url, path)] if path else [])]
    for question in questions:
        done = nix.watched([*_FORGETFUL, *nix.NIX, *question], b"", lambda _: None, PROBE_SECONDS)
        if done.code and (done.stopped or UNREACHED in done.said):
            raise CopyRefused("it did not answer in time" if done.stopped else _cause(done.said), "away")
        if done.code and question == questions[0]:  # that it has not the path, or says it badly, is an answer
            raise CopyRefused(_cause(done.said))


def _check_signatures(keys: Sequence[str]) -> None:
    """Raise `CopyRefused` where a mounted cache has signed paths, and Nix trusts none of the first few by these keys.

    One is enough: several may publish, each by a key of his own.
    """
    trusted = ("--option", "trusted-public-keys", " ".join(keys))
    verify = [*nix.NIX, "store", "verify", "--no-contents", "--sigs-needed", "1", "--store", MOUNTED, *trusted]
    untrusted = 0
    for path in islice(_signed_paths(), VERIFIED):
        if not nix.watched([*verify, path], b"", lambda _: None, PROBE_SECONDS).code:
            return
        untrusted += 1
    if untrusted:
        raise CopyRefused(f"none of the {untrusted} store paths that were looked at is signed by a trusted key")


def _signed_paths() -> Iterator[str]:
    """Yield store paths of a mounted cache that need a signature: what is named by its content is trusted without."""
    with os.scandir(MOUNT) as entries:
        for entry in entries:
            if not entry.name.endswith(".narinfo"):
                continue
            with suppress(FilesError, OSError):
                narinfo = read_file(entry.path, NARINFO_BYTES) or b""
                found = None if _CONTENT.search(narinfo) else _STORE_PATH.search(narinfo)
                if found is not None and is_store_path(path := found[1].decode("ascii", "replace")):
                    yield path


def checked(text: str) -> list[str]:
    """Return the store paths in a text, a line each. Raises `StoreError` for anything else."""
    paths = text.split("\n")
    if not all(map(is_store_path, paths)) or len(paths) > store.MAX_CLOSURE_PATHS:
        raise StoreError("the closure holds what is not a store path, or too many")
    return paths


def key_pair(name: str) -> tuple[str, str]:
    """Return a new secret key and the public one that belongs to it. Raises `StoreError`."""
    with nix.output([*nix.NIX, "key", "generate-secret", "--key-name", name]) as printed:
        secret = printed.read().decode().strip()
    with nix.output([*nix.NIX, "key", "convert-secret-to-public"], secret.encode()) as printed:
        return secret, printed.read().decode().strip()
