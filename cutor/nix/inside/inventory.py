"""What the store holds: valid paths with sizes, as Nix's database lists them, and what each environment's roots keep.

Sizes of closures are what a plan for a collection needs, and Nix would be asked once a key for them: so references are read
once, into arrays (4 bytes each), and followed here. Users decide how many there are: beyond `MAX_REFERENCES` they are left out,
and the inventory says that it is not whole. A collection itself relies on none of this.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import IO, Final, NamedTuple

from cutor.nix.inside import nix
from cutor.nix.inside.derivation import is_store_path
from cutor.nix.inside.store import StoreError

INDEX: Final = "I"
"""The type of an index in `array`: 4 bytes, in the byte order of the machine that both ends run on."""
MAX_PATHS: Final = 4_000_000
"""A bound of what is counted, far above real stores: a store container's memory is used up before (a million take a third)."""
MAX_REFERENCES: Final = 50_000_000
"""Four bytes each, so 200 MB: a tenth of a store container's memory."""
MAX_INDICES: Final = 50_000_000
"""Of all closures together."""
_LINE_BYTES: Final = 4096
"""The longest line of a dump is a path of 255 bytes, or a number."""

PIECE_BYTES: Final = 1 << 20
"""Of a listing, in one frame: an eighth of what the host takes."""


class Contents(NamedTuple):
    """Every valid path by index, its size as an archive, and its references.

    Those of path ``i`` are ``references[starts[i] : ends[i]]``; where there are more than are kept, ``whole`` is false.
    """

    paths: list[str]
    nar_bytes: array[int]
    starts: array[int]
    ends: array[int]
    references: array[int]
    whole: bool


class Closures:
    """Closures of paths within `Contents`, one after the other; ``whole`` as there, and as far as `MAX_INDICES` go."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._index = {path: index for index, path in enumerate(contents.paths)}
        self._seen = array(INDEX, bytes(4 * len(contents.paths)))
        self._turn = 0
        self._left = MAX_INDICES
        self.whole = contents.whole

    def of(self, roots: Iterable[str]) -> array[int]:
        """Return the sorted closure of some paths; those that are not valid count for nothing."""
        self._turn += 1
        found = array(INDEX, (self._index[path] for path in roots if path in self._index))
        for index in found:
            self._seen[index] = self._turn
        found = array(INDEX, sorted(set(found)))
        self._follow(found)
        if len(found) > self._left:
            self.whole = False
            del found[self._left :]
        self._left -= len(found)
        return array(INDEX, sorted(found))

    def _follow(self, found: array[int]) -> None:
        _, _, starts, ends, references, _ = self._contents
        seen, turn = self._seen, self._turn
        at = 0
        while at < len(found):
            index = found[at]
            for reference in references[starts[index] : ends[index]]:
                if seen[reference] != turn:
                    seen[reference] = turn
                    found.append(reference)
            at += 1


def read_contents() -> Contents:
    """Return what Nix's database lists. Raises `StoreError`."""
    with nix.output(["/usr/bin/nix-store", "--dump-db"]) as dump:
        return parse(dump)


def parse(dump: IO[bytes]) -> Contents:
    """Return the contents of a dump of the database: a path a record, of path, hash, size, deriver, count and references."""
    index: dict[str, int] = {}
    records: dict[int, tuple[int, int, int]] = {}  # by index: size, where its references start and end
    references, whole = array(INDEX), True
    for path, nar_bytes, referred in _records(dump):
        start = len(references)
        for reference in referred:
            if len(references) < MAX_REFERENCES:
                references.append(index.setdefault(reference, len(index)))
            else:
                whole = False
        records[index.setdefault(path, len(index))] = (nar_bytes, start, len(references))
        if len(index) > MAX_PATHS:
            raise StoreError(f"the store holds more than {MAX_PATHS} paths")
    facts = [records.get(number, (0, 0, 0)) for number in range(len(index))]
    sizes, starts, ends = (array("Q", (fact[column] for fact in facts)) for column in range(3))
    return Contents(list(index), sizes, starts, ends, references, whole)


def _records(dump: IO[bytes]) -> Iterator[tuple[str, int, Iterator[str]]]:
    """Yield path, size and references; what the caller leaves of the references is skipped."""
    while path := dump.readline(_LINE_BYTES):
        _line(dump)  # the hash
        nar_bytes = _number(dump)
        _line(dump)  # the deriver
        referred = (_path(_line(dump)) for _ in range(_number(dump)))
        yield _path(path.decode("ascii", "replace").rstrip("\n")), nar_bytes, referred
        for _ in referred:
            pass


def _line(dump: IO[bytes]) -> str:
    line = dump.readline(_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise StoreError("nix-store --dump-db ends in the midst of a record, or prints a line that is too long")
    return line[:-1].decode("ascii", "replace")


def _number(dump: IO[bytes]) -> int:
    line = _line(dump)
    if not line.isdecimal() or len(line) > 18:
        raise StoreError("nix-store --dump-db prints something else than a number")
    return int(line)


def _path(line: str) -> str:
    if not is_store_path(line):
        raise StoreError("nix-store --dump-db prints what is not a store path")
    return line
