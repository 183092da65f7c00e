"""Submissions are judged again: chosen by the views, handed in once each, and beside the old ones afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.catalogue import PURPOSES
from cutor.model.limits import Bounds, Policy
from cutor.model.rejudgement import Rejudged
from cutor.model.subjects import BODIES, EVENTS, Address
from cutor.operations.rejudging import Rejudging
from cutor.projections.errors import QueryError
from cutor.roles.step import LeasedStep
from tests import commands
from tests.bare_stack import one_line
from tests.integration.projecting import projector, until
from tests.nats_server import OwnServer
from tests.scripted_roles import end, request, role

HOSTILE = {"it's": 'a "label"; --', "$of_tenant": "') OR 1=1 --", "\u202e": "\U0001f600"}

REFUSED = (
    "1); DROP TABLE events; --",
    "",
    "id = 'x'; SELECT 1",
    "id IN (SELECT content FROM read_text('/etc/passwd'))",
    "FALSE) UNION ALL SELECT 'x.>', 'y' FROM events WHERE (TRUE",
)


class Court:
    """A stack with a builder that ends each submission as `verdict` says, and a projector."""

    def __init__(self, server: str, journal: Journal) -> None:
        self.server = server
        self.journal = journal
        self.verdict = "DEPENDENCY_ERROR"

    async def submit(self, *names: str, labels: dict[str, str] | None = None, run: str = "true") -> None:
        """Hand in submissions and wait for their end."""
        async with Client(self.server) as client:
            files = [{"name": "shell.nix", "content": "{}"}, {"name": "cutor-run.sh", "content": run}]
            document = {"files": files, "test_cases": [{}], "labels": labels or {}}
            await asyncio.gather(*(client.submit(document, id=name) for name in names))
            await asyncio.gather(*(client.result(name, wait=True, timeout_s=240) for name in names))

    async def work(self, leased: LeasedStep) -> None:
        if self.verdict == "none":
            await asyncio.Event().wait()
        await end(leased)

    async def rejudge(self, name: str, *ids: str, **chosen: Any) -> list[Rejudged]:
        rejudging = Rejudging(self.journal, name)
        addresses = [Address("default", one) for one in ids] or await rejudging.select(
            chosen.get("where"), chosen.get("labels", {}), chosen.get("tenant")
        )
        done: list[Rejudged] = []
        await (rejudging.plan if chosen.get("plan") else rejudging.submit)(addresses, done.append)
        return done

    async def projected(self) -> None:
        """Wait until the views hold the whole log."""
        last = int((await self.journal.bus.stream_info(EVENTS))["state"]["last_seq"])
        await until(self.journal.bus, "SELECT sequence >= " + str(last) + " FROM checkpoint WHERE stream = 'EVENTS'", True)

    async def cutor(self, *args: str) -> subprocess.CompletedProcess[str]:
        return await rejudge(self.server, *args)


async def rejudge(server: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command against a server."""
    command = ["rejudge", "--server", server, *args]
    return commands.decoded(await asyncio.to_thread(commands.run, command, os.environ, timeout_s=240))


@pytest.fixture
async def court(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> AsyncIterator[Court]:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    court = Court(own_server.url, journal)
    async with projector(own_server.url, tmp_path / "views.duckdb"), role(journal, court.work):
        yield court


def acted(done: list[Rejudged]) -> dict[str, str]:
    return {one.id: one.action for one in done}


async def test_what_is_chosen_is_handed_in_once_and_compared(court: Court) -> None:
    await court.submit("a1", "a2", labels={"course": "a"})
    await court.submit("b1", labels={"course": "b"} | HOSTILE)
    await court.projected()
    planned = await court.rejudge("n", labels={"course": "a"}, plan=True)
    assert acted(planned) == {"a1": "planned", "a2": "planned"}
    assert await court.journal.state(Address("default", "a1-rejudge-n")) is None, "a plan hands nothing in"
    assert acted(await court.rejudge("n", labels={"course": "a"})) == {"a1": "submitted", "a2": "submitted"}
    new = await court.journal.known(Address("default", "a1-rejudge-n"))
    old = await court.journal.known(Address("default", "a1"))
    assert (new.caused_by, new.request.labels) == ("a1", {"course": "a", "rejudge": "n"})
    assert new.request.files == old.request.files
    waited: list[Rejudged] = []
    await Rejudging(court.journal, "n").wait(await court.rejudge("n", "a1", "a2"), waited.append)
    assert {(one.id, one.action, one.outcome_after) for one in waited} == {
        (name, "before", "DEPENDENCY_ERROR") for name in ("a1", "a2")
    }
    await court.projected()
    again = await court.rejudge("n", where="outcome = 'DEPENDENCY_ERROR'")
    assert acted(again) == {"a1": "before", "a2": "before", "b1": "submitted"}, "its own submissions are not judged again"
    await until(court.journal.bus, "SELECT count(*) FROM rejudgements WHERE name = 'n' AND NOT changed", 3)
    labels = (await court.journal.known(Address("default", "b1-rejudge-n"))).request.labels
    assert labels == {"course": "b", "rejudge": "n"} | HOSTILE


async def test_what_was_handed_in_for_its_environment_alone_is_left_out(court: Court) -> None:
    """As `cutor env build` does it, with the labels of a course; a label of a user's own that is called so means nothing."""
    await court.submit("judged", labels={"course": "a"})
    await court.submit("own", labels={"course": "a", "cutor": "mine"})
    for purpose in PURPOSES:
        await court.submit(f"{purpose}-1", labels={"course": "a", "cutor": purpose})
    await court.projected()
    assert acted(await court.rejudge("n", labels={"course": "a"}, plan=True)) == {"judged": "planned", "own": "planned"}
    assert acted(await court.rejudge("n", where="TRUE", plan=True)) == {"judged": "planned", "own": "planned"}
    assert acted(await court.rejudge("n", "env-build-1", plan=True)) == {"env-build-1": "planned"}
    named = await court.rejudge("n", labels={"course": "a", "cutor": "env-build"}, plan=True)
    assert acted(named) == {"env-build-1": "planned"}


async def test_hostile_labels_and_conditions_choose_and_do_nothing_else(court: Court) -> None:
    await court.submit("plain")
    await court.submit("odd", labels=HOSTILE)
    await court.projected()
    rejudging = Rejudging(court.journal, "n")
    for key, value in HOSTILE.items():
        assert [one.id for one in await rejudging.select(None, {key: value}, None)] == ["odd"]
        assert await rejudging.select(None, {key: value + "x"}, None) == []
    assert await rejudging.select(None, HOSTILE, "x' OR 1=1 --") == []
    assert [one.id for one in await rejudging.select("id = 'odd' -- a comment", {}, None)] == ["odd"]
    for where in REFUSED:
        with pytest.raises(QueryError):
            await rejudging.select(where, {}, None)


async def test_what_cannot_be_judged_again_is_told_and_the_others_go_on(court: Court) -> None:
    await court.submit("good", "bodiless", "large")
    bus = court.journal.bus
    await court.journal.submit(request("taken-rejudge-n"))
    await court.submit("taken")
    await bus.publish("cutor.ev.default.unreadable.submitted", b"{}")
    big = "#" * 100_000
    await court.submit("spilled", run=big)
    await until_ended(court, "unreadable", "taken-rejudge-n")
    court.verdict = "none"
    await court.journal.submit(request("runs"))
    await remove_bodies(bus)
    ids = ("good", "unknown", "runs", "taken", "unreadable", "spilled")
    done = await court.rejudge("n", *ids)
    assert acted(done) == {
        "good": "submitted",
        "unknown": "refused",
        "runs": "skipped",
        "taken": "refused",
        "unreadable": "refused",
        "spilled": "refused",
    }
    why = {one.id: one.why or "" for one in done}
    assert "cutor-run.sh" in why["spilled"]
    assert "cannot be read" in why["unreadable"]
    assert "taken by another submission" in why["taken"]
    await publish_policy(court.journal.bus, Policy(bounds=Bounds(files=1)))
    [refused] = await court.rejudge("other", "good")
    assert (refused.action, refused.why) == ("refused", "files: 2 are more than the maximum of 1 files")


async def until_ended(court: Court, *names: str) -> None:
    async with Client(court.server) as client:
        for name in names:
            await client.result(name, wait=True, timeout_s=240)


async def remove_bodies(bus: Bus) -> None:
    """Empty BODIES, as an age limit does."""
    info = await bus.stream_info(BODIES)
    await bus.api.call(
        "set-up", f"STREAM.UPDATE.{BODIES}", info["config"] | {"max_age": 100_000_000, "duplicate_window": 100_000_000}
    )
    while (await bus.stream_info(BODIES))["state"]["messages"]:
        await asyncio.sleep(0.05)


async def test_an_interrupted_one_goes_on_without_doubles(court: Court) -> None:
    """It is broken off after each possible number of submissions; two go on at once."""
    names = [f"s{number}" for number in range(20)]
    await court.submit(*names)
    addresses = [Address("default", name) for name in names]

    class Broken(Exception):
        pass

    for stop_after in (1, 9):
        done: list[Rejudged] = []

        def tell(one: Rejudged, done: list[Rejudged] = done, stop_after: int = stop_after) -> None:
            done.append(one)
            if len(done) == stop_after:
                raise Broken

        with pytest.raises(Broken):
            await Rejudging(court.journal, "n").submit(addresses, tell)
    both = await asyncio.gather(*(court.rejudge("n", *names) for _ in range(2)))
    for done in both:
        assert {one.submission for one in done} == {f"{name}-rejudge-n" for name in names}
    subjects = [stored.subject async for stored in court.journal.bus.read(EVENTS, filter="cutor.ev.*.*.submitted")]
    assert len(subjects) == len(set(subjects)) == 2 * len(names)


async def test_the_command_says_first_and_does_with_yes(court: Court) -> None:
    await court.submit("one", "two", labels={"course": "a\x1b[31m"})
    await court.projected()
    said = await court.cutor("--where", "id IN ('one', 'two')", "--name", "n")
    assert said.returncode == 0, said.stderr
    assert "2 submissions would be handed in: DEPENDENCY_ERROR 2" in said.stdout
    assert "nothing is handed in yet: the same command with `--name n --yes` does it" in said.stdout
    assert "one-rejudge-n" in said.stdout
    done = await court.cutor("--label", "course=a\x1b[31m", "--name", "n", "--yes", "--wait", "--json")
    document = json.loads(done.stdout)
    assert (document["counts"], document["outcomes"], document["dry_run"]) == ({"submitted": 2}, {"DEPENDENCY_ERROR": 2}, False)
    assert [one["outcome_after"] for one in document["submissions"]] == ["DEPENDENCY_ERROR"] * 2
    once_more = await court.cutor("one", "two", "nobody", "--name", "n", "--yes")
    assert once_more.returncode == 2, "one that was named is refused"
    assert "2 submissions handed in before, under this name: DEPENDENCY_ERROR 2" in once_more.stdout
    assert "no such submission is known" in once_more.stdout
    nobody = await court.cutor("nobody", "--name", "n")
    assert (nobody.returncode, nobody.stdout.splitlines()[-1]) == (2, "nothing is handed in, with `--yes` neither")
    assert (await court.cutor("--label", "course=b")).stdout == "no submission is chosen\n"
    court.verdict = "none"
    late = await court.cutor("one", "--name", "late", "--yes", "--wait", "--timeout", "0.5")
    assert late.returncode == 4
    assert "1 of 1 have not ended within 0.5 s" in late.stderr


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("one", "--where", "1=1"),
        ("one", "--label", "a=b"),
        ("one", "--wait"),
        ("one", "--yes", "--timeout", "1"),
        ("one", "--name", "a'b"),
        ("one", "--tenant", "A"),
        ("a/b/c",),
        ("--label", "a"),
    ],
    ids=" ".join,
)
async def test_what_makes_no_sense_is_refused(args: tuple[str, ...]) -> None:
    one_line(await rejudge("nats://127.0.0.1:1", *args), 2)
