"""What a role process knows of environments: kept until anything happens under the key, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import NotPermitted
from cutor.journal.environments import Environments, Known
from cutor.journal.journal import Journal
from cutor.model.environments import EnvironmentRemoved, pack_variables
from cutor.roles import standing as module
from cutor.roles.standing import Standing
from tests.nats_server import OwnServer
from tests.reads import Reads
from tests.scripted_roles import PATIENCE_S
from tests.unit.test_environments import BUILT

VARIABLES = ((b"A", b"1"), (b"B", b"two\nlines"))


@pytest.fixture
async def other(own_server: OwnServer, own_bus: Bus) -> AsyncIterator[Environments]:
    """Somebody else, over a connection of his own."""
    async with Bus.connect(own_server.url, name="other") as bus:
        yield Environments(bus)


async def built(environments: Environments, key: str = "k") -> None:
    journal = Journal(environments._bus)
    variables = await journal.contents.pack(pack_variables(VARIABLES))
    await environments.append_built(msgspec.structs.replace(BUILT, key=key, variables=variables))


async def kept(standing: Standing, bus: Bus, reads: Reads, key: str = "k") -> Known:
    """Wait until a key is found without a read."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            before = reads.requests
            known = await standing.find(bus, key)
            assert known is not None
            if reads.requests == before:
                return known
            await asyncio.sleep(0.01)


async def gone(standing: Standing, bus: Bus, key: str = "k") -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await standing.find(bus, key) is not None:
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _settles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLES_S", 0.1)
    monkeypatch.setattr(module, "LASTS_S", 2 * PATIENCE_S)  # nothing ends by itself


async def test_what_stands_is_asked_for_once_until_something_happens(
    own_bus: Bus, other: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing, reads = Standing(), Reads(own_bus, monkeypatch)
    await built(other)
    async with standing.following(Journal(own_bus)):
        known = await kept(standing, own_bus, reads)
        before = reads.requests
        assert await standing.find(own_bus, "k", anew=True) == known
        assert reads.requests > before, "asked anew"
        await other.append_removed(EnvironmentRemoved(key="k", reason="r"), "w")
        await gone(standing, own_bus)
        await built(other)
        assert (await kept(standing, own_bus, reads)).sequence > known.sequence


async def test_that_none_stands_is_not_kept(own_bus: Bus, other: Environments) -> None:
    standing = Standing()
    async with standing.following(Journal(own_bus)):
        assert await standing.find(own_bus, "k") is None
        await built(other)
        assert await standing.find(own_bus, "k") is not None


async def test_variables_are_decoded_once(own_bus: Bus, other: Environments, monkeypatch: pytest.MonkeyPatch) -> None:
    standing, journal = Standing(), Journal(own_bus)
    await built(other)
    async with standing.following(journal):
        known = await kept(standing, own_bus, Reads(own_bus, monkeypatch))
        first = await standing.variables(journal, known.built)
        assert first == VARIABLES
        assert await standing.variables(journal, known.built) is first
    assert await standing.variables(journal, known.built) == VARIABLES, "from what is not kept any more"


async def test_what_is_asked_just_behind_a_notice_is_not_kept(
    own_bus: Bus, other: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream may not have stored what the notice tells of."""
    monkeypatch.setattr(module, "SETTLES_S", 2 * PATIENCE_S)
    standing, reads = Standing(), Reads(own_bus, monkeypatch)
    async with standing.following(Journal(own_bus)):
        await built(other)
        async with asyncio.timeout(PATIENCE_S):
            while not standing.heard:
                await asyncio.sleep(0.01)
        for expected in (1, 2, 3):
            assert await standing.find(own_bus, "k") is not None
            assert reads.requests == expected


async def test_with_many_keys_at_once_none_is_kept_too_early(
    own_bus: Bus, other: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    monkeypatch.setattr(module, "SETTLES_S", 2 * PATIENCE_S)
    standing, reads = Standing(), Reads(own_bus, monkeypatch)
    async with standing.following(Journal(own_bus)):
        for number in range(4):
            await built(other, f"k{number}")
        async with asyncio.timeout(PATIENCE_S):
            while standing.heard < 4:
                await asyncio.sleep(0.01)
        for expected in (1, 2):
            assert await standing.find(own_bus, "k0") is not None, "whose notice is the earliest"
            assert reads.requests == expected


async def test_nothing_is_kept_where_nobody_listens(own_bus: Bus, other: Environments, monkeypatch: pytest.MonkeyPatch) -> None:
    standing, reads = Standing(), Reads(own_bus, monkeypatch)
    await built(other)
    for expected in (1, 2):
        assert await standing.find(own_bus, "k") is not None
        assert reads.requests == expected


async def test_with_the_connection_all_is_forgotten(
    own_server: OwnServer, own_bus: Bus, other: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing, reads = Standing(), Reads(own_bus, monkeypatch)
    await built(other)
    async with standing.following(Journal(own_bus)):
        await kept(standing, own_bus, reads)
        await own_server.kill()
        async with asyncio.timeout(PATIENCE_S):
            while own_bus.connected:
                await asyncio.sleep(0.01)
        await own_server.start()
        before = reads.requests
        assert await standing.find(own_bus, "k") is not None
        assert reads.requests > before


async def test_who_may_not_listen_keeps_nothing_and_goes_on(
    own_bus: Bus, other: Environments, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_some: object, **_more: object) -> None:
        raise NotPermitted("the server does not let the user 'runner' listen there")

    monkeypatch.setattr(own_bus, "subscribe", refused)
    standing, reads = Standing(), Reads(own_bus, monkeypatch)
    await built(other)
    async with standing.following(Journal(own_bus)):
        for expected in (1, 2):
            assert await standing.find(own_bus, "k") is not None
            assert reads.requests == expected
    assert "environments are asked for each time" in caplog.text
