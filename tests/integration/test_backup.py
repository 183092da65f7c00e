"""Backups of a real server's streams: whole or not there, taken under load, restored into another server and no other."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cutor.bus import backup as transfer
from cutor.bus.backup import RestoreFailed, StreamSnapshotFailed
from cutor.bus.backup_manifest import RestoreRefused
from cutor.bus.bodies import Bodies, BodyRef
from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import BusUnreachable, StreamMissing
from cutor.bus.message import Stored
from cutor.bus.topology import default_text, parse, plan
from cutor.journal import backup
from cutor.journal.backup import BackupUnusable
from tests import commands
from tests.bare_stack import one_line
from tests.integration.projecting import FINISHED, happen, projector, until
from tests.live_stack import surroundings
from tests.nats_server import TENANTS, OwnServer, appender
from tests.ports import free_port

NOISE = os.urandom(1 << 20)
WANTED = parse(default_text(), TENANTS)


def limit_files(size_bytes: int) -> None:
    """In a child: a file may become so large, and no larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


@asynccontextmanager
async def empty_server(directory: Path) -> AsyncIterator[Bus]:
    """A bus on a server without streams."""
    server = await EmbeddedServer.start(directory, port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as bus:
        yield bus


async def everything(bus: Bus, stream: str) -> list[Stored]:
    return [stored async for stored in bus.read(stream)]


async def fill(bus: Bus, count: int = 30) -> None:
    """Some submissions that have ended, some bodies, something in every stream."""
    for number in range(count):
        await happen(bus, f"ended{number}", *FINISHED)
    await Bodies(bus).put(NOISE)
    await bus.publish("cutor.env.k", b"{}")
    await bus.publish("cutor.stack.policy", b"old")
    await bus.publish("cutor.stack.policy", b"new")


async def test_what_is_restored_is_the_same_to_the_message(own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus)
    made = await backup.make(own_bus, tmp_path / "backup")
    assert backup.read(tmp_path / "backup") == made
    await backup.verify(tmp_path / "backup", made)
    names = [one.name for one in made.streams]
    assert {"EVENTS", "BODIES", "ENVIRONMENTS", "STACK"} <= set(names)
    async with empty_server(tmp_path / "other") as other:
        await backup.restore(other, tmp_path / "backup", made)
        for name in names:
            assert await everything(other, name) == await everything(own_bus, name)
        assert await Bodies(other).get(await Bodies(own_bus).put(NOISE)) == NOISE
        assert await plan(other, WANTED) == [], "streams and consumers are as they were"
        first, last = [(await bus.stream_info("EVENTS"))["state"]["last_seq"] for bus in (own_bus, other)]
        assert first == last
        assert await appender(other)("new", "submitted", 0) == last + 1, "sequences go on where they were"


async def test_its_files_are_private_and_complete(own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus, 3)
    directory = tmp_path / "a" / "b"
    made = await backup.make(own_bus, directory)
    assert {path.name for path in directory.iterdir()} == {"manifest.json", *(one.file for one in made.streams)}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in directory.iterdir())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [one.size_bytes for one in made.streams] == [(directory / one.file).stat().st_size for one in made.streams]
    assert made.server_version == own_bus.link.server_version


async def test_a_directory_that_holds_something_is_refused(own_bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(BackupUnusable, match="is not empty: a backup goes into a directory of its own"):
        await backup.make(own_bus, tmp_path)
    with pytest.raises(BackupUnusable, match=r"cannot take a backup: Not a directory|File exists"):
        await backup.make(own_bus, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


async def test_every_event_in_a_backup_under_load_has_its_bodies(own_bus: Bus, tmp_path: Path) -> None:
    """Each event is appended when its body is stored; the backup begins and ends somewhere among them."""
    stop = asyncio.Event()
    references: dict[str, BodyRef] = {}

    async def load(writer: int) -> None:
        bodies = Bodies(own_bus)
        for number in itertools.count():
            if stop.is_set():
                return
            name = f"load-{writer}-{number}"
            references[name] = await bodies.put(os.urandom(100_000) + name.encode())
            await happen(own_bus, name, FINISHED[0])

    async with asyncio.TaskGroup() as tasks:
        for writer in range(4):
            tasks.create_task(load(writer))
        while len(references) < 50:
            await asyncio.sleep(0.01)
        made = await backup.make(own_bus, tmp_path / "backup")
        stop.set()
    async with empty_server(tmp_path / "other") as other:
        await backup.restore(other, tmp_path / "backup", made)
        events = await everything(other, "EVENTS")
        assert 40 < len(events) < len(references)
        assert events == (await everything(own_bus, "EVENTS"))[: len(events)], "nothing is missing in between"
        for event in events:
            name = event.subject.split(".")[3]
            assert (await Bodies(other).get(references[name])).endswith(name.encode())


async def test_what_was_queued_is_delivered_and_what_was_done_before_the_backup_is_not(own_bus: Bus, tmp_path: Path) -> None:
    append = appender(own_bus)
    for number in range(10):
        await append(f"s{number}", "submitted", 0)
    async with WeightedQueues(own_bus, "EVENTS", [("builder-default", 1)]) as queue:
        for _ in range(6):
            delivery = await queue.next()
            assert delivery is not None
            await delivery.ack(confirm=True)
        made = await backup.make(own_bus, tmp_path / "backup")
    async with empty_server(tmp_path / "other") as other:
        await backup.restore(other, tmp_path / "backup", made)
        await appender(other)("later", "submitted", 0)
        async with WeightedQueues(other, "EVENTS", [("builder-default", 1)]) as queue:
            seen = []
            for _ in range(5):
                delivery = await queue.next()
                assert delivery is not None
                seen.append(delivery.stored.subject.split(".")[3])
                await delivery.ack(confirm=True)
    assert seen == ["s6", "s7", "s8", "s9", "later"]


async def test_what_is_acknowledged_while_the_backup_runs_is_delivered_again(
    own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events may be behind the snapshot: if it counted as done, nobody would ever do it."""
    append = appender(own_bus)
    await append("s", "submitted", 0)
    asked = transfer._ask_once

    async def acknowledge_first(bus: Bus, what: str, subject: str, body: bytes) -> dict[str, Any]:
        if what == "snapshot of EVENTS":
            async with WeightedQueues(own_bus, "EVENTS", [("builder-default", 1)]) as queue:
                delivery = await queue.next()
                assert delivery is not None
                await delivery.ack(confirm=True)
        return await asked(bus, what, subject, body)

    monkeypatch.setattr(transfer, "_ask_once", acknowledge_first)
    made = await backup.make(own_bus, tmp_path / "backup")
    monkeypatch.undo()
    async with empty_server(tmp_path / "other") as other:
        await backup.restore(other, tmp_path / "backup", made)
        async with asyncio.timeout(180), WeightedQueues(other, "EVENTS", [("builder-default", 1)]) as queue:
            delivery = await queue.next()
            assert delivery is not None
            assert delivery.stored.subject == "cutor.ev.default.s.submitted"


async def test_a_server_with_streams_is_refused_and_nothing_is_changed(own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus, 3)
    made = await backup.make(own_bus, tmp_path / "backup")
    before = await everything(own_bus, "EVENTS")
    with pytest.raises(RestoreRefused, match=r"the server holds streams already .*EVENTS.*, and cutor deletes none"):
        await backup.restore(own_bus, tmp_path / "backup", made)
    assert await everything(own_bus, "EVENTS") == before
    async with empty_server(tmp_path / "other") as other:
        await other.api.call("x", "STREAM.CREATE.EVENTS", {"name": "EVENTS", "subjects": ["elsewhere"], "storage": "file"})
        with pytest.raises(RestoreRefused, match=r"holds streams already \(EVENTS\)"):
            await backup.restore(other, tmp_path / "backup", made)


async def test_a_server_without_streams_has_nothing_to_back_up(tmp_path: Path) -> None:
    async with empty_server(tmp_path / "other") as other:
        with pytest.raises(StreamMissing, match="stream EVENTS"):
            await backup.make(other, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
async def test_a_damaged_backup_is_refused_before_anything_is_made(own_bus: Bus, tmp_path: Path, damage: str) -> None:
    await fill(own_bus, 3)
    made = await backup.make(own_bus, tmp_path / "backup")
    file = tmp_path / "backup" / "BODIES.snapshot"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    match damage:
        case "cut":
            os.truncate(file, len(raw) - 1)
        case "changed":
            file.write_bytes(raw)
        case _:
            file.unlink()
    said = {"cut": "bytes where the manifest says", "changed": "SHA-256 differs", "missing": "cannot be read: No such file"}
    with pytest.raises(BackupUnusable, match=said[damage]) as refused:
        await backup.verify(tmp_path / "backup", made)
    assert "BODIES.snapshot" in str(refused.value)


@pytest.mark.parametrize("name", ["manifest.json", "EVENTS.snapshot"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
async def test_what_is_no_file_in_a_backup_is_refused_at_once(own_bus: Bus, tmp_path: Path, name: str, kind: str) -> None:
    """Nothing would ever come from a pipe that nobody writes to, and nothing ever end from a device."""
    await fill(own_bus, 3)
    made = await backup.make(own_bus, tmp_path / "backup")
    file = tmp_path / "backup" / name
    file.unlink()
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case _:
            file.symlink_to("/dev/zero")
    with pytest.raises(BackupUnusable, match=rf"{name} is no regular file"):
        await backup.verify(tmp_path / "backup", backup.read(tmp_path / "backup") if name == "manifest.json" else made)


async def test_a_disk_that_is_full_is_named_with_the_file(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    await Bodies(own_bus).put(os.urandom(8 << 20))
    directory = tmp_path / "backup"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cutor", "streams", "backup", str(directory)),
        env=surroundings(tmp_path) | {"CUTOR_SERVER": own_server.url},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: limit_files(1 << 20),
    )
    _, said = await process.communicate()
    assert said.decode() == f"cutor: {directory}/BODIES.snapshot: File too large\n"
    assert process.returncode == 3
    assert not directory.exists()


async def test_a_restore_that_does_not_get_through_says_that_the_server_is_of_no_use(own_bus: Bus, tmp_path: Path) -> None:
    """The file changes behind the check: the server has made a part of the stream then."""
    await fill(own_bus, 3)
    await Bodies(own_bus).put(os.urandom(4 << 20))
    made = await backup.make(own_bus, tmp_path / "backup")
    [bodies] = [one for one in made.streams if one.name == "BODIES"]
    raw = (tmp_path / "backup" / bodies.file).read_bytes()
    async with empty_server(tmp_path / "other") as other:
        with pytest.raises(RestoreFailed, match=r"stream BODIES was not restored whole: .*begin again with an empty server"):
            await transfer.restore(other, bodies, pieces(raw[: len(raw) - len(raw) // 4]))
        with pytest.raises(RestoreRefused, match="holds streams already"):
            await backup.restore(other, tmp_path / "backup", made)


async def test_a_restored_stream_that_holds_less_is_noticed(own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus, 3)
    made = await backup.make(own_bus, tmp_path / "first")
    await fill_more(own_bus)
    later = await backup.make(own_bus, tmp_path / "second")
    raw = (tmp_path / "first" / "EVENTS.snapshot").read_bytes()
    [events] = [one for one in later.streams if one.name == "EVENTS"]
    async with empty_server(tmp_path / "other") as other:
        with pytest.raises(RestoreFailed, match=r"it holds .* messages .*, and had .* messages"):
            await transfer.restore(other, events, pieces(raw))
    assert made.streams != later.streams


async def test_what_somebody_appends_meanwhile_does_not_make_a_restore_fail(
    own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer that tries again and again finds the stream as soon as it is there, before it is compared."""
    await fill(own_bus, 3)
    made = await backup.make(own_bus, tmp_path / "backup")
    read_back = transfer._read_back
    async with empty_server(tmp_path / "other") as other:

        async def append_first(bus: Bus, one: Any) -> None:
            if one.name == "EVENTS":
                await appender(other)("early", "submitted", 0)
            if one.name == "ENVIRONMENTS":
                await other.publish("cutor.env.k", b"{}")
            await read_back(bus, one)

        monkeypatch.setattr(transfer, "_read_back", append_first)
        await backup.restore(other, tmp_path / "backup", made)
        kept = await everything(own_bus, "EVENTS")
        assert (await everything(other, "EVENTS"))[: len(kept)] == kept
        assert (await other.stream_info("EVENTS"))["state"]["last_seq"] == len(kept) + 1


async def fill_more(bus: Bus) -> None:
    await happen(bus, "one-more", *FINISHED)


async def pieces(raw: bytes) -> Any:
    for start in range(0, len(raw), transfer.CHUNK_BYTES):
        yield raw[start : start + transfer.CHUNK_BYTES]


async def test_a_server_that_dies_during_a_backup_ends_it_and_leaves_nothing(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Bodies(own_bus).put(os.urandom(16 << 20))

    def kill(stream: str, _: int, __: int | None) -> None:
        if stream == "BODIES":
            assert own_server.server
            os.kill(own_server.server.pid, signal.SIGKILL)

    with pytest.raises((BusUnreachable, StreamSnapshotFailed)):
        await backup.make(own_bus, tmp_path / "backup", kill)
    assert not (tmp_path / "backup").exists()


async def test_a_backup_that_is_cancelled_leaves_nothing(own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus, 3)
    (tmp_path / "backup").mkdir()
    reached = asyncio.Event()
    making = asyncio.create_task(backup.make(own_bus, tmp_path / "backup", lambda *_: reached.set()))
    await reached.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert list((tmp_path / "backup").iterdir()) == [], "and what was there before stays"


async def test_two_backups_at_one_time_are_two(own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus, 3)
    first, second = await asyncio.gather(*(backup.make(own_bus, tmp_path / name) for name in ("a", "b")))
    assert [one.messages for one in first.streams] == [one.messages for one in second.streams]
    for name, made in (("a", first), ("b", second)):
        await backup.verify(tmp_path / name, made)


async def test_views_from_before_the_restore_are_made_anew(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    """They hold events that the restored stream does not have, and then others at the same sequences."""
    await fill(own_bus, 5)
    made = await backup.make(own_bus, tmp_path / "backup")
    for number in range(5):
        await happen(own_bus, f"lost{number}", *FINISHED)
    database = tmp_path / "views.duckdb"
    async with projector(own_server.url, database):
        await until(own_bus, "SELECT count(*) FROM submissions", 10)
    server = await EmbeddedServer.start(tmp_path / "other", port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as other:
        await backup.restore(other, tmp_path / "backup", made)
        for number in range(9):
            await happen(other, f"new{number}", *FINISHED)
        async with projector(server.url, database):
            await until(other, "SELECT count(*) FROM submissions", 14)
            await until(other, "SELECT count(*) FROM submissions WHERE id LIKE 'lost%'", 0)
            kept = await rows(other)
        async with projector(server.url, tmp_path / "rebuilt.duckdb"):
            await until(other, "SELECT count(*) FROM submissions", 14)
            assert await rows(other) == kept


async def rows(bus: Bus) -> list[list[Any]]:
    from cutor.projections.queries.client import query

    return (await query(bus, "SELECT * FROM submissions ORDER BY id")).rows


# -- the commands --------------------------------------------------------------------------------------------------------


async def cutor(tmp_path: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = surroundings(tmp_path) | {"CUTOR_SERVER": url}
    return commands.decoded(await asyncio.to_thread(commands.run, arguments, environment, timeout_s=120))


async def test_the_commands(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus, 3)
    directory = tmp_path / "backup"
    done = await cutor(tmp_path, own_server.url, "streams", "backup", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {one["name"]: one["messages"] for one in document["streams"]}["EVENTS"] == 3 * len(FINISHED)
    assert "nothing" not in one_line(await cutor(tmp_path, own_server.url, "streams", "restore", str(directory)), 2), (
        "the server has streams"
    )
    async with await EmbeddedServer.start(tmp_path / "other", port=free_port("127.0.0.1")) as server:
        done = await cutor(tmp_path, server.url, "streams", "restore", str(directory))
        assert done.returncode == 0, done.stderr
        assert "restored and compared; `cutor streams plan` shows" in done.stdout
        done = await cutor(tmp_path, server.url, "streams", "plan")
        assert "create" not in done.stdout.replace("publish", "")


async def test_what_is_no_backup_is_refused_in_one_line(own_server: OwnServer, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "EVENTS.snapshot").write_bytes(b"x")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{}")
    for name, said in (("half", "holds no finished backup"), ("none", "no finished backup"), ("bad", "not the manifest")):
        done = await cutor(tmp_path, own_server.url, "streams", "restore", str(tmp_path / name))
        assert said in one_line(done, 2)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_an_interruption_removes_what_was_written(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, sent: signal.Signals
) -> None:
    await asyncio.gather(*(Bodies(own_bus).put(os.urandom(8 << 20)) for _ in range(12)))
    directory = tmp_path / "backup"
    process = subprocess.Popen(  # noqa: ASYNC220 - its end is waited for in a thread
        [sys.executable, "-m", "cutor", "streams", "backup", str(directory)],
        env=surroundings(tmp_path) | {"CUTOR_SERVER": own_server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        async with asyncio.timeout(180):
            while not (directory / ".BODIES.snapshot.part").exists():
                await asyncio.sleep(0.005)
        process.send_signal(sent)
        _, said = await asyncio.to_thread(process.communicate, timeout=180)
    finally:
        process.kill()
    assert (process.returncode, said.strip()) == (130, "cutor: interrupted")
    assert not directory.exists()
