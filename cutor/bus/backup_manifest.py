"""What a backup says of itself: which streams it holds, in which files, up to where, and what a restore compares. Pure.

The manifest is JSON, written last: a directory without one holds no finished backup. `ORDER` is the order of a backup: each
stream before those that it refers to, since what is referred to is written first (a body before the event that names it). So
whatever a snapshot refers to is in a later snapshot, however much is appended meanwhile. A restore goes the other way: nothing
is there before what it refers to, and what the stack tells its clients, without which they begin nothing, comes last.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec

from cutor.bus.errors import BusError
from cutor.bus.restoring import MARKED
from cutor.errors import REFUSED

VERSION: Final = 1
"""Of the manifest's form: one in another version is refused."""
SUFFIX: Final = ".snapshot"
ORDER: Final = ("STACK", "PARKED", "DEADLETTERS", "EVENTS", "ENVIRONMENTS", "BODIES")
"""A stream of the deployer's own comes behind STACK: what it refers to, cutor does not know."""
POSITIONS_SINCE: Final = (2, 14)
"""The first nats-server that can set a consumer to a position (`$JS.API.CONSUMER.RESET`, ADR-60)."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

Config = dict[str, Any]
"""A configuration as the server gave it."""
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A number of messages or bytes, or a sequence: no server has more than that."""
COPIES_AT_MOST: Final = 5
"""Replicas of a stream: JetStream takes no more."""


class ManifestInvalid(BusError):
    """What stands in the place of a manifest is none, or of another version of cutor."""

    exit_code = REFUSED


class RestoreRefused(BusError):
    """This backup cannot be restored into this server, and nothing was changed; the message says what to do."""

    exit_code = REFUSED


class ConsumerPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A durable consumer and the sequence up to which everything was acknowledged, *before* the snapshot was taken.

    Not what the snapshot itself would hold of it: the server reads that a moment after the messages, and a delivery that was
    acknowledged in between would count as done although the events that its acknowledgement stands for are not in the backup.
    """

    name: str
    config: Config
    acknowledged_sequence: Count


class StreamBackup(msgspec.Struct, frozen=True, kw_only=True):
    """One stream: its file, and the state of the stream that is in it.

    ``created`` is when the stream was made, as the server writes it to the nanosecond: by it the stream itself is known again.
    A restored one has another. Empty in a backup that was made before it was noted.
    """

    name: str
    file: str
    size_bytes: Count
    sha256: str
    messages: Count
    stored_bytes: Count
    first_sequence: Count
    last_sequence: Count
    config: Config
    consumers: list[ConsumerPosition]
    created: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A finished backup. ``made_at`` is RFC 3339 in UTC; ``streams`` are in the order in which they were taken."""

    version: int
    made_at: str
    cutor_version: str
    server_version: str
    streams: list[StreamBackup]

    def is_of(self, stream: str, created: str) -> bool:
        """Whether this is a backup of the stream of that name that was made then."""
        return any(one.name == stream and one.created == created != "" for one in self.streams)


class State(msgspec.Struct, frozen=True):
    """How much a stream holds. One without messages begins behind its last sequence, which is 0 if it never held any."""

    messages: int
    first: int
    last: int

    @classmethod
    def of(cls, state: dict[str, Any]) -> State:
        """Return it from the server's `state`."""
        messages, last = int(state["messages"]), int(state["last_seq"])
        return cls(messages, int(state["first_seq"]) if messages else last + 1, last)

    def __str__(self) -> str:
        return f"{self.messages:,} message{'' if self.messages == 1 else 's'} with sequences {self.first} to {self.last}"


class _Version(msgspec.Struct):
    version: int


def encode(manifest: Manifest) -> bytes:
    """Return the text of the file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(raw: bytes, place: str) -> Manifest:
    """Return the manifest in a file's text. Raises `ManifestInvalid` that names `place`."""
    try:
        version = msgspec.json.decode(raw, type=_Version).version
        if version != VERSION:
            raise ManifestInvalid(
                f"{place}: a backup in version {version} of its form; this cutor knows {VERSION} alone: use the cutor that "
                "wrote it, or a newer one"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"{place}: not the manifest of a backup: {error}") from error
    _check(manifest, place)
    return manifest


def _check(manifest: Manifest, place: str) -> None:
    """Refuse names that would lead elsewhere: a manifest may come from anywhere."""
    names = [one.name for one in manifest.streams]
    for one in manifest.streams:
        if not _NAME.fullmatch(one.name) or one.file != one.name + SUFFIX or one.config.get("name") != one.name:
            raise ManifestInvalid(f"{place}: {one.name[:80]!r} with the file {one.file[:80]!r} is no stream of a backup")
        if not _SHA256.fullmatch(one.sha256):
            raise ManifestInvalid(f"{place}: stream {one.name} has no SHA-256 that can be")
        if one.messages > one.last_sequence + 1 - one.first_sequence:
            raise ManifestInvalid(f"{place}: stream {one.name} has more messages than sequences")
        if (wrong := _wrong_in(one.config)) is not None:
            raise ManifestInvalid(f"{place}: stream {one.name} has a configuration with a {wrong} that cannot be")
        if not all(_NAME.fullmatch(consumer.name) for consumer in one.consumers):
            raise ManifestInvalid(f"{place}: stream {one.name} has a consumer without a proper name")
    if not names or len(set(names)) != len(names):
        raise ManifestInvalid(f"{place}: names no streams, or one twice")


def _wrong_in(config: Config) -> str | None:
    """Return the setting that cutor reads itself and that has no value of its kind; the server checks the rest."""
    copies, metadata = config.get("num_replicas"), config.get("metadata")
    if copies is not None and (type(copies) is not int or not 0 <= copies <= COPIES_AT_MOST):
        return "num_replicas"
    if metadata is not None and not (isinstance(metadata, dict) and all(isinstance(one, str) for one in metadata.values())):
        return "metadata"
    return None


def identity_of(manifest: Manifest) -> str:
    """Return what tells this backup from any other, whichever cutor reads its manifest: when it was made, and of what."""
    lines = [manifest.made_at, *(f"{one.name} {one.sha256}" for one in manifest.streams)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def in_order(names: Iterable[str]) -> list[str]:
    """Return streams in the order in which a backup takes them."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else 0.5, name))


def restore_order(streams: Iterable[StreamBackup]) -> list[StreamBackup]:
    """Return streams in the order in which a restore makes them."""
    by_name = {one.name: one for one in streams}
    return [by_name[name] for name in reversed(in_order(by_name))]


def with_replicas(config: Config, replicas: int | None) -> Config:
    """Return a stream's configuration with so many copies; None: as many as it had."""
    return config if replicas is None else {**config, "num_replicas": replicas}


def check_server(manifest: Manifest, server_version: tuple[int, int], *, clustered: bool, replicas: int | None) -> None:
    """Raise `RestoreRefused` where this kind of server cannot take the backup."""
    made_by = version_of(manifest.server_version)
    if server_version < made_by:
        raise RestoreRefused(
            f"the backup was made by nats-server {manifest.server_version}: an older server ({server_version[0]}."
            f"{server_version[1]}) may not read it: restore it into {made_by[0]}.{made_by[1]} or newer"
        )
    if MARKED not in {one.name for one in manifest.streams}:
        raise RestoreRefused(
            f"the backup has no stream {MARKED}: it is not that of a stack, and its restore could not be watched"
        )
    most = max(int(with_replicas(one.config, replicas).get("num_replicas") or 1) for one in manifest.streams)
    if most > 1 and not clustered:
        raise RestoreRefused(f"this server is in no cluster and cannot keep {most} copies: `--replicas 1` restores one copy")


def check_free(held: Sequence[str]) -> None:
    """Raise `RestoreRefused` where streams are there already: nothing is ever deleted or written over."""
    if held:
        raise RestoreRefused(
            f"the server holds streams already ({', '.join(sorted(held))}), and cutor deletes none: "
            "restore into a server with an empty store, or with `cutor up --data NEW --restore DIR`"
        )


def version_of(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version; (0, 0) where there are none."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def state_of(one: StreamBackup) -> State:
    """Return what a restored stream must hold."""
    return State(one.messages, one.first_sequence, one.last_sequence)


def is_restored(one: StreamBackup, found: State) -> bool:
    """Return whether a restored stream is what was backed up.

    To the message where it only grows; where messages age or give way to newer ones, some of them may have gone since the
    server counted them: then by its last sequence. What somebody appends once the stream is there stands behind all of it.
    """
    wanted = state_of(one)
    appended = found.last - wanted.last
    kept = found.messages - appended
    if one.config.get("max_age") or one.config.get("discard") == "old":
        return appended >= 0 and kept <= wanted.messages
    return appended >= 0 and (kept, found.first) == (wanted.messages, wanted.first)
