"""An archiver with the very permissions of `deploy/nats` does all its work, and appends nothing."""

from __future__ import annotations

import asyncio
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
from cutor.projections.archive.archiver import run_archiver
from cutor.projections.archive.place import Archive
from cutor.projections.archive.retention import expire, plan
from cutor.projections.archive.sealing import STREAMS, Cut, seal
from cutor.projections.archive.verification import verify
from cutor.projections.settings import ArchiveSettings
from cutor.roles.context import RoleContext
from tests.contract.test_deploy_login import DEPLOYED, HOST, serving
from tests.integration.projecting import happen
from tests.nats_server import TENANTS
from tests.unit.histories import RUNNING

WANTED = parse(default_text().replace("duplicate_window: 5m", "duplicate_window: 100ms"), TENANTS)
AGE_S = 0.3


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
    file = directory / request.param
    file.write_text(file.read_text() + f'\nlog_file: "{tmp_path / "nats.log"}"\n')
    async with serving(directory, request.param) as port:
        if request.param == "single.conf":
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
        async with asyncio.timeout(60):
            while (expiry := await plan(bus, archive, AGE_S)).last < 5:
                await asyncio.sleep(0.05)
        assert await expire(addresses.archiver, bus, archive, expiry) == 6, "the last one that is sealed stays"
    ready, stop = asyncio.Event(), asyncio.Event()
    config = Config(archive=ArchiveSettings(directory=str(archive.directory), retain_days=1))
    context = RoleContext(server=addresses.archiver, instance="test", worker="a", config=config, ready=ready.set, stop=stop)
    work = asyncio.create_task(run_archiver(context))
    await ready.wait()
    stop.set()
    await work
    assert "Violation" not in (tmp_path / "nats.log").read_text()


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
