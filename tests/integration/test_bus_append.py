"""Fenced appends on a real server: one writer wins, a retry is found again, and nothing hangs."""

import asyncio
import time
from collections import Counter

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import AppendRefused, BusClosed, BusUnreachable, FenceConflict
from cutor.bus.waiting import NoAnswer
from tests.nats_server import Append, OwnServer, appender


def place(identity: str) -> dict[str, str]:
    return {"fence": f"cutor.ev.default.{identity}.>", "subject": f"cutor.ev.default.{identity}.submitted"}


async def test_of_many_writers_at_once_one_wins(bus: Bus, fresh_id: str) -> None:
    async def write(number: int) -> str:
        try:
            appended = await bus.append(
                place(fresh_id)["subject"], b"x", message_id=f"w{number}", fence=place(fresh_id)["fence"], expected_sequence=0
            )
        except FenceConflict as conflict:
            assert conflict.last_sequence > 0
            return "conflict"
        assert not appended.duplicate
        return "won"

    assert Counter(await asyncio.gather(*(write(number) for number in range(20)))) == {"won": 1, "conflict": 19}
    assert len(await bus.history(place(fresh_id)["fence"], place(fresh_id)["subject"])) == 1


async def test_the_same_message_id_is_the_same_append(bus: Bus, fresh_id: str, append: Append) -> None:
    first = await append(fresh_id, "submitted", 0)
    assert await append(fresh_id, "submitted", 0) == first
    appended = await bus.append(
        **place(fresh_id), body=b"{}", message_id=f"default/{fresh_id}/submitted/0", expected_sequence=first
    )
    assert (appended.sequence, appended.duplicate) == (first, True)
    assert len(await bus.history(place(fresh_id)["fence"], place(fresh_id)["subject"])) == 1


async def test_a_stale_retry_that_is_no_longer_the_newest_is_a_conflict_and_found_in_the_history(
    bus: Bus, fresh_id: str, append: Append
) -> None:
    first = await append(fresh_id, "submitted", 0)
    second = await append(fresh_id, "leased", first)
    with pytest.raises(FenceConflict) as caught:
        await append(fresh_id, "submitted", 0)
    assert caught.value.last_sequence == second
    found = await bus.history(place(fresh_id)["fence"], place(fresh_id)["subject"], at_least=second)
    assert f"default/{fresh_id}/submitted/0" in {stored.message_id for stored in found}


async def test_a_fence_holds_over_all_kinds_of_one_submission_and_no_other(fresh_id: str, append: Append) -> None:
    first = await append(fresh_id, "submitted", 0)
    await append(f"{fresh_id}0", "submitted", 0)
    with pytest.raises(FenceConflict) as caught:
        await append(fresh_id, "finished", 0)
    assert caught.value.last_sequence == first


async def test_a_subject_that_no_stream_takes_is_refused_at_once(bus: Bus) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(AppendRefused, match=r"no stream takes nowhere\.at\.all .*cutor streams apply"):
            await bus.append("nowhere.at.all", b"", message_id="m", fence="nowhere.>", expected_sequence=0)


async def test_a_message_over_the_limit_is_refused_before_it_is_sent(bus: Bus, fresh_id: str) -> None:
    with pytest.raises(AppendRefused, match="8388608 bytes, the server takes at most"):
        await bus.append(**place(fresh_id), body=b"x" * (8 << 20), message_id="m", expected_sequence=0)
    assert bus.connected


async def test_a_message_over_the_streams_limit_is_refused_by_it(bus: Bus) -> None:
    with pytest.raises(AppendRefused, match="exceeds maximum") as caught:
        await bus.publish("cutor.stack.test-large", b"x" * (2 << 20))
    assert caught.value.code == 10054


async def test_an_append_whose_answer_is_lost_is_found_again(
    bus: Bus, fresh_id: str, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is thrown away after the server has stored the message; the retry then carries a stale sequence."""
    real = bus.link.ask
    lost = 0

    async def forgetful(subject: str, body: bytes = b"", **rest: object) -> object:
        nonlocal lost
        answer = await real(subject, body, **rest)  # type: ignore[arg-type]
        if subject.endswith(".submitted") and lost < 2:
            lost += 1
            raise NoAnswer("lost on purpose")
        return answer

    monkeypatch.setattr(bus.link, "ask", forgetful)
    appended = await bus.append(**place(fresh_id), body=b"x", message_id="once", expected_sequence=0)
    assert lost == 2
    assert appended.duplicate
    found = await bus.history(place(fresh_id)["fence"], place(fresh_id)["subject"])
    assert [stored.sequence for stored in found] == [appended.sequence]


async def test_publish_keeps_the_last_value(bus: Bus) -> None:
    first = await bus.publish("cutor.stack.test", b"one")
    second = await bus.publish("cutor.stack.test", b"two")
    assert second > first
    stored = await bus.last("STACK", "cutor.stack.test")
    assert stored is not None
    assert stored.body == b"two"
    assert [s.body async for s in bus.read("STACK", filter="cutor.stack.test")] == [b"two"]


async def test_appends_go_on_over_a_kill_of_the_server_and_each_is_stored_once(own_server: OwnServer, own_bus: Bus) -> None:
    append = appender(own_bus)
    ids = [f"s{number}" for number in range(300)]

    async def chain(identity: str) -> None:
        sequence = 0
        for kind in ("submitted", "leased", "cache-built", "finished"):
            sequence = await append(identity, kind, sequence)

    running = asyncio.gather(*(chain(identity) for identity in ids))
    await asyncio.sleep(0.02)
    assert not running.done()
    await own_server.kill()
    await asyncio.sleep(0.1)
    await own_server.start()
    await asyncio.wait_for(running, 180)
    kinds = Counter([stored.subject async for stored in own_bus.read("EVENTS")])
    assert len(kinds) == 4 * len(ids)
    assert set(kinds.values()) == {1}


async def test_without_a_server_an_append_ends_in_time_and_says_that_nothing_was_sent(
    own_server: OwnServer, own_bus: Bus
) -> None:
    await own_server.kill()
    while own_bus.connected:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    with pytest.raises(BusUnreachable, match="nothing was stored"):
        await own_bus.append(**place("late"), body=b"", message_id="m", expected_sequence=0, timeout_s=0.5)
    assert 0.4 < time.monotonic() - began < 10, "far less than appends wait where nothing is asked for"
    await own_server.start()
    assert await own_bus.history(place("late")["fence"], place("late")["subject"], timeout_s=60) == []


async def test_closing_the_bus_ends_what_waits(own_server: OwnServer, own_bus: Bus) -> None:
    await own_server.kill()
    waiting = asyncio.create_task(own_bus.append(**place("x"), body=b"", message_id="m", expected_sequence=0))
    await asyncio.sleep(0.05)
    await own_bus.close()
    with pytest.raises(BusClosed):
        await asyncio.wait_for(waiting, 180)
