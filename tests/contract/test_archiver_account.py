"""An archiver with the very permissions of `deploy/nats` does all its work, and appends nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import CredentialRefused, NotPermitted
from cutor.bus.letting_go import PurgeDenied, let_go
from cutor.bus.topology import apply, default_text, parse
from cutor.config import Config
from cutor.model.codec import encode
from cutor.model.events import Cancelled
from cutor.model.subjects import STACK
from cutor.process.context import RoleContext
from cutor.process.measures import Measures
from cutor.projections.archive.archiver import Rounds, run_archiver
from cutor.projections.archive.belonging import SUBJECT
from cutor.projections.archive.measuring import Sealed
from cutor.projections.archive.place import Archive
from cutor.projections.archive.retention import expire, plan
from cutor.projections.archive.sealing import STREAMS, Cut, seal
from cutor.projections.archive.verification import verify
from cutor.projections.settings import ArchiveSettings
from tests import commands
from tests.contract.test_deploy_login import DEPLOYED, HOST, serving
from tests.integration.projecting import happen
from tests.nats_server import TENANTS
from tests.unit.histories import RUNNING

WANTED = parse(default_text().replace("duplicate_window: 5m", "duplicate_window: 100ms"), TENANTS)
AGE_S = 0.3
BEFORE = "users.conf of before archives had marks"


class Addresses(NamedTuple):
    """Who sets up, who submits and cancels, and who archives."""

    admin: str
    operator: str
    archiver: str


@pytest.fixture(params=["single.conf", "users.conf"])
async def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Addresses]:
    """A server with one of the configurations; its log is `nats.log`."""
    directory = shutil.copytree(DEPLOYED, tmp_path / "nats", ignore=shutil.ignore_patterns("secrets", "store"))
    await asyncio.to_thread(
        subprocess.run, [directory / "cluster" / "make-secrets", "--plain"], check=True, capture_output=True
    )
    name = "users.conf" if request.param == BEFORE else request.param
    if request.param == BEFORE:
        accounts = directory / "cluster" / "accounts.conf"
        lines = accounts.read_text().splitlines()
        before = [line for line in lines if '"cutor.stack.archive.*"' not in line]
        assert len(before) == len(lines) - 1
        accounts.write_text("\n".join(before))
    file = directory / name
    file.write_text(file.read_text() + f'\nlog_file: "{tmp_path / "nats.log"}"\n')
    async with serving(directory, name) as port:
        if name == "single.conf":
            yield Addresses(*[f"nats://cutor:word@{HOST}:{port}"] * 3)
        else:
            texts = [(directory / "cluster" / "secrets" / f"{user}.url").read_text().strip() for user in Addresses._fields]
            yield Addresses(*(text.replace(":4222", f":{port}") for text in texts))


async def test_it_seals_verifies_and_lets_go(addresses: Addresses, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    async with Bus.connect(addresses.admin, name="test") as bus:
        await apply(bus, WANTED)
    async with Bus.connect(addresses.operator, name="test") as bus:
        for number in range(3):
            await happen(bus, f"s{number}", RUNNING[0], Cancelled())
    async with Bus.connect(addresses.archiver, name="test") as bus:
        with archive.held():
            for stream in STREAMS:
                await seal(bus, archive, stream, Cut().everything())
        assert (await verify(archive, "EVENTS", bus, everything=True))[1:] == (1, 6, 6, [])
        async with asyncio.timeout(180):
            while (expiry := await plan(bus, archive, AGE_S)).last < 5:
                await asyncio.sleep(0.05)
        assert await expire(addresses.archiver, bus, archive, expiry) == 6, "the last one that is sealed stays"
        settings = ArchiveSettings(directory=str(archive.directory), retain_days=1, retain_bodies_days=1)
        assert await Rounds(addresses.archiver, bus, archive, settings, Sealed(Measures())).one() == ()
    assert await told_mark(addresses) == archive.mark() is not None
    ready, stop = asyncio.Event(), asyncio.Event()
    config = Config(archive=ArchiveSettings(directory=str(archive.directory), retain_days=1))
    context = RoleContext(server=addresses.archiver, instance="test", worker="a", config=config, ready=ready.set, stop=stop)
    work = asyncio.create_task(run_archiver(context))
    await ready.wait()
    stop.set()
    await work
    assert "Violation" not in (tmp_path / "nats.log").read_text()


async def told_mark(addresses: Addresses) -> str | None:
    """The mark that the stack knows of its only archive."""
    async with Bus.connect(addresses.admin, name="test") as bus:
        stored = await bus.last(STACK, f"{SUBJECT}.*", consistent=True)
        return stored.body.decode() if stored is not None else None


@pytest.mark.parametrize("addresses", [BEFORE], indirect=True)
async def test_with_an_older_file_it_works_and_says_once_what_it_cannot_notice(
    addresses: Addresses, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, said = Archive(tmp_path / "archive"), "cutor.stack.archive."
    async with Bus.connect(addresses.admin, name="test") as bus:
        await apply(bus, WANTED)
    async with Bus.connect(addresses.operator, name="test") as bus:
        await happen(bus, "s", RUNNING[0], Cancelled())
    async with Bus.connect(addresses.archiver, name="test") as bus:
        rounds = Rounds(addresses.archiver, bus, archive, ArchiveSettings(directory=str(archive.directory)), Sealed(Measures()))
        assert [await rounds.one(), await rounds.one()] == [(), ()]
    assert await told_mark(addresses) is None
    [warned] = [one for one in caplog.records if said in one.getMessage()]
    assert (warned.levelname, "will not be noticed" in warned.getMessage()) == ("WARNING", True)
    command = ["archive", "seal", "--all", "--directory", str(archive.directory), "--server", addresses.archiver, "--json"]
    done = await asyncio.to_thread(commands.run, command, os.environ, timeout_s=240)
    assert (done.returncode, json.loads(done.stdout)["hindered"]) == (0, {})
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("cutor: warning: ")
    assert said in line


@pytest.mark.parametrize("addresses", ["users.conf"], indirect=True)
async def test_it_appends_no_event_and_changes_no_stream(addresses: Addresses) -> None:
    async with Bus.connect(addresses.admin, name="test") as bus:
        await apply(bus, WANTED)
    async with Bus.connect(addresses.archiver, name="test") as bus:
        for subject in ("cutor.ev.default.x.cancelled", "cutor.env.key", "cutor.stack.policy"):
            with pytest.raises(NotPermitted):
                await bus.publish(subject, encode(Cancelled()))
        for request in (
            "STREAM.UPDATE.EVENTS",
            "STREAM.DELETE.EVENTS",
            "STREAM.PURGE.ENVIRONMENTS",
            "STREAM.MSG.DELETE.EVENTS",
        ):
            with pytest.raises(NotPermitted):
                await bus.api.call("mistake", f"STREAM.{request}", {})


async def test_a_server_of_before_without_the_user_that_may_purge_is_told_of(tmp_path: Path) -> None:
    directory = shutil.copytree(DEPLOYED, tmp_path / "nats", ignore=shutil.ignore_patterns("secrets", "store"))
    file = directory / "single.conf"
    file.write_text(file.read_text().replace("cutor-retention", "somebody"))
    async with serving(directory, "single.conf") as port:
        address = f"nats://cutor:word@{HOST}:{port}"
        with pytest.raises(PurgeDenied, match="knows no user 'cutor-retention' with the password of 'cutor'") as denied:
            await let_go(address, "EVENTS", 3, created="")
        assert "word" not in str(denied.value).replace("password", "")
        with pytest.raises(CredentialRefused, match="are user and password right"):
            await let_go(address.replace("cutor:word", "nobody:word"), "EVENTS", 3, created="")
