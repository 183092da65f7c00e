"""``cutor parked`` on a stack whose submissions stay queued: what it prints, its documents and exit codes."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.model.subjects import PARKED, Address, parked_subject
from tests.bare_stack import SOURCES, User, one_line
from tests.parking import park

REQUEST = {"files": [{"name": name, "content": content} for name, content in SOURCES.items()], "test_cases": [{}, {}]}


def parked(user: User, *, record: bytes | None = None, **more: Any) -> str:
    """Park a submission; returns its id. ``record`` is published where the decision about it would stand."""
    tenant = more.pop("tenant", "default")
    named = secrets.token_hex(8)

    async def act() -> None:
        async with Client(user.stack.server) as client:
            await park(client, REQUEST | {"tenant": tenant, "labels": {"b\x1b[31m": "c"}}, named=named, **more)
            if record is not None:
                await client.journal.bus.publish(parked_subject(Address(tenant, named)), record)

    asyncio.run(act())
    return named


def test_list_shows_what_is_undecided(bare: User) -> None:
    one = parked(bare, leases=2, message="no \x1b[31mroom")
    other = parked(bare, record=b"\xff")
    done = bare.cutor("parked", "list")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "no \\x1b[31mroom" in lines[one]
    assert "1 message in place of a record cannot be read" in lines[other]
    listed = {item["id"]: item for item in json.loads(bare.cutor("parked", "list", "--json").stdout)}
    assert listed[one]["reason"] == "no \x1b[31mroom"
    assert listed[one]["leases"] == {"builder": 2, "runner": 0}
    assert listed[one]["decision"] is None
    [newest] = json.loads(bare.cutor("parked", "list", "--limit", "1", "--json").stdout)
    assert newest["id"] == other
    assert "these are the newest 1; there are more: --limit N" in bare.cutor("parked", "list", "--limit", "1").stdout
    assert json.loads(bare.cutor("parked", "list", "--tenant", "nobody", "--json").stdout) == []
    assert bare.cutor("parked", "list", "--tenant", "nobody").stdout == "nothing is parked that somebody has to decide about\n"


def test_show_tells_everything(bare: User) -> None:
    one = parked(bare, leases=2, message="no room")
    shown = bare.cutor("parked", "show", one)
    assert shown.returncode == 0
    for said in (
        "PARKED",
        "dependencies  XX",
        "no room",
        "builder         2",
        "worker-2",
        "b\\x1b[31m=c",
        f"cutor parked retry {one}",
    ):
        assert said in shown.stdout, said
    document = json.loads(bare.cutor("parked", "show", one, "--json").stdout)
    assert [attempt["worker"] for attempt in document["attempts"]] == ["worker-1", "worker-2"]
    assert document["result"]["outcome"] == "PARKED"
    assert (document["parked"]["id"], document["retry"]) == (one, None)


def test_a_retry_prints_the_new_id_and_how_to_follow_it(bare: User) -> None:
    one = parked(bare)
    assert bare.cutor("parked", "retry", one, "--dry-run").stdout == f"{one} would be retried as {one}-r2\n"
    assert one_line(bare.cutor("status", f"{one}-r2"), 2)
    retried = bare.cutor("parked", "retry", one)
    assert retried.stdout == f"{one} is retried as {one}-r2: `cutor watch {one}-r2` follows it\n"
    again = bare.cutor("parked", "retry", one)
    assert (again.returncode, again.stdout) == (
        0,
        f"{one} was retried already, as {one}-r2: `cutor watch {one}-r2` follows it\n",
    )
    assert json.loads(bare.cutor("status", f"{one}-r2", "--json").stdout)["caused_by"] == one
    shown = bare.cutor("parked", "show", one).stdout
    assert f"as {one}-r2, which is SUBMITTED" in shown
    assert "cutor parked retry" not in shown
    assert f"was retried as {one}-r2" in one_line(bare.cutor("parked", "drop", one), 2)


def test_a_drop_is_remembered_with_its_reason(bare: User) -> None:
    one = parked(bare)
    assert bare.cutor("parked", "drop", one, "--reason", "over \x1b[1m").stdout == f"{one} is dropped\n"
    assert bare.cutor("parked", "drop", one).stdout == f"{one} was dropped already: over \\x1b[1m\n"
    [document] = json.loads(bare.cutor("parked", "drop", one, "--json").stdout)
    assert document["drop"] == {"id": one, "tenant": "default", "reason": "over \x1b[1m", "new": False}
    assert "was dropped at" in one_line(bare.cutor("parked", "retry", one), 2)
    assert one not in bare.cutor("parked", "list").stdout
    listed = {item["id"]: item for item in json.loads(bare.cutor("parked", "list", "--all", "--json").stdout)}
    assert (listed[one]["decision"]["action"], listed[one]["decision"]["reason"]) == ("dropped", "over \x1b[1m")
    assert "dropped" in bare.cutor("parked", "list", "--all", "--limit", "1000").stdout


def test_of_several_each_is_told_and_none_holds_up_the_next(bare: User) -> None:
    one, queued = parked(bare), secrets.token_hex(8)
    assert bare.cutor("submit", "-", "--id", queued, stdin=json.dumps(REQUEST).encode()).returncode == 0
    done = bare.cutor("parked", "retry", "nobody", queued, one, one)
    assert done.returncode == 2
    assert done.stdout == f"{one} is retried as {one}-r2: `cutor watch {one}-r2` follows it\n"
    assert done.stderr.splitlines() == [
        "cutor: no submission 'nobody' of the tenant 'default' is known",
        f"cutor: {queued} is not parked: `cutor status {queued}` shows where it stands",
    ]
    again = bare.cutor("parked", "retry", queued, one, "--json")
    refused, retried = json.loads(again.stdout)
    assert again.returncode == 2
    assert (refused["exit_code"], refused["retry"]) == (2, None)
    assert "is not parked" in refused["error"]
    assert retried["retry"] == {"id": one, "tenant": "default", "submission": f"{one}-r2", "new": False}


def test_all_that_is_undecided_is_retried_at_once(bare: User) -> None:
    ids = [parked(bare) for _ in range(3)]
    planned = bare.cutor("parked", "retry", "--all", "--dry-run").stdout
    assert all(f"{one} would be retried as {one}-r2" in planned for one in ids)
    done = bare.cutor("parked", "retry", "--all")
    assert done.returncode == 0, done.stderr
    told = [line.split()[0] for line in done.stdout.splitlines()]
    assert [one for one in told if one in ids] == ids, "the oldest first"
    assert bare.cutor("parked", "retry", "--all").stdout == "nothing is parked that somebody has to decide about\n"
    assert json.loads(bare.cutor("parked", "retry", "--all", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retry",), "which? name one ID or more, or give --all"),
        (("retry", "a", "--all"), "which? name one ID or more, or give --all"),
        (("drop",), "which? name one ID or more"),
        (("drop", "a", "--reason", "x" * 2000), "reason: 2000 bytes are more than the maximum of 1024 bytes"),
        (("show", "a b"), "id 'a b': it must be"),
        (("retry", "a", "--tenant", "No"), "tenant 'No': it must be"),
        (("list", "--tenant", "*"), "tenant '*': it must be"),
        (("list", "--limit", "0"), "0 is not in the range"),
        (("show", "nobody"), "no submission 'nobody'"),
        (("mend",), "No such command 'mend'"),
    ],
)
def test_bad_usage_is_one_line(bare: User, arguments: tuple[str, ...], said: str) -> None:
    assert said in one_line(bare.cutor("parked", *arguments), 2)


def test_every_command_has_examples(bare: User) -> None:
    for arguments in ((), ("list",), ("show",), ("retry",), ("drop",)):
        helped = bare.cutor("parked", *arguments, "--help")
        assert helped.returncode == 0
        assert "Examples:\n    cutor parked " in helped.stdout


async def room_for_records(user: User, count: int) -> None:
    """Let the stream of decisions take so many more, and refuse what comes then."""
    async with Bus.connect(user.stack.server, name="test") as bus:
        found = await bus.stream_info(PARKED)
        config = found["config"] | {"max_msgs": found["state"]["messages"] + count, "discard": "new"}
        await bus.api.call(f"stream {PARKED}", f"STREAM.UPDATE.{PARKED}", config)


def test_a_server_that_fails_on_the_way_does_not_take_the_report_with_it(user: User) -> None:
    assert user.up().returncode == 0
    assert "ok    parked          no submission waits for a decision" in user.cutor("doctor").stdout
    ids = [parked(user) for _ in range(5)]
    assert "warn  parked          5 submissions wait for a decision: `cutor parked list`" in user.cutor("doctor").stdout
    asyncio.run(room_for_records(user, 2))
    done = user.cutor("parked", "drop", *ids)
    assert done.returncode == 3
    assert done.stdout == f"{ids[0]} is dropped\n{ids[1]} is dropped\n"
    assert f"it may be done for {ids[2]} or not, and 2 more were not tried; the same command goes on" in done.stderr
    again = user.cutor("parked", "drop", *ids, "--json")
    assert again.returncode == 3
    *told, failed = json.loads(again.stdout)
    assert [(one["id"], one["drop"]["new"]) for one in told] == [(ids[0], False), (ids[1], False)]
    assert (failed["id"], failed["drop"], failed["exit_code"]) == (ids[2], None, 3)
    asyncio.run(room_for_records(user, 1))
    retried = user.cutor("parked", "retry", "--all", "--json")
    assert retried.returncode == 3
    assert [one["error"] is None for one in json.loads(retried.stdout)] == [True, False]
    assert f"it may be done for {ids[3]} or not, and 1 more was not tried" in retried.stderr
