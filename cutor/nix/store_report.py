"""What a store container says, as typed values, and what its jobs give. Pure.

No user code runs in it, but what it tells of was made by user code: every header is decoded strictly, every number has a bound,
and what must agree is compared.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from cutor.jail.inside.protocol import Frame, ProtocolError
from cutor.jail.measured import Count, Text
from cutor.model.request import UNREADABLE, explain
from cutor.nix.inside.derivation import is_store_path
from cutor.nix.inside.inventory import INDEX, MAX_INDICES, MAX_PATHS
from cutor.nix.inside.ownership import Ownership
from cutor.nix.inside.store import KEY

MAX_KEYS: Final = 1_000_000
"""Most keys with roots that one report of a store may tell of: what a container says has a bound."""
MAX_FRAME_BYTES: Final = 8 << 20
"""Eight times a piece of a listing: what is longer comes of no init of ours."""

_LINE: Final = re.compile(r"(/nix/store/[^ ]+) ([0-9]{1,18})")
_KEY_LINE: Final = re.compile(rf"({KEY.pattern}) ([0-9]{{1,18}})")

Cause = Literal["nix", "gone", "no-room", "gives-way", "away"]
Key = Annotated[str, Meta(pattern=f"^{KEY.pattern}$")]


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """A frame's header."""


class Ready(_Header, frozen=True, kw_only=True, tag="ready"):
    """The init takes a job; ``protocol`` is its version of the frames."""

    protocol: int
    nix_version: Annotated[str, Meta(max_length=80)]


class Waiting(_Header, frozen=True, kw_only=True, tag="waiting"):
    """Others have to be done first: a collection, or the builds that a collection waits for."""


class Begun(_Header, frozen=True, kw_only=True, tag="begun"):
    """The wait is over, or there was none: the job is at work."""


class Advanced(_Header, frozen=True, kw_only=True, tag="advanced"):
    """A job goes on: ``count`` store paths are deleted, or copied, by now."""

    count: Count


class PathsHeader(_Header, frozen=True, kw_only=True, tag="paths"):
    """The body is the next store paths with their sizes, a line each."""


class RootedHeader(_Header, frozen=True, kw_only=True, tag="rooted"):
    """The body is a piece of the closure of a key's roots, or of all other roots where ``key`` is null: indices of paths."""

    key: Key | None
    made_at_s: Count


class InventoryHeader(_Header, frozen=True, kw_only=True, tag="inventory"):
    """The inventory is complete as far as it goes; ``whole`` is false where closures were cut short."""

    free_bytes: Count
    size_bytes: Count
    whole: bool


class RoomHeader(_Header, frozen=True, kw_only=True, tag="room"):
    """How much of the store's volume is free for who is not root there, and its size."""

    free_bytes: Count
    size_bytes: Count


class OwnershipHeader(_Header, frozen=True, kw_only=True, tag="ownership"):
    """Whose the store's two volumes are."""

    store: Ownership
    var: Ownership


class KeysHeader(_Header, frozen=True, kw_only=True, tag="keys"):
    """The body is the next keys that have roots, a line each, with their time."""


class AsksHeader(_Header, frozen=True, kw_only=True, tag="asks"):
    """The job is alone with the store, all keys with roots are told: it is to be told whose may go."""


class ReleasedHeader(_Header, frozen=True, kw_only=True, tag="released"):
    """The roots of ``keys`` are gone: those that had any."""

    keys: tuple[Key, ...]


class CollectedHeader(_Header, frozen=True, kw_only=True, tag="collected"):
    """What nothing needs is gone from the store; ``nar_bytes`` as archives, ``free_bytes`` of the volume afterwards."""

    keys: tuple[Key, ...]
    paths: Count
    nar_bytes: Count
    free_bytes: Count


class CopiedHeader(_Header, frozen=True, kw_only=True, tag="copied"):
    """The copy to or from the cache is done, or the cache can be reached."""


class KeyPairHeader(_Header, frozen=True, kw_only=True, tag="key-pair"):
    """A new key pair for a cache."""

    secret: Text
    public: Text


class RefusedHeader(_Header, frozen=True, kw_only=True, tag="refused"):
    """Nix did not copy, or the cache can't be reached; ``message`` says why, ``cause`` what kind of reason that is.

    ``gone``: what was to be published is not in the store any more. ``no-room``: a volume is full; of a closure that was to be
    fetched, the store has ``present_bytes``, as archives. ``gives-way``: somebody waits to be alone with the store.
    ``away``: the cache that was to be read does not answer, so it has said nothing of what it has.
    """

    message: Text
    cause: Cause = "nix"
    present_bytes: Count = 0


class FaultHeader(_Header, frozen=True, kw_only=True, tag="fault"):
    """The machinery failed."""

    message: Text


StoreFrame = (
    Ready
    | Waiting
    | Begun
    | Advanced
    | PathsHeader
    | RootedHeader
    | RoomHeader
    | OwnershipHeader
    | InventoryHeader
    | KeysHeader
    | AsksHeader
    | ReleasedHeader
    | CollectedHeader
    | CopiedHeader
    | KeyPairHeader
    | RefusedHeader
    | FaultHeader
)

_DECODER: Final[msgspec.json.Decoder[StoreFrame]] = msgspec.json.Decoder(StoreFrame)


class RootedKey(NamedTuple):
    """What is rooted under one key: ``closure`` as sorted indices of `Inventory.paths`, in an array.

    ``made_at_s`` is when roots were added last, by the clock of the store's host.
    """

    key: str
    made_at_s: int
    closure: Sequence[int]


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds: every valid path with its size as an archive, and what each environment's roots keep.

    ``others`` is the closure of the roots that are no environment's (the package set's, a build's in another place). Volume:
    ``free_bytes`` of ``size_bytes``. Where ``whole`` is false, closures were cut short for their number of references: sums
    over them are too low then, and what a collection would delete is estimated too high.
    """

    paths: tuple[str, ...]
    nar_bytes: tuple[int, ...]
    keys: tuple[RootedKey, ...]
    others: Sequence[int]
    free_bytes: int
    size_bytes: int
    whole: bool


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """The roots of ``keys`` are gone, those that had any: the next collection deletes what only they kept."""

    keys: tuple[str, ...]


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """A collection that is done: ``keys`` whose roots it removed, how many valid ``paths`` it deleted, their size as archives.

    ``free_bytes`` is what the volume has free afterwards; it may have grown by more (unfinished paths), or by less (links).
    """

    keys: tuple[str, ...]
    paths: int
    nar_bytes: int
    free_bytes: int


def decode_header(frame: Frame) -> StoreFrame:
    """Return a frame's header as a value. Raises `ProtocolError` for anything that the init of a store would not send."""
    try:
        return _DECODER.decode(frame.header)
    except UNREADABLE as error:
        raise ProtocolError(f"a header that no store container sends: {explain(error)}") from error


def decode_keys(body: bytes) -> dict[str, int]:
    """Return keys that have roots, with the time of these (`RootedKey.made_at_s`). Raises `ProtocolError`."""
    found = [_KEY_LINE.fullmatch(line) for line in body.decode("ascii", "replace").splitlines()]
    if not all(found):
        raise ProtocolError("the store container names what is not a key and its time")
    return {line[1]: int(line[2]) for line in found if line is not None}


class InventoryReader:
    """Puts an inventory together from its frames, within bounds; every method raises `ProtocolError`."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._nar_bytes: list[int] = []
        self._rooted: dict[str | None, RootedKey] = {}
        self._indices = 0

    def paths(self, body: bytes) -> None:
        """Take the next paths."""
        for line in body.decode("ascii", "replace").splitlines():
            found = _LINE.fullmatch(line)
            if found is None or not is_store_path(found[1]) or len(self._paths) >= MAX_PATHS:
                raise ProtocolError("the inventory holds what is not a store path and its size, or too many")
            self._paths.append(found[1])
            self._nar_bytes.append(int(found[2]))

    def rooted(self, header: RootedHeader, body: bytes) -> None:
        """Take a piece of a closure; all paths are known by then."""
        piece = array(INDEX)
        self._indices += len(body) // piece.itemsize
        if len(body) % piece.itemsize or self._indices > MAX_INDICES or len(self._rooted) > MAX_KEYS:
            raise ProtocolError("the inventory's closures are too large, or cut in two")
        piece.frombytes(body)
        if piece and max(piece) >= len(self._paths):
            raise ProtocolError("the inventory refers to a path that it does not hold")
        so_far = self._rooted.setdefault(header.key, RootedKey(header.key or "", header.made_at_s, array(INDEX)))
        assert isinstance(so_far.closure, array)
        so_far.closure.extend(piece)

    def inventory(self, header: InventoryHeader) -> Inventory:
        """Return the whole of it."""
        others = self._rooted.pop(None, None)
        return Inventory(
            paths=tuple(self._paths),
            nar_bytes=tuple(self._nar_bytes),
            keys=tuple(self._rooted.values()),
            others=others.closure if others else (),
            free_bytes=header.free_bytes,
            size_bytes=header.size_bytes,
            whole=header.whole,
        )
