"""Snapshots of streams and their way back: JetStream's own protocol, which works while everything runs.

A snapshot is asked for with a subject (`$JS.API.STREAM.SNAPSHOT.<stream>`); the answer says which state it is of, and what the
stream held at that moment then comes to that subject in chunks. Each has a reply subject, and is acknowledged by an empty
message there once it is kept: the server sends no more than a few MiB ahead. An empty chunk ends it; one with a status other
than 204 says why it failed.

A restore is the mirror image: asked for one (`$JS.API.STREAM.RESTORE.<stream>`), the server names a subject. It answers a chunk
when it has worked it in, and an empty one with the stream that it made. What a restore that fails has written so far stays in
the server as a stream, which is why `restore` reads everything back, and why the first stream is marked until all is done
(`restoring`).

Neither request may be repeated as other requests are: a second one would begin a second transfer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from cutor.bus.api import Json
from cutor.bus.backup_manifest import (
    POSITIONS_SINCE,
    Config,
    ConsumerPosition,
    State,
    StreamBackup,
    check_free,
    identity_of,
    is_restored,
    state_of,
    version_of,
    with_replicas,
)
from cutor.bus.errors import ApiRefused, BusError, RestoreUnfinished, StreamMissing
from cutor.bus.restoring import MARKED, marked, note_in, refuse_part, unfinished, unmarked
from cutor.bus.waiting import NoAnswer, NoResponders
from cutor.errors import CutorError

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from cutor.bus.backup_manifest import Manifest
    from cutor.bus.connection import Bus

MAY_BE_PURGED: Final = frozenset({"EVENTS", "BODIES"})
"""Restored without the setting that NATS cannot take back: what is sealed may go (`cutor.bus.letting_go`)."""
CHUNK_BYTES: Final = 256 << 10
"""A chunk in both directions: below the largest message of any server (1 MiB unless configured)."""
PATIENCE_S: Final = 60.0
"""Without an answer of the server for so long, a transfer has failed. It gives up itself after 5 s without one of ours."""
NEXT_CHUNK_S: Final = 20.0
"""Likewise for the next chunk of a snapshot that has begun: in a cluster, its leader may be dead."""
COPIED_LOOK_S: Final = 0.2
"""Between two looks whether the copies of a cluster have all of a restored stream. A choice: each is one request."""
ELECTION_S: Final = 15.0
"""For what may be asked again: a cluster needs up to 9 s to choose a new leader."""
SUBJECTS: Final = "cutor.>"
"""All streams with subjects beneath it are backed up."""
HELD_IN_PART: Final = "the server holds part of the backup now, and nothing of it may be used: begin again with an empty server"
_DONE: Final = frozenset({None, "204"})


class StreamSnapshotFailed(BusError):
    """The server ended a snapshot early, or did not get through with it; the message names the stream."""


class RestoreFailed(BusError):
    """A stream was not restored whole. What the server holds of it must not be used."""


class StreamSnapshot(NamedTuple):
    """What a snapshot was of: configuration and state of the stream, and where its consumers stood before."""

    config: Config
    state: State
    stored_bytes: int
    consumers: list[ConsumerPosition]


async def check_whole(bus: Bus) -> None:
    """Raise `RestoreUnfinished` where the server holds part of a backup. One request."""
    try:
        info = await bus.stream_info(MARKED)
    except StreamMissing:
        return
    refuse_part(info["config"], bus.address)


async def streams_of(bus: Bus) -> list[str]:
    """Return the names of all streams that hold subjects of cutor's."""
    names: list[str] = []
    while True:
        answer = await bus.api.call(
            "streams", "STREAM.NAMES", {"subject": SUBJECTS, "offset": len(names)}, timeout_s=ELECTION_S
        )
        page = answer.get("streams") or []
        names += page
        if not page or len(names) >= int(answer["total"]):
            return names


async def consumers_of(bus: Bus, stream: str) -> list[Json]:
    """Return what the server knows of a stream's durable consumers; those of readers, which end with them, are left out."""
    found: list[Json] = []
    while True:
        answer = await bus.api.call(
            f"consumers of {stream}", f"CONSUMER.LIST.{stream}", {"offset": len(found)}, timeout_s=ELECTION_S
        )
        page = answer.get("consumers") or []
        found += page
        if not page or len(found) >= int(answer["total"]):
            return [one for one in found if one["config"].get("durable_name")]


def _position(info: Json) -> ConsumerPosition:
    acknowledged = int(info["ack_floor"]["stream_seq"])
    return ConsumerPosition(name=info["name"], config=_own(info["config"]), acknowledged_sequence=acknowledged)


def _own(config: Config) -> Config:
    """Return a configuration without what the server notes in it of itself."""
    notes = {key: value for key, value in (config.get("metadata") or {}).items() if not key.startswith("_nats.")}
    rest = {key: value for key, value in config.items() if key != "metadata"}
    return {**rest, "metadata": notes} if notes else rest


# -- backup ------------------------------------------------------------------------------------------------------------


async def snapshot(bus: Bus, stream: str, write: Callable[[bytes], Awaitable[None]]) -> StreamSnapshot:
    """Hand a snapshot of a stream to `write`, chunk by chunk, and return what it is of.

    The server checks every message's checksum on the way. Errors: StreamMissing, StreamSnapshotFailed, ApiRefused,
    BusUnreachable, and what `write` raises; the server ends a transfer that nobody listens to any more.
    """
    link = bus.link
    consumers = [_position(one) for one in await consumers_of(bus, stream)]
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
    inbox = link.new_inbox()
    subscription = await link.subscribe_raw(inbox, arrived.put_nowait)
    end_watch = link.watch(lost=lambda: arrived.put_nowait(None))
    try:
        request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES, "jsck": True}
        begun = await _ask_once(bus, f"snapshot of {stream}", f"$JS.API.STREAM.SNAPSHOT.{stream}", msgspec.json.encode(request))
        await _receive(bus, stream, arrived, write)
    finally:
        end_watch()
        await link.unsubscribe(subscription)
    return StreamSnapshot(_own(begun["config"]), State.of(begun["state"]), int(begun["state"]["bytes"]), consumers)


async def _receive(
    bus: Bus, stream: str, arrived: asyncio.Queue[Msg | None], write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Take chunks until the empty one."""
    number = 0
    while True:
        try:
            async with asyncio.timeout(NEXT_CHUNK_S):
                message = await arrived.get()
        except TimeoutError:
            raise StreamSnapshotFailed(f"stream {stream}: no chunk of the snapshot within {NEXT_CHUNK_S:.0f} s") from None
        if message is None:
            raise bus.link.unreachable(f"the connection was lost during the snapshot of {stream}")
        if not message.data:
            return _check_end(stream, message.headers or {})
        number += 1
        _check_number(stream, number, message.reply)
        await write(message.data)
        if message.reply:
            await bus.link.send(message.reply)


def _check_end(stream: str, headers: dict[str, str]) -> None:
    if headers.get("Status") not in _DONE:
        raise StreamSnapshotFailed(f"stream {stream}: the server gave the snapshot up: {headers.get('Description') or headers}")


def _check_number(stream: str, number: int, reply: str) -> None:
    """Refuse a gap: the subject that acknowledges a chunk ends with its number. The last one may come without."""
    said = reply.rpartition(".")[2]
    if said.isdecimal() and int(said) != number:
        raise StreamSnapshotFailed(f"stream {stream}: chunk {said} of the snapshot came where {number} was expected")


# -- restore -----------------------------------------------------------------------------------------------------------


async def check_empty(bus: Bus, manifest: Manifest) -> None:
    """Raise RestoreRefused where the server holds streams of cutor's, or others under the names of the backup."""
    held = set(await streams_of(bus))
    for one in manifest.streams:
        try:
            await bus.api.require_stream(one.name)
        except StreamMissing:
            continue
        held.add(one.name)
    check_free(sorted(held))


async def is_begun(bus: Bus, manifest: Manifest) -> bool:
    """Return whether the server holds all of this very backup, and only the note has to go. RestoreUnfinished for a part."""
    try:
        note = note_in((await bus.stream_info(MARKED))["config"])
    except StreamMissing:
        return False
    if note is None:
        return False
    if note != identity_of(manifest):
        raise unfinished(bus.address)
    for one in manifest.streams:
        try:
            found = State.of((await bus.stream_info(one.name))["state"])
        except StreamMissing:
            raise unfinished(bus.address) from None
        if not is_restored(one, found):
            raise unfinished(bus.address)
    return True


async def end(bus: Bus, manifest: Manifest) -> None:
    """Make the consumers that are missing, and take the note away: the streams are whole. What is through stays as it is.

    RestoreUnfinished where the note stays: the same again ends it.
    """
    try:
        await _end(bus, manifest)
    except CutorError as error:
        raise RestoreUnfinished(
            f"every stream is restored and compared, but the server still counts as holding part of a backup: {error}: restore "
            "the same backup again: that takes the mark away and changes nothing else"
        ) from error


async def _end(bus: Bus, manifest: Manifest) -> None:
    for one in manifest.streams:
        there = {consumer["name"] for consumer in await consumers_of(bus, one.name)} if one.consumers else set()
        for consumer in one.consumers:
            if consumer.name not in there:
                await _place(bus, one.name, consumer)
    config = _own(unmarked((await bus.stream_info(MARKED))["config"]))
    what = f"stream {MARKED}"
    answer = await bus.api.call(what, f"STREAM.UPDATE.{MARKED}", config, timeout_s=PATIENCE_S)
    if note_in(answer["config"]) is not None:
        raise ApiRefused(what, 0, "its metadata stayed as they were")


async def restore(
    bus: Bus,
    one: StreamBackup,
    chunks: AsyncGenerator[bytes, None],
    *,
    replicas: int | None = None,
    note: str | None = None,
) -> None:
    """Make a stream out of its snapshot, read its state back, and put its consumers where they stood.

    `replicas` is how many copies it gets, None: as many as it had; `note`, where there is one, marks it as part of a backup.
    Errors: RestoreFailed, ApiRefused (nothing was made then), BusUnreachable, and what `chunks` raises. It is one chunk after
    the other: the next is sent when the server has written the last one.
    """
    config = with_replicas(one.config, replicas)
    if one.name in MAY_BE_PURGED:
        config = {**config, "deny_purge": False}
    if note is not None:
        config = marked(config, note)
    state = {
        "messages": one.messages,
        "bytes": one.stored_bytes,
        "first_seq": one.first_sequence,
        "last_seq": one.last_sequence,
    }
    request = msgspec.json.encode({"config": config, "state": state})
    begun = await _ask_once(bus, f"restore of {one.name}", f"$JS.API.STREAM.RESTORE.{one.name}", request)
    try:
        await _send(bus, begun["deliver_subject"], chunks)
        await _read_back(bus, one)
        for consumer in one.consumers:
            await _place(bus, one.name, consumer)
    except CutorError as error:
        raise failed(f"stream {one.name} was not restored whole: {error}") from error


def failed(why: str) -> RestoreFailed:
    """Return the error of a restore that ended within its work."""
    return RestoreFailed(f"{why}: {HELD_IN_PART}")


async def _send(bus: Bus, subject: str, chunks: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(chunks):
        async for chunk in chunks:
            answer = (await bus.link.ask(subject, chunk, until=_soon())).data
            if answer:  # an empty one asks for more
                raise RestoreFailed(_error_in(answer))
    made = (await bus.link.ask(subject, b"", until=_soon())).data
    if b'"error"' in made and (said := _error_in(made)):
        raise RestoreFailed(said)


def _error_in(answer: bytes) -> str:
    try:
        error = msgspec.json.decode(answer, type=dict[str, Any]).get("error") or {}
    except msgspec.DecodeError:
        return answer.decode(errors="replace")[:200]
    return str(error.get("description", ""))


async def _read_back(bus: Bus, one: StreamBackup) -> None:
    """Compare with what was backed up; in a cluster the copies may take a moment."""
    until = _soon()
    while True:
        found = State.of((await bus.stream_info(one.name))["state"])
        if is_restored(one, found):
            return
        if asyncio.get_running_loop().time() > until or not bus.link.clustered:
            raise RestoreFailed(f"it holds {found}, and had {state_of(one)}")
        await asyncio.sleep(COPIED_LOOK_S)


async def _place(bus: Bus, stream: str, consumer: ConsumerPosition) -> None:
    """Make a consumer and put it behind what was acknowledged.

    A server that cannot do the latter delivers everything from the start: what is done is acknowledged again, and nothing else.
    """
    what = f"consumer {consumer.name} of stream {stream}"
    request = {"stream_name": stream, "config": consumer.config}
    await bus.api.call(what, f"CONSUMER.CREATE.{stream}.{consumer.name}", request, timeout_s=PATIENCE_S)
    if consumer.acknowledged_sequence > 0 and version_of(bus.link.server_version) >= POSITIONS_SINCE:
        position = {"seq": consumer.acknowledged_sequence + 1}
        await bus.api.call(what, f"CONSUMER.RESET.{stream}.{consumer.name}", position, timeout_s=PATIENCE_S)


def _soon() -> float:
    return asyncio.get_running_loop().time() + PATIENCE_S


async def _ask_once(bus: Bus, what: str, subject: str, body: bytes) -> Json:
    """Ask one time alone; see the top of this module."""
    try:
        raw = (await bus.link.ask(subject, body, until=_soon())).data
    except (NoAnswer, NoResponders) as error:
        raise bus.link.unreachable(f"{what}: {error} (may this user ask for it?)") from error
    answer = msgspec.json.decode(raw, type=dict[str, Any])
    if (refusal := answer.get("error")) is not None:
        raise ApiRefused(what, int(refusal.get("err_code") or refusal.get("code") or 0), str(refusal.get("description")))
    return answer
