"""Dead letters on a real server: one about every message that is no event, whatever is killed, missing, forged or made anew."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.message import Stored
from cutor.logs import JsonFormatter
from cutor.model.codec import encode
from cutor.model.events import Cancelled
from cutor.model.letters import Letter, read_letter
from cutor.model.subjects import DEADLETTERS, ENVIRONMENTS, EVENTS, Address, letter_subject, parse_event_subject
from cutor.projections.letters import TOLD_AT_MOST
from cutor.projections.queries.client import query
from tests.garbage import MIB, garbage
from tests.integration.projecting import FINISHED, PATIENCE_S, happen, happen_to_many, projector, until
from tests.integration.test_projections_projector import differences, projector_process
from tests.nats_server import OwnServer, apply_streams, apply_streams_but
from tests.ports import free_port
from tests.raw_nats import pub, send_raw

ENDED = Address("default", "ended")


async def count_of(bus: Bus, stream: str = DEADLETTERS) -> int:
    return int((await bus.stream_info(stream))["state"]["messages"])


async def until_letters(bus: Bus, wanted: int) -> None:
    """Wait until there are so many letters, and not one more."""
    deadline = time.monotonic() + 3 * PATIENCE_S
    while (found := await count_of(bus)) != wanted:
        assert found < wanted, f"{found} letters, not {wanted}"
        assert time.monotonic() < deadline, f"{found} letters, not {wanted}"
        await asyncio.sleep(0.05)


async def letters(bus: Bus) -> list[tuple[Letter, Stored]]:
    """Return every letter with the message that it is."""
    found = []
    async for stored in bus.read(DEADLETTERS):
        letter = read_letter(stored.headers)
        assert letter is not None, stored
        assert stored.subject == letter_subject(letter.stream, letter.sequence)
        found.append((letter, stored))
    return found


async def publish(server: OwnServer, frames: Sequence[bytes]) -> None:
    await send_raw(server.url, *frames)


async def test_every_kind_of_garbage_has_its_letter(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between and under normal histories; the views equal those of a rebuild, and that one sends no letter again."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(caplog.handler, "formatter", JsonFormatter({}))
    wanted = garbage(random.Random(4), ENDED)
    database, rebuilt = tmp_path / "views.duckdb", tmp_path / "rebuilt.duckdb"
    await happen(own_bus, ENDED.id, *FINISHED)
    async with projector(own_server.url, database):
        for start in range(0, len(wanted), 20):
            await asyncio.gather(
                publish(own_server, [one.frame for one in wanted[start : start + 20]]), happen_to_many(own_bus, 5, f"n{start}-")
            )
        await until_letters(own_bus, len(wanted))
        counts = "SELECT stream, count(*) FROM dead_letters GROUP BY ALL ORDER BY ALL"
        by_stream = [[stream, sum(one.stream == stream for one in wanted)] for stream in (ENVIRONMENTS, EVENTS)]
        assert (await query(own_bus, counts)).rows == by_stream
        normal = "SELECT count(*) FROM submissions WHERE outcome = 'WRONG_ANSWER' AND strays = 0 AND cleaned_at IS NOT NULL"
        await until(own_bus, normal, 5 * len(range(0, len(wanted), 20)))
        in_view = {
            (row[0], row[1]): row[2] for row in (await query(own_bus, "SELECT stream, sequence, reason FROM dead_letters")).rows
        }
    found = await letters(own_bus)
    assert {(letter.stream, letter.sequence): letter.reason for letter, _ in found} == in_view
    for letter, stored in found:
        original = await own_bus.get(letter.stream, letter.sequence)
        assert original is not None
        assert (stored.body, letter.size_bytes, letter.truncated) == (original.body, len(original.body), False)
        assert (letter.subject, letter.message_id) == (original.subject, original.message_id)
        assert letter.reason.isprintable()
    told = sum(min(count, TOLD_AT_MOST) for _, count in by_stream)
    lines = [
        document for document in map(json.loads, caplog.text.splitlines()) if document["message"].startswith("dead letter: ")
    ]
    assert len(lines) == told, "the first of each stream have a line each"
    for document in lines:
        _, _, stream, sequence, subject, *_ = document["message"].split(" ")
        event = parse_event_subject(subject[1:-2])
        about = (None, None) if event is None else (event.address.id, event.kind)
        assert (document.get("submission"), document.get("event")) == about, document
        assert (document["sequence"], stream) == (int(sequence), stream)
    last = (await own_bus.stream_info(DEADLETTERS))["state"]["last_seq"]
    async with projector(own_server.url, rebuilt):
        await until(
            own_bus, counts.replace("stream, count(*)", "count(*)").replace(" GROUP BY ALL ORDER BY ALL", ""), len(wanted)
        )
        await own_bus.publish("cutor.ev.x", b"one more")
        await until_letters(own_bus, len(wanted) + 1)
    assert (await own_bus.stream_info(DEADLETTERS))["state"]["last_seq"] == last + 1
    async with projector(own_server.url, database):
        await until(own_bus, "SELECT max(sequence) FROM events", int((await own_bus.stream_info(EVENTS))["state"]["last_seq"]))
    assert set(differences(database, rebuilt).values()) == {0}


async def test_a_projector_that_is_killed_over_and_over_writes_each_letter_once(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    frames = [pub(b"cutor.ev.default.k.%d" % number, b"garbage") for number in range(3000)]
    flood = asyncio.create_task(publish(own_server, frames))
    for number in range(5):
        database = tmp_path / f"views-{number % 2}.duckdb"  # every other one is behind, and catches up
        async with projector_process(own_server.url, database) as process:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 3 * PATIENCE_S) == b"ready\n"
            await asyncio.sleep(random.uniform(0.1, 0.6))
            process.send_signal(signal.SIGKILL)
    await flood
    async with projector(own_server.url, tmp_path / "last.duckdb"):
        await until_letters(own_bus, len(frames))
    state = (await own_bus.stream_info(DEADLETTERS))["state"]
    assert (state["messages"], state["last_seq"]) == (len(frames), len(frames)), "none was written twice"
    assert sorted(letter.sequence for letter, _ in await letters(own_bus)) == list(range(1, len(frames) + 1))


async def test_without_the_stream_the_views_go_on_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.projections.letters.RETRY_S", 0.1)
    server = await EmbeddedServer.start(tmp_path / "nats", port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as bus:
        await apply_streams_but(server.url, DEADLETTERS)
        async with projector(server.url, tmp_path / "views.duckdb"):
            for number in range(1, 6):
                await bus.publish("cutor.ev.x", b"garbage")
                await until(bus, "SELECT count(*) FROM dead_letters WHERE reason = 'not the subject of an event'", number)
                await asyncio.sleep(0.15)
            assert caplog.text.count("EVENTS: dead letters cannot be written, the view dead_letters has them: ") == 1
            assert "run `cutor streams apply`" in caplog.text
            await apply_streams(server.url)
            await until_letters(bus, 5)


async def test_a_server_that_went_away_is_waited_for(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await publish(own_server, [pub(b"cutor.ev.x", b"%d" % number) for number in range(400)])
        await own_server.kill()
        await own_server.start()
        await own_bus.publish("cutor.ev.x", b"after")
        await until_letters(own_bus, int((await own_bus.stream_info(EVENTS))["state"]["messages"]))


async def test_what_is_too_large_for_a_letter_is_cut(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    body = random.Random(1).randbytes(8 * MIB)
    await publish(own_server, [pub(b"cutor.ev.x", body)])
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await until_letters(own_bus, 1)
    [(letter, stored)] = await letters(own_bus)
    assert (letter.truncated, letter.size_bytes) == (True, len(body))
    assert body.startswith(stored.body)
    assert len(stored.body) > 8 * MIB - 4096


async def test_a_flood_pushes_out_old_letters_and_waits_for_nothing(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    """In a stream of a few MiB: the newest letters are there, the views have all, and a rebuild brings none back."""
    config = (await own_bus.stream_info(DEADLETTERS))["config"] | {"max_bytes": 4 * MIB}
    await own_bus.api.call("smaller", f"STREAM.UPDATE.{DEADLETTERS}", config)
    await publish(own_server, [pub(b"cutor.ev.x", b"\xff" * 100_000) for _ in range(200)])
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await until(own_bus, "SELECT count(*) FROM dead_letters", 200)
        deadline = time.monotonic() + PATIENCE_S
        while (await own_bus.stream_info(DEADLETTERS))["state"]["last_seq"] < 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    left = await letters(own_bus)
    assert 0 < len(left) < 60
    assert max(letter.sequence for letter, _ in left) == 200
    async with projector(own_server.url, tmp_path / "anew.duckdb"):
        await own_bus.publish("cutor.ev.x", b"later")
        await until(own_bus, "SELECT count(*) FROM dead_letters", 201)
        while not await own_bus.last(DEADLETTERS, letter_subject(EVENTS, 201)):
            assert time.monotonic() < deadline + PATIENCE_S
            await asyncio.sleep(0.05)
    assert min(letter.sequence for letter, _ in await letters(own_bus)) >= min(letter.sequence for letter, _ in left)


FORGED = {"Cutor-Stream": "EVENTS", "Cutor-Sequence": "9", "Cutor-Subject": "x", "Cutor-Time": "t", "Cutor-Reason": "r"}


@pytest.mark.parametrize(
    ("subject", "headers"),
    [
        (letter_subject(EVENTS, 99_999), FORGED | {"Cutor-Complete-To": "99999"}),
        (letter_subject(EVENTS, 99_999), FORGED | {"Cutor-Complete-To": "\\ud800"}),
        (letter_subject(EVENTS, "x"), {}),
        (letter_subject(EVENTS, ">"), {}),
        (letter_subject("EVENTS.1", "x"), {}),
    ],
)
async def test_a_forged_letter_keeps_none_away(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, subject: str, headers: dict[str, str]
) -> None:
    await own_bus.append_once(subject, b"forged", headers=headers)
    await publish(own_server, [pub(b"cutor.ev.x", b"%d" % number) for number in range(5)])
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await until_letters(own_bus, 1 + 5)


async def test_normal_work_leaves_no_letters(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await happen_to_many(own_bus, 50, "n")
        await own_bus.publish("cutor.ev.default.n0.cancelled", encode(Cancelled(reason="too late")))
        await until_letters(own_bus, 1)
    [(letter, stored)] = await letters(own_bus)
    assert (letter.reason, stored.body) == ("cancelled where the submission is FINISHED", encode(Cancelled(reason="too late")))
