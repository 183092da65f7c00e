"""Marks of environments that a runner uses: made once, shared, seen by collections in whatever order, and none is left."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineUnreachable
from cutor.containers.host_config import Identity, VolumeSpec, runner_spec
from cutor.containers.labels import ENVIRONMENT_LABEL, collection_labels
from cutor.nix.settings import NixSettings
from cutor.process.context import RoleContext
from cutor.roles import uses as uses_module
from cutor.roles.collections import keys_in_use, runs_in
from cutor.roles.step import StepFault
from cutor.roles.uses import Uses
from tests.child_image import IMAGE
from tests.integration.stage_support import RESOURCES, UID, connected

PATIENCE_S: Final = 180.0
FOREVER_S: Final = 10_000.0


class Site:
    """An engine, and the marks of a runner of its own, on a store volume that nobody has."""

    def __init__(self, engine: Engine, data: Path, *, collection_timeout_ms: int) -> None:
        self.engine = engine
        self.instance = f"uses-{secrets.token_hex(4)}"
        self.volume = f"no-store-{self.instance}"
        nix = NixSettings(
            image=IMAGE,
            store_volume=self.volume,
            var_volume=f"{self.volume}-var",
            collection_timeout_ms=collection_timeout_ms,
        )
        config = Config(nix=nix)
        self.context = RoleContext("", self.instance, "w1", config, lambda: None, asyncio.Event(), data=data)
        self.uses = Uses(engine, self.context)

    async def marks(self, *keys: str) -> set[str]:
        """Return the names of the marks that are there; of some keys alone, or of all."""
        return {one.name for one in await self.engine.marks(self.instance) if not keys or one.labels[ENVIRONMENT_LABEL] in keys}

    async def until_none(self, names: set[str]) -> None:
        """Wait until none of these marks is there."""
        async with asyncio.timeout(PATIENCE_S):
            while names & await self.marks():
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def collection(self, *keeps: str) -> AsyncIterator[None]:
        """Have the container of a collection while the block lasts, as others see it."""
        spec = runner_spec(Identity(self.instance, secrets.token_hex(6)), image=IMAGE, uid=UID + 30_000, resources=RESOURCES)
        spec.body["Labels"] |= collection_labels(self.volume, keeps)
        child = await self.engine.start(spec)
        try:
            yield
        finally:
            await child.remove()


@asynccontextmanager
async def site(data: Path, *, collection_timeout_ms: int = 600_000) -> AsyncIterator[Site]:
    """Nothing is left of it in the end, and nobody has to clean for that."""
    async with connected() as engine:
        made = Site(engine, data, collection_timeout_ms=collection_timeout_ms)
        async with made.uses.keeping():
            yield made
        assert await made.marks() == set()


def key() -> str:
    return secrets.token_hex(32)


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lingers does so for ever."""
    monkeypatch.setattr(uses_module, "LINGERS_S", FOREVER_S)


@pytest.mark.usefixtures("lingering")
async def test_one_mark_serves_all_who_come_while_it_stands(tmp_path: Path) -> None:
    one, other = key(), key()
    async with site(tmp_path) as at:
        with at.uses.of(one) as first, at.uses.of(one) as second, at.uses.of(other) as third:
            await asyncio.gather(first.stands(), second.stands(), third.stands())
            mark = await at.marks(one)
            assert (len(mark), len(await at.marks())) == (1, 2)
            assert await keys_in_use(at.engine, at.volume, {one}) == {one}
        with at.uses.of(one) as again:
            await again.stands()
            assert await at.marks(one) == mark


async def test_what_lingers_goes_and_who_asks_waits_for_that(tmp_path: Path) -> None:
    one = key()
    async with site(tmp_path) as at:
        with at.uses.of(one) as use:
            await use.stands()
            assert set((await runs_in(at.engine, at.volume)).values()) == {one}
        assert await keys_in_use(at.engine, at.volume) == set()
        with at.uses.of(one) as use:
            await use.stands()
            assert await keys_in_use(at.engine, at.volume) == {one}


async def foreseen(at: Site, one: str) -> set[str]:
    """Foresee a use, and return the mark that is made for it."""
    at.uses.foresee(one)
    async with asyncio.timeout(PATIENCE_S):
        while not (mark := await at.marks(one)):
            await asyncio.sleep(0.02)
    return mark


@pytest.mark.usefixtures("lingering")
async def test_a_use_that_was_foreseen_has_the_mark_that_was_made_for_it(tmp_path: Path) -> None:
    one = key()
    async with site(tmp_path) as at:
        mark = await foreseen(at, one)
        at.uses.foresee(one)
        with at.uses.of(one) as use:
            at.uses.foresee(one)
            await use.stands()
            assert await at.marks() == mark
            with at.uses.of(one):
                at.uses.foresee(other := key())  # which has to wait for a slot
                assert other not in at.uses._marks


@pytest.mark.usefixtures("lingering")
async def test_a_use_that_was_foreseen_and_never_begins_leaves_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = key()
    async with site(tmp_path) as at:
        mark = await foreseen(at, one)
        monkeypatch.setattr(uses_module, "LINGERS_S", 0.0)
        at.uses.foresee(one)  # which is the last word on how long it stays
        await at.until_none(mark)
        with at.uses.of(one) as use:
            await use.stands()
            assert not mark & await at.marks(one)
        at.uses.foresee(key())  # nor where the runner ends meanwhile


@pytest.mark.usefixtures("lingering")
async def test_the_mark_of_what_is_one_submissions_alone_goes_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        with at.uses.of(key()) as use:
            use.alone = True
            await use.stands()
            mark = await at.marks()
        await at.until_none(mark)


@pytest.mark.usefixtures("lingering")
async def test_who_comes_under_a_collection_waits_for_its_end_unless_it_keeps_the_key(tmp_path: Path) -> None:
    kept, threatened = key(), key()
    async with site(tmp_path) as at:
        async with at.collection(kept):
            with at.uses.of(kept) as use:
                await use.stands()
            with at.uses.of(threatened) as use:
                waiting = asyncio.create_task(use.stands())
                async with asyncio.timeout(PATIENCE_S):
                    while not await at.marks(threatened):
                        await asyncio.sleep(0.02)
                await asyncio.wait([waiting], timeout=1.0)
                assert not waiting.done(), "its mark is there, and the collection has not looked for it"
        with at.uses.of(threatened) as use:
            await use.stands()


@pytest.mark.usefixtures("lingering")
async def test_who_shares_a_mark_need_not_look_for_a_collection_that_began_behind_it(tmp_path: Path) -> None:
    """It sees the mark: the second user asks Docker for nothing."""
    one = key()
    async with site(tmp_path) as at:
        with at.uses.of(one) as use:
            await use.stands()
        async with at.collection():
            with at.uses.of(one) as use:
                await use.stands()
                assert set((await runs_in(at.engine, at.volume)).values()) == {one}


async def test_a_collection_that_takes_too_long_is_a_fault_and_the_next_one_has_another_mark(tmp_path: Path) -> None:
    one = key()
    async with site(tmp_path, collection_timeout_ms=1000) as at:
        async with at.collection():
            with at.uses.of(one) as use, at.uses.of(one) as beside:
                for waiting in (use, beside):
                    with pytest.raises(StepFault, match="takes longer than 1 s"):
                        await waiting.stands()
                failed = await at.marks()
        await at.until_none(failed)
        with at.uses.of(one) as use:
            await use.stands()
            assert len(await at.marks() - failed) == 1


@pytest.mark.parametrize("delay_ms", [0, 1, 2, 4, 8, 16])
async def test_a_use_that_ends_while_its_mark_is_made_leaves_none(tmp_path: Path, delay_ms: int) -> None:
    async with site(tmp_path) as at:
        for _ in range(3):
            with at.uses.of(key()) as use:
                use.alone = True
                await asyncio.sleep(delay_ms / 1000)
        with at.uses.of(key()):
            await asyncio.sleep(delay_ms / 1000)


@pytest.mark.usefixtures("lingering")
async def test_who_is_cancelled_while_a_mark_is_made_takes_it_from_nobody_else(tmp_path: Path) -> None:
    one = key()
    async with site(tmp_path) as at:

        async def used(then: asyncio.Event) -> None:
            with at.uses.of(one) as use:
                await use.stands()
                await then.wait()

        release = asyncio.Event()
        async with at.collection():
            users = [asyncio.create_task(used(release)) for _ in range(3)]
            async with asyncio.timeout(PATIENCE_S):
                while not await at.marks(one):
                    await asyncio.sleep(0.02)
            users[0].cancel()
            await asyncio.wait([users[0]])
            assert users[0].cancelled()
        with at.uses.of(one) as use:
            await use.stands()
            assert len(await at.marks()) == 1
        release.set()
        await asyncio.gather(*users[1:])


@pytest.mark.usefixtures("lingering")
async def test_no_mark_is_trusted_for_ever_though_its_users_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses_module, "TRUSTED_S", 0.0)
    one = key()
    async with site(tmp_path) as at:
        with at.uses.of(one) as use:
            await use.stands()
            old = await at.marks()
            with at.uses.of(one) as newer:
                await newer.stands()
                new = await at.marks() - old
                assert (len(old), len(new)) == (1, 1)
        await at.until_none(old)
        assert await at.marks() == new


@pytest.mark.usefixtures("lingering")
async def test_no_more_linger_than_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses_module, "LINGERING_MOST", 2)
    keys = [key() for _ in range(4)]
    async with site(tmp_path) as at:
        for one in keys:
            with at.uses.of(one) as use:
                await use.stands()
        await at.until_none(await at.marks(*keys[:2]))
        assert len(await at.marks(*keys[2:])) == 2


@pytest.mark.usefixtures("lingering")
async def test_a_mark_that_somebody_else_removed_is_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tmp_path) as at:
        with at.uses.of(key()) as use:
            await use.stands()
            (mark,) = await at.marks()
            assert await at.engine.remove_volume(mark)
    assert f"{mark}, was removed by somebody else" in caplog.text


async def test_without_an_engine_who_waits_has_its_fault_and_the_next_one_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = key()
    async with site(tmp_path) as at:
        make, away = at.engine.make_volume, True

        async def perhaps(spec: VolumeSpec) -> None:
            if away:
                raise EngineUnreachable("no Docker Engine answers")
            await make(spec)

        monkeypatch.setattr(at.engine, "make_volume", perhaps)
        with at.uses.of(one) as use, at.uses.of(one) as beside:
            for waiting in (use, beside):
                with pytest.raises(EngineUnreachable):
                    await waiting.stands()
            away = False
            with at.uses.of(one) as behind:
                await behind.stands()
                assert len(await at.marks(one)) == 1
