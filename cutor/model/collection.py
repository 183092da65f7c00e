"""What a collection of garbage takes away: decided from what a store holds, what the log knows, and what is in use.

A store holds *keys*: the roots of environments, each with the closure of store paths that it keeps. Everything that no root
keeps is garbage, and goes with every collection. What becomes of a key, by the first line that fits:

    in use: a container here runs in it, or a submission that has not ended was given it   kept
    an operator pinned it                                                                  kept
    the log says that it was removed after its roots were made                             taken
    the log does not know it as standing, and its roots were made within the last hour     kept: a build tells it at its end
    this stack's log knows nothing of it, and it is not wished that this is of no account  kept: it is another stack's
    it was of one submission alone (``cache: false``), which has ended                     taken
    it was not touched for as long as the wish says, or all are to go                      taken
    the store is larger than the wish says, and it is among those touched longest ago      taken
    else                                                                                   kept

Sizes are those of archives (NAR): what the file system takes differs with its blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, cast, get_args

import msgspec

from cutor.model.catalogue import Entry

FRESH_S: Final = 3600
"""How old roots must be that the log does not account for: a build makes them first, and tells then."""

KeptBecause = Literal["in use", "pinned", "another stack's", "just built", "not selected"]
TakenBecause = Literal[
    "removed before", "its submission has ended", "not touched for long", "all are to go", "the store is too large"
]
Fate = KeptBecause | TakenBecause
_TAKEN: Final[frozenset[Fate]] = frozenset(get_args(TakenBecause))


class Rooted(Protocol):
    """What is rooted under one key: its closure as indices of paths; ``made_at_s`` is when roots were added last."""

    @property
    def key(self) -> str: ...
    @property
    def made_at_s(self) -> int: ...
    @property
    def closure(self) -> Sequence[int]: ...


class Held(Protocol):
    """What a store holds: sizes of all its paths, what each key keeps, and what roots keep that are no environment's."""

    @property
    def nar_bytes(self) -> Sequence[int]: ...
    @property
    def keys(self) -> Sequence[Rooted]: ...
    @property
    def others(self) -> Sequence[int]: ...


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Which environments are to go: not touched for so long, the ones touched longest ago until the store is no larger than
    so much, or all. ``unknown``: those of which the log knows nothing are treated as others are.
    """

    older_than_s: int | None = None
    max_bytes: int | None = None
    everything: bool = False
    unknown: bool = False


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A key that goes. ``frees_bytes`` is what no other key that stays, or goes after it in the plan, keeps; ``stands``:
    the log is to be told.
    """

    key: str
    because: TakenBecause
    frees_bytes: int
    stands: bool
    touched_s: int

    @property
    def private(self) -> bool:
        """Whether it was of one submission alone, which has ended: nobody else could ever use it."""
        return self.because == "its submission has ended"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A key that stays."""

    key: str
    because: KeptBecause


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection takes: ``take`` in the order in which sizes are counted, those touched longest ago first.

    Of ``store_bytes`` that the store holds, ``garbage_bytes`` are kept by nothing, and ``left_bytes`` stay. Where that is more
    than was wished for, what stays cannot go.
    """

    take: tuple[Taken, ...]
    keep: tuple[Kept, ...]
    store_bytes: int
    garbage_bytes: int
    left_bytes: int

    @property
    def frees_bytes(self) -> int:
        """What goes."""
        return self.store_bytes - self.left_bytes


class _Ledger:
    """How many keep each path of a store, and the size of what anybody keeps."""

    def __init__(self, held: Held) -> None:
        self._nar_bytes = held.nar_bytes
        self._keepers = [0] * len(held.nar_bytes)
        self.size_bytes = 0
        self.keep(held.others)
        for rooted in held.keys:
            self.keep(rooted.closure)

    def keep(self, closure: Iterable[int]) -> int:
        """Count one who keeps these paths; return the size of those that nobody had kept."""
        added = 0
        for index in closure:
            if not self._keepers[index]:
                added += self._nar_bytes[index]
            self._keepers[index] += 1
        self.size_bytes += added
        return added

    def drop(self, closure: Iterable[int]) -> int:
        """Take back a `keep`; return the size of what nobody keeps any more."""
        freed = 0
        for index in closure:
            self._keepers[index] -= 1
            if not self._keepers[index]:
                freed += self._nar_bytes[index]
        self.size_bytes -= freed
        return freed


def plan(held: Held, entries: Mapping[str, Entry], in_use: Collection[str], wish: Wish, now_s: int) -> Plan:
    """Return what a collection takes from a store. See the module.

    ``entries`` is everything that the log knows, by key; ``in_use`` the keys in which containers run; ``now_s`` the time now.
    """
    ledger = _Ledger(held)
    store_bytes = sum(held.nar_bytes)
    garbage_bytes = store_bytes - ledger.size_bytes
    by_age = sorted(held.keys, key=lambda one: (_touched_s(one, entries.get(one.key)), one.key))
    fates = {one.key: _fate(one, entries.get(one.key), in_use, wish, now_s) for one in by_age}
    for one in by_age:
        if fates[one.key] in _TAKEN:
            ledger.drop(one.closure)
    if wish.max_bytes is not None:
        free = [one for one in by_age if fates[one.key] == "not selected"]
        fates |= dict.fromkeys((one.key for one in _too_many(ledger, free, wish.max_bytes)), "the store is too large")
    left_bytes = ledger.size_bytes
    take = [  # from the last one on: each is counted as if those before it had gone already
        _taken(one, entries.get(one.key), fates[one.key], ledger.keep(one.closure))
        for one in reversed(by_age)
        if fates[one.key] in _TAKEN
    ]
    return Plan(
        take=tuple(reversed(take)),
        keep=tuple(Kept(key=key, because=cast("KeptBecause", fate)) for key, fate in fates.items() if fate not in _TAKEN),
        store_bytes=store_bytes,
        garbage_bytes=garbage_bytes,
        left_bytes=left_bytes,
    )


def _fate(rooted: Rooted, entry: Entry | None, in_use: Collection[str], wish: Wish, now_s: int) -> Fate:
    """Return what becomes of a key, apart from the size of the store: "not selected" is what may go for that."""
    if rooted.key in in_use or (entry is not None and entry.waiting):
        return "in use"
    if entry is not None and entry.pinned:
        return "pinned"
    if not stands(entry) and (because := _unaccounted(rooted, entry, wish, now_s)) is not None:
        return because
    if entry is not None and entry.private_to is not None:
        return "its submission has ended"
    if wish.everything:
        return "all are to go"
    old = wish.older_than_s is not None and _touched_s(rooted, entry) < now_s - wish.older_than_s
    return "not touched for long" if old else "not selected"


def _unaccounted(rooted: Rooted, entry: Entry | None, wish: Wish, now_s: int) -> Fate | None:
    """Return what becomes of roots of which the log does not say that they should be there; None: as of others."""
    removed_s = None if entry is None or entry.removed_at is None else seconds(entry.removed_at)
    if removed_s is not None and rooted.made_at_s <= removed_s:
        return "removed before"
    if rooted.made_at_s > now_s - FRESH_S:
        return "just built"
    if removed_s is not None:
        return "removed before"
    return None if wish.unknown else "another stack's"


def _too_many(ledger: _Ledger, by_age: Sequence[Rooted], max_bytes: int) -> list[Rooted]:
    """Return those that must go, so that the store is no larger than ``max_bytes``; the ledger is without them then.

    The ones touched longest ago go first, until it fits; then those that need not have gone, because others kept most of what
    they need, or because a larger one went after them, are taken back, the ones touched last first. Where all of them are not
    enough, that is those that free nothing.
    """
    gone: list[Rooted] = []
    for one in by_age:
        if ledger.size_bytes <= max_bytes:
            break
        ledger.drop(one.closure)
        gone.append(one)
    enough = max(max_bytes, ledger.size_bytes)
    needed: list[Rooted] = []
    for one in reversed(gone):
        ledger.keep(one.closure)
        if ledger.size_bytes > enough:
            ledger.drop(one.closure)
            needed.append(one)
    return needed


def _taken(rooted: Rooted, entry: Entry | None, because: Fate, frees_bytes: int) -> Taken:
    return Taken(
        key=rooted.key,
        because=cast("TakenBecause", because),
        frees_bytes=frees_bytes,
        stands=stands(entry),
        touched_s=_touched_s(rooted, entry),
    )


def stands(entry: Entry | None) -> bool:
    """Return whether the log says that an environment is there."""
    return entry is not None and entry.built_at is not None and not entry.removed


def _touched_s(rooted: Rooted, entry: Entry | None) -> int:
    """Return when a key was touched last: as the log says, else when its roots were made."""
    touched_at = None if entry is None else entry.touched_at
    return rooted.made_at_s if touched_at is None else seconds(touched_at)


def seconds(time: str) -> int:
    """Return a time of the views, UTC, in seconds since 1970."""
    return int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp())
