"""The roots of environments as a whole: which keys have some, and how those of a key are removed. See `store.make_roots`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from cutor.nix.inside import nix
from cutor.nix.inside.derivation import is_store_path
from cutor.nix.inside.store import HALF_MADE, KEY, ROOTS, StoreError

_LISTING: Final = (nix.STORE, "--gc", "--print-roots")


class Rooted(NamedTuple):
    """The roots of one key, and when its directory changed last, in seconds of this host's clock."""

    key: str
    made_at_s: int
    paths: tuple[str, ...]


def rooted_keys() -> Iterator[Rooted]:
    """Yield the roots of every key, sorted by key; a key that is removed meanwhile is left out."""
    for key, made_at_s in key_times():
        with suppress(FileNotFoundError):
            yield Rooted(key, made_at_s, tuple(_links(key)))


def key_times() -> Iterator[tuple[str, int]]:
    """Yield every key that has roots, with the time of them as `Rooted` has it, sorted by key."""
    names = sorted(entry.name for entry in _entries() if KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False))
    for name in names:
        with suppress(FileNotFoundError):
            yield name, int((ROOTS / name).stat().st_mtime)


def _entries() -> list[os.DirEntry[str]]:
    try:
        with os.scandir(ROOTS) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _links(key: str) -> Iterator[str]:
    for link in sorted(os.listdir(ROOTS / key)):  # noqa: PTH208 - names are wanted
        with suppress(OSError):
            if is_store_path(target := os.readlink(ROOTS / key / link)):  # noqa: PTH115 - a string is wanted
                yield target


def other_roots() -> list[str]:
    """Return what roots lead to that are no environment's, as Nix lists them. Raises `StoreError`."""
    with nix.output(_LISTING) as listing:
        lines = listing.read().decode(errors="replace").splitlines()
    pairs = [line.rpartition(" -> ") for line in lines]  # "ROOT" -> PATH
    return [target for root, _, target in pairs if is_store_path(target) and not root.startswith(f'"{ROOTS}/')]


def remove_roots(keys: Mapping[str, int | None]) -> list[str]:
    """Remove the roots of some keys; return those that had any. A key is removed at once or not at all, whoever dies meanwhile.

    One that has a time, as `Rooted` says it, is spared where its roots were made or added to since. Raises `StoreError` for
    what is no key.
    """
    removed = []
    for key, known_s in keys.items():
        if not KEY.fullmatch(key):
            raise StoreError(f"{key[:80]!r} is not the key of an environment")
        aside = ROOTS / f"{HALF_MADE}{os.urandom(8).hex()}"
        with suppress(FileNotFoundError):
            if known_s is not None and int((ROOTS / key).stat().st_mtime) > known_s:
                continue
            (ROOTS / key).rename(aside)
            removed.append(key)
        shutil.rmtree(aside, ignore_errors=True)
    return removed


def remove_links(key: str, paths: Iterable[str]) -> None:
    """Remove those roots of a key that lead to some store paths. Raises `StoreError` for what is no key."""
    if not KEY.fullmatch(key):
        raise StoreError(f"{key[:80]!r} is not the key of an environment")
    for path in paths:
        with suppress(FileNotFoundError):
            (ROOTS / key / path.rpartition("/")[2]).unlink()
