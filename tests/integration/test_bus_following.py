"""Following one submission without a consumer: everything once and in order, through whatever happens to the server."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing

import pytest

from cutor.bus.api import Api
from cutor.bus.connection import Bus
from cutor.bus.errors import BusClosed, BusUnreachable, StreamMissing, StreamRewound
from cutor.bus.message import Stored
from tests.nats_server import Append, OwnServer, appender, apply_streams

PATIENCE_S = 180.0


async def follow(
    bus: Bus, identity: str, until: str, seen: list[int] | None = None, patience_s: float = PATIENCE_S
) -> list[int]:
    """The sequences of a submission's messages up to the first one of the kind `until`."""
    seen = [] if seen is None else seen
    subjects = f"cutor.ev.default.{identity}.>", f"cutor.ev.default.{identity}.submitted"
    async with aclosing(bus.follow(*subjects, patience_s=patience_s)) as following:
        async for stored in following:
            seen.append(stored.sequence)
            if stored.subject.endswith(until):
                return seen
    return seen


async def seen_so_far(seen: list[int], count: int) -> None:
    async with asyncio.timeout(180):
        while len(seen) < count:
            await asyncio.sleep(0.01)


async def test_what_is_there_and_what_comes(bus: Bus, fresh_id: str, append: Append) -> None:
    sequences = [await append(fresh_id, "submitted", 0)]
    sequences.append(await append(fresh_id, "leased", sequences[-1]))
    seen: list[int] = []
    task = asyncio.create_task(follow(bus, fresh_id, "finished", seen))
    await seen_so_far(seen, 2)
    for kind in ("cache-built", "finished"):
        await append(f"{fresh_id}-other-{kind}", "submitted", 0)
        sequences.append(await append(fresh_id, kind, sequences[-1]))
    assert await asyncio.wait_for(task, 180) == sequences


async def test_nothing_there_is_nothing_to_follow(bus: Bus, fresh_id: str, append: Append) -> None:
    assert await follow(bus, fresh_id, "finished") == []
    await append(fresh_id, "leased", 0)
    assert await follow(bus, fresh_id, "finished") == [], "a history begins with `submitted`"


async def test_a_thousand_events_as_fast_as_they_can_come(bus: Bus, fresh_id: str, append: Append) -> None:
    first = await append(fresh_id, "submitted", 0)
    seen: list[int] = []
    followers = [asyncio.create_task(follow(bus, fresh_id, "finished", into)) for into in (seen, [])]
    await seen_so_far(seen, 1)
    await asyncio.gather(*(bus.publish(f"cutor.ev.default.{fresh_id}.ran", b"%d" % number) for number in range(1000)))
    history = await bus.history(f"cutor.ev.default.{fresh_id}.>", f"cutor.ev.default.{fresh_id}.submitted", consistent=True)
    sequences = [stored.sequence for stored in history]
    assert (len(sequences), sequences[0]) == (1001, first)
    sequences.append(await append(fresh_id, "finished", sequences[-1]))
    for follower in followers:
        assert await asyncio.wait_for(follower, 180) == sequences


async def consumers(bus: Bus) -> set[str]:
    """Return the names of the consumers of EVENTS; one of a reader that has gone stays for a while."""
    return {*(await bus.api.call("consumers", "CONSUMER.NAMES.EVENTS", {}))["consumers"]}


async def test_what_wakes_nobody_comes_with_what_does_by_one_read(
    bus: Bus, fresh_id: str, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.bus.following.LOOK_EVERY_S", 1000.0)
    asked: list[int] = []
    seen: list[int] = []
    batch = bus._reading.batch

    def ends(subject: str) -> bool:
        return subject.endswith(".finished")

    async def counted(stream: str, sequence: int, matching: str, count: int) -> tuple[list[Stored], int]:
        found = await batch(stream, sequence, matching, count)
        asked.append(count)
        return found

    async def ended() -> None:
        subjects = f"cutor.ev.default.{fresh_id}.>", f"cutor.ev.default.{fresh_id}.submitted"
        async with aclosing(bus.follow(*subjects, patience_s=PATIENCE_S, wakes=ends)) as following:
            async for stored in following:
                seen.append(stored.sequence)
                if ends(stored.subject):
                    return

    monkeypatch.setattr(bus._reading, "batch", counted)
    sequences = [await append(fresh_id, "submitted", 0)]
    task = asyncio.create_task(ended())
    await seen_so_far(asked, 1)
    for kind in ("leased", "cache-built", "leased", "ran"):
        sequences.append(await append(fresh_id, kind, sequences[-1]))
    assert (asked, seen) == ([1], sequences[:1])
    sequences.append(await append(fresh_id, "finished", sequences[-1]))
    await asyncio.wait_for(task, 180)
    assert (asked[:2], seen) == ([1, 5], sequences)


async def test_it_makes_no_consumer(bus: Bus, fresh_id: str, append: Append) -> None:
    first = await append(fresh_id, "submitted", 0)
    before = await consumers(bus)
    seen: list[int] = []
    task = asyncio.create_task(follow(bus, fresh_id, "finished", seen))
    await seen_so_far(seen, 1)
    assert await consumers(bus) <= before
    await append(fresh_id, "finished", first)
    await asyncio.wait_for(task, 180)


async def test_a_missed_notice_is_made_up_for(bus: Bus, fresh_id: str, append: Append, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.bus.following.LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("cutor.bus.following.Follower._noticed", lambda *_: None)
    sequences = [await append(fresh_id, "submitted", 0)]
    seen: list[int] = []
    task = asyncio.create_task(follow(bus, fresh_id, "finished", seen))
    await seen_so_far(seen, 1)
    sequences.append(await append(fresh_id, "finished", sequences[0]))
    assert await asyncio.wait_for(task, 180) == sequences


async def test_a_notice_of_what_the_stream_refused_is_not_waited_for(
    bus: Bus, fresh_id: str, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a notice passes by like any other; what comes after it is found by its own."""
    monkeypatch.setattr("cutor.bus.following.LOOK_EVERY_S", 1000.0)
    sequences = [await append(fresh_id, "submitted", 0)]
    seen: list[int] = []
    task = asyncio.create_task(follow(bus, fresh_id, "finished", seen))
    await seen_so_far(seen, 1)
    await bus.link.send(f"cutor.ev.default.{fresh_id}.ran", b"refused", headers={"Nats-Expected-Last-Sequence": "1"})
    await asyncio.sleep(0.3)
    sequences.append(await append(fresh_id, "finished", sequences[0]))
    assert await asyncio.wait_for(task, 180) == sequences


async def test_the_server_is_killed_meanwhile(own_server: OwnServer, own_bus: Bus) -> None:
    """Events that are appended while the follower's connection is down are found when it is back."""
    append = appender(own_bus)
    sequences = [await append("me", "submitted", 0)]
    seen: list[int] = []
    async with Bus.connect(own_server.url, name="follower") as bus:
        task = asyncio.create_task(follow(bus, "me", "finished", seen))
        for kind in ("leased", "cache-built", "leased", "finished"):
            await seen_so_far(seen, len(sequences))
            await own_server.kill()
            await own_server.start()
            sequences.append(await append("me", kind, sequences[-1]))
        assert await asyncio.wait_for(task, 180) == sequences


async def test_a_server_that_stays_away_is_named(own_server: OwnServer, own_bus: Bus) -> None:
    await appender(own_bus)("me", "submitted", 0)
    seen: list[int] = []
    task = asyncio.create_task(follow(own_bus, "me", "finished", seen, patience_s=0.5))
    await seen_so_far(seen, 1)
    await own_server.kill()
    with pytest.raises(BusUnreachable, match=rf"cannot reach NATS at nats://127\.0\.0\.1:{own_server.port}"):
        await asyncio.wait_for(task, 180)


async def test_a_stream_that_lost_what_was_read_is_noticed(own_server: OwnServer, own_bus: Bus) -> None:
    """The server comes back with an empty store, then with another history in the old one's place."""
    for others in (0, 5):
        await appender(own_bus)("me", "submitted", 0)
        seen: list[int] = []
        task = asyncio.create_task(follow(own_bus, "me", "finished", seen))
        await seen_so_far(seen, 1)
        await own_server.kill()
        shutil.rmtree(own_server.directory / "jetstream")
        await own_server.start()
        await apply_streams(own_server.url)
        for number in range(others):
            await appender(own_bus)(f"other{others}-{number}", "submitted", 0)
        with pytest.raises((StreamRewound, StreamMissing)):
            await asyncio.wait_for(task, 180)


async def test_what_is_only_too_old_is_no_loss(own_server: OwnServer, own_bus: Bus) -> None:
    """With a `max_age` the last message that was read may be gone, and the stream is the same."""
    append = appender(own_bus)
    sequences = [await append("me", "submitted", 0)]
    seen: list[int] = []
    async with Bus.connect(own_server.url, name="follower") as bus:
        task = asyncio.create_task(follow(bus, "me", "finished", seen))
        await seen_so_far(seen, 1)
        config = (await bus.stream_info("EVENTS"))["config"]
        aged = config | {"max_age": 10**9, "duplicate_window": 10**9}
        await Api(own_bus.link).call("shorter age", "STREAM.UPDATE.EVENTS", aged)
        async with asyncio.timeout(180):
            while (await bus.stream_info("EVENTS"))["state"]["messages"]:
                await asyncio.sleep(0.1)
        await own_server.kill()
        await own_server.start()
        await asyncio.sleep(0.5)
        sequences.append(await append("me", "finished", 0))
        assert await asyncio.wait_for(task, 180) == sequences


async def test_a_closed_bus_ends_it(own_server: OwnServer, own_bus: Bus) -> None:
    await appender(own_bus)("me", "submitted", 0)
    async with Bus.connect(own_server.url, name="follower") as bus:
        seen: list[int] = []
        task = asyncio.create_task(follow(bus, "me", "finished", seen))
        await seen_so_far(seen, 1)
    with pytest.raises(BusClosed):
        await asyncio.wait_for(task, 180)
