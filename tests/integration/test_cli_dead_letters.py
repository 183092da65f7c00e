"""``cutor dead-letters`` and what doctor says of them, on a stack with a projector alone."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator

import pytest

from cutor.bus.connection import Bus
from cutor.model.subjects import letter_subject
from tests.bare_stack import User, one_line
from tests.raw_nats import pub, send_raw

PATIENCE_S = 180.0
FRAMES = (
    pub(b"cutor.ev.default.a.ran", b"\xff" * 1000),
    pub(b"cutor.ev.default.a\x1b[2J.cancelled", b'{"kind":"cancelled",\n"reason":"\x1b[31m"}\n' * 100),
    pub(b"cutor.env.k", b""),
    pub(b"cutor.ev.default.b.cancelled", b'{"kind":"cancelled"}'),
)


@pytest.fixture(scope="module")
def garbled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack into which somebody published what is no event, and something that is no letter."""
    user = User(tmp_path_factory.mktemp("garbled"))
    assert user.up(roles=("projector",)).returncode == 0
    try:
        empty = user.cutor("dead-letters", "list")
        assert (empty.returncode, empty.stdout) == (0, "no dead letters\n")
        assert "ok    dead letters    none" in user.cutor("doctor").stdout
        asyncio.run(send_raw(user.stack.server, *FRAMES))
        deadline = time.monotonic() + PATIENCE_S
        while len(json.loads(user.cutor("dead-letters", "list", "--json").stdout)) < len(FRAMES):
            assert time.monotonic() < deadline
        asyncio.run(forge(user))
        yield user
    finally:
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


async def forge(user: User) -> None:
    """Publish what is no letter where letters stand."""
    async with Bus.connect(user.stack.server, name="test") as bus:
        for subject in (letter_subject("EVENTS", 77), letter_subject("EVENTS", ">"), "cutor.dead.message.x"):
            await bus.publish(subject, b"\xff")


def test_list_shows_where_they_stand_and_why(garbled: User) -> None:
    done = garbled.cutor("dead-letters", "list")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.strip().startswith(("EVENTS", "ENVIRONMENTS"))]
    assert {(line[0], line[1]) for line in lines} == {("EVENTS", "1"), ("EVENTS", "2"), ("EVENTS", "3"), ("ENVIRONMENTS", "1")}
    for said in ("not UTF-8", "cancelled before submitted", "a\\x1b[2J", "Input data was truncated"):
        assert said in done.stdout
    assert "3 more there that are no letters" in done.stdout
    one, *_ = json.loads(garbled.cutor("dead-letters", "list", "--stream", "ENVIRONMENTS", "--json").stdout)
    assert (one["stream"], one["sequence"], one["subject"], one["size_bytes"]) == ("ENVIRONMENTS", 1, "cutor.env.k", 0)
    sequences = [
        item["sequence"] for item in json.loads(garbled.cutor("dead-letters", "list", "--stream", "EVENTS", "--json").stdout)
    ]
    assert sorted(sequences) == [1, 2, 3]
    assert len(json.loads(garbled.cutor("dead-letters", "list", "--limit", "4", "--json").stdout)) == 1, (
        "the newest three are none"
    )


def test_a_list_that_is_cut_off_says_so(garbled: User) -> None:
    """Three letters are about EVENTS, with two others that are none; one is about ENVIRONMENTS."""

    def last_line(*options: str) -> str:
        return garbled.cutor("dead-letters", "list", *options).stdout.splitlines()[-1]

    assert last_line("--limit", "2") == "these are the newest 2 of 7: --limit N shows them"
    assert last_line("--stream", "EVENTS", "--limit", "4") == (
        "these are the newest 4 about EVENTS; there are more: --limit N shows them"
    )
    assert "shows them" not in last_line("--stream", "EVENTS", "--limit", "5")
    assert "shows them" not in last_line("--stream", "ENVIRONMENTS", "--limit", "1")
    assert "shows them" not in last_line()


def test_show_tells_all_about_one(garbled: User) -> None:
    first = garbled.cutor("dead-letters", "show", "1").stdout
    assert "1 of EVENTS" in first
    assert "\\xff\\xff\\xff" in first
    assert len(first) < 4000
    second = garbled.cutor("dead-letters", "show", "2").stdout
    assert "subject     cutor.ev.default.a\\x1b[2J.cancelled" in second
    assert '    "reason":"\\x1b[31m"}' in second
    assert "180 lines below, 3,900 bytes in all" in second
    assert "\x1b" not in second
    document = json.loads(garbled.cutor("dead-letters", "show", "1", "--json").stdout)
    assert (document["reason"], document["body"]["encoding"]) == ("not UTF-8", "base64")
    assert base64.b64decode(document["body"]["data"]) == b"\xff" * 1000
    assert "complete_to" not in document
    assert "1 of ENVIRONMENTS" in garbled.cutor("dead-letters", "show", "1", "--stream", "ENVIRONMENTS").stdout


def test_doctor_warns_of_new_ones_and_the_views_have_them(garbled: User) -> None:
    assert "warn  dead letters    7 messages that are no events, have no place in the log" in garbled.cutor("doctor").stdout
    asked = garbled.cutor("query", "SELECT stream, count(*) FROM dead_letters GROUP BY ALL ORDER BY ALL", "--json")
    assert json.loads(asked.stdout)["rows"] == [["ENVIRONMENTS", 1], ["EVENTS", 3]]
    log = (garbled.stack.data / "log" / "projector.log").read_text()
    assert "dead letter: EVENTS 2 (cutor.ev.default.a\\x1b[2J.cancelled): not the subject of an event" in log


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "4711"), "there is no letter about message 4711 of EVENTS: `cutor dead-letters list`"),
        (("show", "77"), "what stands in its place is none"),
        (("show", "0"), "0 is not in the range"),
        (("show",), "Missing argument 'SEQUENCE'"),
        (("list", "--stream", "STACK"), "'STACK' is not one of"),
        (("list", "--limit", "0"), "0 is not in the range"),
    ],
)
def test_bad_usage_is_one_line(garbled: User, arguments: tuple[str, ...], said: str) -> None:
    assert said in one_line(garbled.cutor("dead-letters", *arguments), 2)
