"""The archive of a real server's streams: equal to the message, never changed again, whole wherever a sealer was killed."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from cutor.bus.bodies import Bodies
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.message import Stored
from cutor.bus.topology import default_text, parse
from cutor.journal import backup
from cutor.model.events import Cancelled
from cutor.projections.archive.errors import (
    ArchiveBusy,
    ArchiveDamaged,
    ArchiveForeign,
    ArchiveFull,
    ArchiveUnusable,
    GapRefused,
    MessagesMissing,
)
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.manifest import Manifest
from cutor.projections.archive.place import MANIFEST, Archive
from cutor.projections.archive.sealing import STREAMS, Cut, acknowledge, seal, seal_each, settled_of
from cutor.projections.archive.segment_file import SegmentWriter, messages_of
from cutor.projections.archive.verification import Verified, verify
from tests.garbage import SUBJECTS
from tests.integration.projecting import FINISHED, happen, happen_to_many
from tests.nats_server import TENANTS, OwnServer
from tests.ports import free_port
from tests.raw_nats import hpub, pub, send_raw
from tests.unit.histories import RUNNING

SMALL = Cut(segment_messages=20, segment_bytes=1 << 20).everything()


async def seal_all(bus: Bus, archive: Archive, cut: Cut = SMALL) -> dict[str, Manifest]:
    with archive.held():
        return {stream: await seal(bus, archive, stream, cut) for stream in STREAMS}


def archived(archive: Archive, stream: str) -> list[tuple[object, ...]]:
    manifest = archive.manifest(stream)
    assert manifest
    found = []
    for one in manifest.segments:
        for batch in messages_of(stream, archive.file_of(stream, one), one.first, one.last):
            found += [(m.sequence, m.time_ns, m.subject, m.message_id, dict(m.headers), m.body) for m in batch]
    return found


async def held(bus: Bus, stream: str) -> list[tuple[object, ...]]:
    def parts(m: Stored) -> tuple[object, ...]:
        return m.sequence, m.time_ns, m.subject, m.message_id, dict(m.headers), m.body

    return [parts(one) async for one in bus.read(stream)]


async def faults(archive: Archive, bus: Bus | None = None, *, everything: bool = False) -> list[str]:
    return [
        fault for stream in archive.streams() for fault in (await verify(archive, stream, bus, everything=everything)).faults
    ]


@asynccontextmanager
async def loose_server(directory: Path) -> AsyncIterator[Bus]:
    """A bus on a server whose EVENTS lets messages go, as a damaged disk may."""
    async with loose_url(directory) as url, Bus.connect(url, name="test") as bus:
        yield bus


@asynccontextmanager
async def loose_url(directory: Path) -> AsyncIterator[str]:
    """The address of such a server."""
    wanted = parse(default_text(), TENANTS)
    server = await EmbeddedServer.start(directory, port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as bus:
        for stream in wanted.streams:
            await set_up(bus, "CREATE", stream.name, discard="old", discard_new_per_subject=False)
        yield server.url


async def set_up(bus: Bus, verb: str, stream: str, **settings: object) -> None:
    """Create or update a stream as cutor has it, but for some settings."""
    [wanted] = [one.config for one in parse(default_text(), TENANTS).streams if one.name == stream]
    await bus.api.call(stream, f"STREAM.{verb}.{stream}", {**wanted, **settings})


async def test_what_is_sealed_is_what_the_streams_hold(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    await happen_to_many(own_bus, 30, "s")
    await Bodies(own_bus).put(os.urandom(1_300_000))
    await own_bus.publish("cutor.env.k", b"\xff no event")
    headers = b"NATS/1.0\r\nColour: blue\r\nNats-Msg-Id: h\r\n\r\n"
    await send_raw(own_server.url, *(pub(subject, b"\xff\x00") for subject in SUBJECTS))
    await send_raw(own_server.url, hpub(b"cutor.ev.default.h.cancelled", headers, b"{}"))
    await own_bus.publish("cutor.ev.default.behind.cancelled", b"{}")  # the stream has all that was sent before
    archive = Archive(tmp_path / "archive")
    manifests = await seal_all(own_bus, archive)
    for stream in STREAMS:
        assert archived(archive, stream) == await held(own_bus, stream)
    assert [one.messages for one in manifests["EVENTS"].segments[:-1]] == [20] * (len(manifests["EVENTS"].segments) - 1)
    assert len(manifests["EVENTS"].segments) > 5
    assert await faults(archive, own_bus, everything=True) == []
    found = await verify(archive, "EVENTS", own_bus, everything=True)
    assert found == Verified("EVENTS", len(manifests["EVENTS"].segments), found.messages, found.messages, [])
    for path in archive.directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


async def test_another_seal_adds_and_changes_nothing_that_is_there(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 5, "s")
    before = (await seal_all(own_bus, archive))["EVENTS"]
    there = {path: path.stat() for path in archive.directory.glob("EVENTS/*.parquet")}
    assert (await seal_all(own_bus, archive))["EVENTS"] == before
    await happen_to_many(own_bus, 5, "t")
    after = (await seal_all(own_bus, archive))["EVENTS"]
    assert after.segments[: len(before.segments)] == before.segments
    assert {path: path.stat()[:8] for path in there} == {path: found[:8] for path, found in there.items()}
    assert archived(archive, "EVENTS") == await held(own_bus, "EVENTS")


async def test_what_is_young_or_fills_no_file_is_left_for_later(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 3, "s")
    assert (await seal_all(own_bus, archive, Cut(segment_messages=5)))["EVENTS"].last == 0
    full = await seal_all(own_bus, archive, Cut(segment_messages=20, settled_s=0.0))
    assert full["EVENTS"].last == 20
    by_bytes = await seal_all(own_bus, archive, Cut(segment_bytes=1, settled_s=0.0))
    assert by_bytes["EVENTS"].messages == (await own_bus.stream_info("EVENTS"))["state"]["messages"]


async def test_a_sealer_that_was_killed_leaves_nothing_that_counts(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 5, "s")
    manifest = (await seal_all(own_bus, archive, Cut(segment_messages=10, settled_s=0.0)))["EVENTS"]
    await happen_to_many(own_bus, 5, "t")
    following = [one async for one in own_bus.read("EVENTS", from_sequence=manifest.last + 1, until_sequence=manifest.last + 7)]
    directory = archive.directory / "EVENTS"
    with SegmentWriter("EVENTS") as writer:
        writer.add(following)
        segment = writer.write(directory / "segment.draft")
    (directory / "segment.draft").rename(directory / segment.file_name)  # killed before the manifest named it
    (directory / "segment.draft").write_bytes(b"PAR1 and no more")
    (directory / f"{MANIFEST}.draft").write_bytes(b"{")
    await seal_all(own_bus, archive)
    names = {one.file_name for one in archive.manifest("EVENTS").segments}  # type: ignore[union-attr]
    assert {path.name for path in directory.iterdir()} == names | {MANIFEST, f"{segment.file_name}.aside"}
    assert archived(archive, "EVENTS") == await held(own_bus, "EVENTS")


async def test_no_segment_goes_where_a_manifest_is_lost_or_an_old_one(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    directory = archive.directory / "EVENTS"
    await happen_to_many(own_bus, 5, "s")
    await seal_all(own_bus, archive, Cut(segment_messages=10, settled_s=0.0))
    old = (directory / MANIFEST).read_bytes()
    await happen_to_many(own_bus, 15, "t")
    await seal_all(own_bus, archive, Cut(segment_messages=10, settled_s=0.0))
    (archive.directory / "letters").mkdir()
    (archive.directory / "letters" / "thesis.draft").write_text("mine")
    (archive.directory / "BODIES").symlink_to(archive.directory / "letters")
    before = {path.name for path in directory.iterdir()}
    (directory / MANIFEST).write_bytes(old)
    with pytest.raises(ArchiveDamaged, match="and others: it is lost or an old one"), archive.held():
        archive.tidy("EVENTS")
    (directory / MANIFEST).unlink()
    with pytest.raises(ArchiveDamaged, match="nothing was changed"), archive.held():
        archive.tidy("EVENTS")
    with pytest.raises(ArchiveUnusable, match="it is a link"), archive.held():
        await seal(own_bus, archive, "BODIES", SMALL)
    assert {path.name for path in directory.iterdir()} == before - {MANIFEST}
    assert (archive.directory / "letters" / "thesis.draft").read_text() == "mine"


SEALER = """
import asyncio, sys
from pathlib import Path
from cutor.bus.connection import Bus
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import Cut, seal

async def main():
    archive = Archive(Path(sys.argv[2]))
    with archive.held():
        async with Bus.connect(sys.argv[1], name="sealer") as bus:
            await seal(bus, archive, "EVENTS", Cut(segment_messages=1).everything())

asyncio.run(main())
"""


async def test_a_sealer_that_is_killed_at_any_moment_is_followed_by_another(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 10, "s")
    for least in (1, 8):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", SEALER, own_server.url, str(archive.directory))
        while len(list(archive.directory.glob("EVENTS/*.parquet"))) < least:
            await asyncio.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL
    await seal_all(own_bus, archive)
    assert archived(archive, "EVENTS") == await held(own_bus, "EVENTS")
    assert await faults(archive, own_bus, everything=True) == []


async def test_a_changed_archive_is_found_out(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 10, "s")
    manifest = (await seal_all(own_bus, archive))["EVENTS"]
    path = archive.file_of("EVENTS", manifest.segments[1])
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    [fault] = await faults(archive)
    assert "SHA-256" in fault
    assert str(path) in fault
    path.write_bytes(whole[:-1])
    assert [f"it has {len(whole) - 1} bytes" in fault for fault in await faults(archive)] == [True]
    path.unlink()
    assert ["No such file" in fault for fault in await faults(archive)] == [True]
    path.write_bytes(whole)
    assert await faults(archive) == []
    text = (archive.directory / "EVENTS" / MANIFEST).read_text()
    (archive.directory / "EVENTS" / MANIFEST).write_text(text.replace(f'"first": {manifest.first}', '"first": 7'))
    with pytest.raises(ArchiveDamaged):
        archive.manifest("EVENTS")
    assert len(await faults(archive)) == 1


async def test_another_stream_is_refused_and_a_restored_one_is_not(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 5, "s")
    await seal_all(own_bus, archive)
    await happen_to_many(own_bus, 5, "t")
    made = await backup.make(own_bus, tmp_path / "backup")
    async with loose_server(tmp_path / "other") as other:
        with pytest.raises(ArchiveForeign, match="ends at 0"):
            await seal_all(other, archive)
        await happen_to_many(other, 6, "u")
        with pytest.raises(ArchiveForeign, match="is not the one"):
            await seal_all(other, archive)
    server = await EmbeddedServer.start(tmp_path / "restored", port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as restored:
        await backup.restore(restored, tmp_path / "backup", made)
        await seal_all(restored, archive)
        assert archived(archive, "EVENTS") == await held(own_bus, "EVENTS")
        assert await faults(archive, restored, everything=True) == []


async def test_nothing_is_sealed_over_a_gap(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    async with loose_server(tmp_path / "nats") as bus:
        last = await happen(bus, "a", *FINISHED)
        await seal_all(bus, archive)
        for subject in ("x", "y", "x", "z", "z"):
            await bus.publish(f"cutor.ev.{subject}", b"")
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs_per_subject=1)
        with pytest.raises(MessagesMissing, match=f"leaves out {last + 1} to {last + 1}"):
            await seal_all(bus, archive)
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=1)
        with pytest.raises(MessagesMissing, match=f"messages {last + 1} to {last + 4} are neither in the archive nor"):
            await seal_all(bus, archive)


async def test_a_gap_that_is_acknowledged_is_passed_and_told_of(tmp_path: Path) -> None:
    """What lies before it is sealed, other streams are, and nothing but the very gap can be acknowledged."""
    archive = Archive(tmp_path / "archive")
    async with loose_server(tmp_path / "nats") as bus:
        with archive.held(), pytest.raises(GapRefused, match="nothing of EVENTS is sealed"):
            await acknowledge(bus, archive, "EVENTS", 1, 2)
        last = await happen(bus, "a", RUNNING[0], Cancelled())
        for subject in ("y", "x", "x", "x", "z"):
            await bus.publish(f"cutor.ev.{subject}", b"")
        await bus.publish("cutor.body.abc.0", b"body")
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs_per_subject=1)
        with archive.held():
            sealed, hindered = await seal_each(bus, archive, SMALL)
            assert (sealed["BODIES"].last, list(hindered)) == (1, ["EVENTS"])
            assert f"acknowledge-gap EVENTS {last + 2} {last + 3}" in str(hindered["EVENTS"])
            manifest = archive.manifest("EVENTS")
            assert manifest
            assert (manifest.last, manifest.gaps) == (last + 1, []), "what lies before it is sealed"
            for first, until in ((last, last + 3), (last + 1, last + 3), (last + 2, last + 2), (last + 2, last + 4)):
                with pytest.raises(GapRefused):
                    await acknowledge(bus, archive, "EVENTS", first, until)
            gap = last + 2, last + 3
            assert (await acknowledge(bus, archive, "EVENTS", *gap)).gaps == [gap]
            assert await seal(bus, archive, "EVENTS", Cut()) == archive.manifest("EVENTS"), "nothing is old enough behind it"
            assert (await seal(bus, archive, "EVENTS", SMALL)).gaps == [gap]
        assert archived(archive, "EVENTS") == await held(bus, "EVENTS")
        assert await faults(archive, bus, everything=True) == []
        joined = await Joined.of(bus, "EVENTS", archive)
        assert await sequences(joined) == [*range(1, last + 2), *range(last + 4, last + 6)]


async def test_a_gap_between_archive_and_stream_is_passed_likewise(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    async with loose_server(tmp_path / "nats") as bus:
        sealed = (await happen(bus, "a", *FINISHED), await seal_all(bus, archive))[0]
        last = await happen(bus, "b", *FINISHED)
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=2)
        with pytest.raises(MessagesMissing, match=f"acknowledge-gap EVENTS {sealed + 1} {last - 2}"):
            await Joined.of(bus, "EVENTS", archive)
        with archive.held():
            await acknowledge(bus, archive, "EVENTS", sealed + 1, last - 2)
        assert await sequences(await Joined.of(bus, "EVENTS", archive)) == [*range(1, sealed + 1), last - 1, last]
        assert (await seal_all(bus, archive))["EVENTS"].last == last


async def test_a_clock_that_was_ahead_does_not_stop_the_sealing() -> None:
    """A message from the future counts as old, and what came before one that is old is old."""
    now_ns = 10**18
    old, young, future = now_ns - 700 * 10**9, now_ns - 10**9, now_ns + 10**17

    def stored(*times_ns: int) -> list[Stored]:
        return [Stored("EVENTS", number, "x", time_ns, None, {}, b"") for number, time_ns in enumerate(times_ns, 1)]

    for times_ns, stable in (((old, young), 1), ((future, young), 1), ((young, old, young), 2), ((young,), 0), ((), 0)):
        assert len(settled_of(stored(*times_ns), now_ns, 600)) == stable, times_ns


async def test_one_seals_at_a_time(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    with archive.held(), pytest.raises(ArchiveBusy), Archive(tmp_path / "archive").held():
        pass


async def test_a_full_disk_is_foreseen(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    with pytest.raises(ArchiveFull, match="make room there"):
        archive.check_room(1 << 60)
    await happen_to_many(own_bus, 5, "s")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ArchiveUnusable, match="segment cannot be written"):
            await seal_all(own_bus, archive)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((archive.directory / "EVENTS").iterdir()) == []
    await seal_all(own_bus, archive)
    assert archived(archive, "EVENTS") == await held(own_bus, "EVENTS")


async def sequences(joined: Joined, first: int = 1, last: int | None = None) -> list[int]:
    reading = joined.read_batches(from_sequence=first, until_sequence=last, batch=7)
    return [one.sequence async for batch in reading for one in batch]


async def as_sealed(messages: AsyncIterator[Stored]) -> list[Stored]:
    """Return messages as an archive has them: without what the server compared."""
    return [msgspec.structs.replace(one, compared=None) async for one in messages]


async def joined_messages(joined: Joined) -> AsyncIterator[Stored]:
    async for batch in joined.read_batches():
        for one in batch:
            yield one


async def test_archive_and_tail_are_one(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 10, "s")
    sealed = (await seal_all(own_bus, archive, Cut(segment_messages=30, settled_s=0.0)))["EVENTS"].last
    whole = await as_sealed(own_bus.read("EVENTS"))
    joined = await Joined.of(own_bus, "EVENTS", archive)
    assert (joined.first, joined.sealed, joined.last) == (1, sealed, len(whole))
    assert 0 < sealed < len(whole)
    assert await as_sealed(joined_messages(joined)) == whole
    for first, last in ((1, 1), (sealed, sealed + 1), (sealed + 1, None), (sealed - 3, sealed), (len(whole), None)):
        assert await sequences(joined, first, last) == list(range(first, (last or len(whole)) + 1))


async def test_where_the_stream_begins_later_the_archive_has_what_is_gone(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    async with loose_server(tmp_path / "nats") as bus:
        await happen_to_many(bus, 10, "s")
        whole = await as_sealed(bus.read("EVENTS"))
        sealed = (await seal_all(bus, archive, Cut(segment_messages=30, settled_s=0.0)))["EVENTS"].last
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=len(whole) - sealed + 10)
        joined = await Joined.of(bus, "EVENTS", archive)
        assert await as_sealed(joined_messages(joined)) == whole
        late = Archive(tmp_path / "late")
        await seal_all(bus, late)
        joined = await Joined.of(bus, "EVENTS", late)
        with pytest.raises(MessagesMissing, match=f"messages 1 to {joined.first - 1} are neither"):
            await sequences(joined)
        assert await sequences(joined, joined.first) == list(range(joined.first, joined.last + 1))
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=1)
        with pytest.raises(MessagesMissing, match=f"messages {sealed + 1} to {len(whole) - 1} are neither"):
            await Joined.of(bus, "EVENTS", archive)


async def test_a_damaged_file_is_not_read(own_bus: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(own_bus, 5, "s")
    manifest = (await seal_all(own_bus, archive))["EVENTS"]
    path = archive.file_of("EVENTS", manifest.segments[-1])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    joined = await Joined.of(own_bus, "EVENTS", archive)
    with pytest.raises(ArchiveDamaged, match="SHA-256"):
        await sequences(joined)
