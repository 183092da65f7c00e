"""A restore into a server of one's own that does not end: what is there is never taken for the whole, by nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cutor.bus import backup as transfer
from cutor.bus.backup import RestoreFailed, check_whole
from cutor.bus.backup_manifest import ORDER
from cutor.bus.bodies import Bodies
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import ApiRefused, RestoreUnfinished, StreamMissing
from cutor.bus.restoring import MARKED, marked
from cutor.bus.topology import apply, default_text, parse, plan
from cutor.cli.streams_backup import OR_WHOLE
from cutor.client.client import Client
from cutor.journal import backup
from cutor.journal.redelivery import redeliver
from tests.bare_stack import one_line
from tests.integration.projecting import FINISHED, happen
from tests.live_stack import surroundings
from tests.nats_server import TENANTS, appender
from tests.ports import free_port

WANTED = parse(default_text(), TENANTS)
PART = "holds part of a backup: a restore into it did not end, or still runs: nothing of it may be used"
LARGE = 48
"""Bodies of a MiB: a restore of them is met in its midst."""


@asynccontextmanager
async def empty_server(directory: Path) -> AsyncIterator[tuple[str, Bus]]:
    server = await EmbeddedServer.start(directory, port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as bus:
        yield server.url, bus


@pytest.fixture
async def backed_up(own_bus: Bus, tmp_path: Path) -> Path:
    """A backup whose log and bodies take a while to restore."""
    append = appender(own_bus)
    for number in range(20):
        await append(f"queued{number}", "submitted", 0)
    await happen(own_bus, "ended", *FINISHED)
    await own_bus.publish("cutor.stack.policy", b"some")
    await asyncio.gather(*(Bodies(own_bus).put(os.urandom(1 << 20)) for _ in range(LARGE)))
    await backup.make(own_bus, tmp_path / "backup")
    return tmp_path / "backup"


def command(tmp_path: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cutor", *arguments],
        env=surroundings(tmp_path) | {"CUTOR_SERVER": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def cutor(tmp_path: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = command(tmp_path, url, *arguments)
    try:
        out, err = await asyncio.to_thread(process.communicate, timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


async def held(bus: Bus) -> set[str]:
    return set(await transfer.streams_of(bus))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nobody_builds_upon_a_restore_that_was_interrupted(backed_up: Path, tmp_path: Path, sent: signal.Signals) -> None:
    async with empty_server(tmp_path / "other") as (url, bus):
        process = command(tmp_path, url, "streams", "restore", str(backed_up))
        try:
            async with asyncio.timeout(180):
                while not await held(bus):
                    assert process.poll() is None
            process.send_signal(sent)
            _, said = await asyncio.to_thread(process.communicate, timeout=180)
        finally:
            process.kill()
        if sent == signal.SIGKILL:
            assert process.returncode == -sent
        else:
            assert process.returncode == 130
            assert said.splitlines() == [f"cutor: interrupted: {transfer.HELD_IN_PART}; {OR_WHOLE}"]
        before = await held(bus)
        assert before < set(ORDER), "it was met within its work"
        await every_way_is_closed(tmp_path, url, bus, backed_up)
        assert await held(bus) == before, "nothing was made"


async def every_way_is_closed(tmp_path: Path, url: str, bus: Bus, directory: Path) -> None:
    for arguments in (
        ("streams", "plan"),
        ("streams", "apply"),
        ("streams", "restore", str(directory)),
        ("streams", "backup", str(tmp_path / "second")),
        ("streams", "redeliver"),
        ("builder",),
        ("runner",),
        ("projector",),
    ):
        assert PART in one_line(await cutor(tmp_path, url, *arguments), 2), arguments
    assert not (tmp_path / "second").exists()
    doctor = await cutor(tmp_path, url, "doctor")
    assert doctor.returncode == 3
    assert PART in doctor.stdout
    with pytest.raises(RestoreUnfinished):
        async with Client(url) as client:
            await client.policy()
    with pytest.raises(RestoreUnfinished):
        await apply(bus, WANTED)


async def test_a_restore_that_is_through_leaves_no_mark(backed_up: Path, tmp_path: Path) -> None:
    made = backup.read(backed_up)
    async with empty_server(tmp_path / "other") as (_, bus):
        seen = []

        def look(stream: str, done_bytes: int, total_bytes: int | None) -> None:
            if stream != MARKED and done_bytes == total_bytes:
                seen.append(asyncio.ensure_future(check_whole(bus)))

        await backup.restore(bus, backed_up, made, tell=look)
        assert all(isinstance(one, RestoreUnfinished) for one in await asyncio.gather(*seen, return_exceptions=True))
        assert len(seen) == len(made.streams) - 1
        await check_whole(bus)
        assert await plan(bus, WANTED) == []
        assert "cutor" not in str((await bus.stream_info(MARKED))["config"].get("metadata"))


async def test_one_that_died_before_its_last_step_is_ended_by_the_same_restore(backed_up: Path, tmp_path: Path) -> None:
    """Everything was compared; a consumer may be missing, too."""
    made = backup.read(backed_up)
    async with empty_server(tmp_path / "other") as (url, bus):

        async def die(*_: object) -> None:
            raise asyncio.CancelledError

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(transfer, "end", die)
            with pytest.raises(asyncio.CancelledError):
                await backup.restore(bus, backed_up, made)
        await bus.api.call("x", "CONSUMER.DELETE.EVENTS.runner-default")
        with pytest.raises(RestoreUnfinished):
            await plan(bus, WANTED)
        with pytest.raises(RestoreUnfinished):
            await redeliver(bus)
        done = await cutor(tmp_path, url, "streams", "restore", str(backed_up))
        assert done.returncode == 0, done.stderr
        assert "restored and compared" in done.stdout
        assert await plan(bus, WANTED) == []
        assert "holds streams already" in one_line(await cutor(tmp_path, url, "streams", "restore", str(backed_up)), 2)


async def test_the_restore_of_another_backup_ends_nothing(own_bus: Bus, backed_up: Path, tmp_path: Path) -> None:
    await happen(own_bus, "more", *FINISHED)
    other = await backup.make(own_bus, tmp_path / "second")
    made = backup.read(backed_up)
    async with empty_server(tmp_path / "other") as (_, bus):
        await backup.restore(bus, backed_up, made)
        config = marked((await bus.stream_info(MARKED))["config"], "another")
        await bus.api.call("x", f"STREAM.UPDATE.{MARKED}", config)
        for directory, manifest in ((backed_up, made), (tmp_path / "second", other)):
            with pytest.raises(RestoreUnfinished, match="holds part of a backup"):
                await backup.restore(bus, directory, manifest)


async def test_whatever_fails_between_two_streams_says_that_part_is_held(
    backed_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup.read(backed_up)
    asked = transfer._ask_once

    async def refuse(bus: Bus, what: str, subject: str, body: bytes) -> object:
        if what == "restore of EVENTS":
            raise ApiRefused(what, 1, "no more room")
        return await asked(bus, what, subject, body)

    monkeypatch.setattr(transfer, "_ask_once", refuse)
    async with empty_server(tmp_path / "other") as (_, bus):
        with pytest.raises(RestoreFailed, match=r"no more room.*: the server holds part of the backup now"):
            await backup.restore(bus, backed_up, made)
        with pytest.raises(StreamMissing):
            await bus.api.require_stream("EVENTS")


async def test_a_consumer_that_cannot_be_placed_leaves_part(
    backed_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: Bus, stream: str, __: object) -> None:
        raise ApiRefused(f"consumer of {stream}", 1, "no")

    monkeypatch.setattr(transfer, "_place", refuse)
    async with empty_server(tmp_path / "other") as (_, bus):
        with pytest.raises(RestoreFailed, match=r"stream EVENTS was not restored whole: .*holds part of the backup now"):
            await backup.restore(bus, backed_up, backup.read(backed_up))
        with pytest.raises(RestoreUnfinished):
            await apply(bus, WANTED)
