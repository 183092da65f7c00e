"""Re-judging of what retention took: hundreds of submissions whose events and contents are in the archive alone, once each."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.letting_go import let_go as purge
from cutor.bus.topology import apply
from cutor.journal.journal import Journal
from cutor.journal.parked import ParkedSubmissions
from cutor.journal.stack_policy import publish_policy
from cutor.model.events import Finished, Parked
from cutor.model.limits import Policy
from cutor.model.rejudgement import Rejudged
from cutor.model.subjects import BODIES, EVENTS, Address
from cutor.operations.rejudging import Rejudging
from cutor.projections.archive.sealed import Sealed
from tests.bare_stack import one_line
from tests.integration.letting_go import BRIEF, let_go, seal_everything
from tests.integration.projecting import happen, projector, until
from tests.nats_server import OwnServer
from tests.scripted_roles import request
from tests.unit.histories import lease, leased

MANY = 300
LARGE = "#" * 100_000


class Past:
    """A server that has judged many, and has let go of all of it."""

    def __init__(self, server: OwnServer, bus: Bus, directory: Path) -> None:
        self.server = server
        self.bus = bus
        self.archive = directory / "archive"
        self.config = directory / "cutor.toml"
        self.config.write_text(f'[archive]\ndirectory = "{self.archive}"\n')

    async def judge(self, *names: str, run: str = "true") -> None:
        journal = Journal(self.bus)
        for name in names:
            state = await journal.submit(request(name, run))
            done = Finished(lease=lease("builder"), outcome="DEPENDENCY_ERROR")
            await happen(self.bus, name, leased("builder"), done, after=state.last_sequence)

    async def forget(self) -> None:
        await seal_everything(self.bus, self.archive)
        await let_go(self.bus, EVENTS, BODIES)

    def command(self, *args: str, config: str | None = None) -> list[str]:
        named = ("--server", self.server.url, "--config", config or str(self.config))
        return [sys.executable, "-m", "cutor", *args, *named]

    async def cutor(self, *args: str, config: str | None = None) -> subprocess.CompletedProcess[str]:
        command = self.command(*args, config=config)
        return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=100, check=False)

    async def handed_in(self) -> list[str]:
        """Return the ids of all re-judged submissions that the stream has, one for each ``submitted``."""
        reading = self.bus.read(EVENTS, filter="cutor.ev.*.*.submitted")
        return [one.subject.split(".")[3] async for one in reading if "-rejudge-" in one.subject]


@pytest.fixture
async def past(tmp_path: Path) -> AsyncIterator[Past]:
    server = OwnServer(tmp_path / "nats")
    await server.start()
    try:
        async with Bus.connect(server.url, name="test") as bus:
            await apply(bus, BRIEF)
            await publish_policy(bus, Policy())
            yield Past(server, bus, tmp_path)
    finally:
        await server.kill()


async def test_hundreds_are_judged_again_once_each_through_an_interruption(past: Past, tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(MANY)]
    await asyncio.gather(*(past.judge(*names[start::8], run=LARGE if start == 0 else "true") for start in range(8)))
    async with projector(past.server.url, tmp_path / "views.duckdb"):
        await until(past.bus, "SELECT count(*) FROM submissions WHERE status = 'FINISHED'", MANY)
        await past.forget()
        chosen = ("rejudge", "--where", "caused_by is null", "--name", "n", "--json")
        planned = json.loads((await past.cutor(*chosen)).stdout)
        assert planned["counts"] == {"planned": MANY}
        running = await asyncio.create_subprocess_exec(*past.command(*chosen, "--yes"), stdout=subprocess.PIPE)
        while len(await past.handed_in()) < 50:
            assert running.returncode is None
        running.send_signal(signal.SIGINT)
        output, _ = await running.communicate()
        assert running.returncode == 130
        assert json.loads(output)["counts"]["submitted"] >= 50 - 8, "eight are under way"
        done = json.loads((await past.cutor(*chosen, "--yes")).stdout)["counts"]
        assert set(done) == {"before", "submitted"}
        assert sum(done.values()) == MANY
        assert done["before"] >= 50
        handed_in = await past.handed_in()
        assert sorted(handed_in) == sorted(f"{name}-rejudge-n" for name in names), "none twice, and none left out"
        journal = Journal(past.bus)
        for name in (names[0], names[-1]):
            new = await journal.known(Address("default", f"{name}-rejudge-n"))
            assert new.caused_by == name
            loaded = await journal.contents.load_request(new.address, new.request)
            assert loaded.files["cutor-run.sh"].decode() == (LARGE if name == "s0" else "true")
        await past.forget()
        again = json.loads((await past.cutor(*chosen, "--yes")).stdout)
        assert again["counts"] == {"before": MANY}, "also when the new ones have gone, too"
        assert await past.handed_in() == []


async def rejudge(past: Past, name: str, *ids: str, sealed: bool = True) -> dict[str, Any]:
    journal = Journal(past.bus, sealed=Sealed(past.archive if sealed else None))
    done: list[Rejudged] = []
    await Rejudging(journal, name).submit([Address("default", one) for one in ids], done.append)
    return {one.id: one for one in done}


async def test_a_life_of_which_the_stream_has_the_end_is_whole(past: Past) -> None:
    begun = await Journal(past.bus).submit(request("half"))
    leased_at = await happen(past.bus, "half", leased("builder"), after=begun.last_sequence)
    await seal_everything(past.bus, past.archive)
    created = str((await past.bus.stream_info(EVENTS))["created"])
    await purge(past.server.url, EVENTS, leased_at, created=created)
    assert (await rejudge(past, "n", "half"))["half"].why == "it has not ended yet"
    await happen(past.bus, "half", Finished(lease=lease("builder"), outcome="DEPENDENCY_ERROR"), after=leased_at)
    one = (await rejudge(past, "n", "half"))["half"]
    assert (one.action, one.outcome) == ("submitted", "DEPENDENCY_ERROR")


async def test_where_the_archive_is_not_it_is_said_and_nothing_is_handed_in(past: Past, tmp_path: Path) -> None:
    await past.judge("s", run=LARGE)
    await past.forget()
    assert "EVENTS begins at 4, and no archive is configured" in (await rejudge(past, "n", "s", sealed=False))["s"].why
    nowhere = tmp_path / "nowhere.toml"
    nowhere.write_text('[archive]\ndirectory = "/nonexistent/archive"\n')
    for command in (("status", "s"), ("rejudge", "s", "--yes")):
        there, lacking = await past.cutor(*command), await past.cutor(*command, config=str(nowhere))
        said = lacking.stdout + lacking.stderr
        assert there.returncode in (0, 1), there.stderr
        assert lacking.returncode == 2
        assert "/nonexistent/archive is not on this host" in " ".join(said.split())
    assert "is known: EVENTS begins at 4" in one_line(await past.cutor("status", "unknown", config=str(nowhere)), 2)
    assert len(await past.handed_in()) == 1
    for file in (past.archive / EVENTS).glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-9])
    assert str(past.archive) in one_line(await past.cutor("rejudge", "s", "--name", "m", "--yes"), 3)


async def test_what_another_submission_of_the_same_id_led_to_is_taken_for_nobodys(past: Past) -> None:
    """The first one is gone from the stream, its re-judging and retry are not; and the second one is of the same request."""
    await past.judge("s")
    assert (await rejudge(past, "n", "s", sealed=False))["s"].action == "submitted"
    journal = Journal(past.bus)
    parked = await journal.submit(request("p"))
    parks = (leased("builder"), Parked(role="builder", message="m", stage="dependencies"))
    await happen(past.bus, "p", *parks, after=parked.last_sequence)
    waiting = ParkedSubmissions(journal)
    first = (await waiting.retry(parked.address)).submission
    begun = (await journal.known(Address("default", first))).first_sequence
    await past.judge("z")
    await rejudge(past, "n", "z", sealed=False)
    created = str((await past.bus.stream_info(EVENTS))["created"])
    await purge(past.server.url, EVENTS, begun, created=created)
    again = await journal.submit(request("p"))
    await happen(past.bus, "p", *parks, after=again.last_sequence)
    assert (await waiting.retry(again.address)).submission == "p-r3"
    await purge(past.server.url, EVENTS, begun + 4, created=created)
    await past.judge("z")
    refused = (await rejudge(past, "n", "z", sealed=False))["z"]
    assert (refused.action, refused.why) == (
        "refused",
        "its new id 'z-rejudge-n' is taken by another submission: take another name",
    )
