"""Environments of one submission alone: removed once it is clean, whatever became of their builder. On a real server, and with
a function of the test in the place of the store.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.containers.errors import SessionFault
from cutor.journal.environments import Environments
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.decide import decide_cancel
from cutor.model.events import Cleaned, Role
from cutor.model.limits import Policy
from cutor.model.subjects import Address
from cutor.roles import private as module
from cutor.roles.private import PrivateEnvironments
from tests.scripted_roles import PATIENCE_S, request
from tests.unit.test_environments import BUILT

SHORT_S = 1.0
"""How long it is looked whether something does not happen."""


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    return journal


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.1)


class Store:
    """The roots of a store; ``faults`` is how often it cannot be had, ``held`` what must stay for now."""

    def __init__(self) -> None:
        self.released: list[str] = []
        self.faults = 0
        self.held: set[str] = set()

    async def release(self, keys: Sequence[str]) -> dict[str, str]:
        if self.faults:
            self.faults -= 1
            raise SessionFault("a test")
        self.released += [key for key in keys if key not in self.held]
        return {key: "a test holds it" for key in keys if key in self.held}


def builder(store: Store, data: Path | None, role: Role = "builder") -> PrivateEnvironments:
    """A builder's next life."""
    return PrivateEnvironments(data, role, "w", store.release)


def noted(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "in-hand" / "private-builder").iterdir())


def fresh_key() -> str:
    return secrets.token_hex(32)


async def build(journal: Journal, private: PrivateEnvironments, key: str, name: str) -> Address:
    """Hand in a submission, and build for it alone."""
    address = (await journal.submit(request(name))).address
    with private.making(key, address):
        private.stands(key)
        built = msgspec.structs.replace(BUILT, key=key, private_to=str(address))
        await Environments(journal.bus).append_built(built)
    return address


async def clean(journal: Journal, address: Address) -> None:
    """End a submission, and say that it is clean."""
    state = (await journal.settle(await journal.known(address), lambda state: decide_cancel(state, None))).state
    await journal.settle(state, lambda _state: Cleaned(worker="w", by="takeover"))


async def removed(journal: Journal, store: Store, *keys: str) -> None:
    """Wait until environments are gone, from the log and from the store."""
    async with asyncio.timeout(PATIENCE_S):
        while not set(keys) <= set(store.released):
            await asyncio.sleep(0.02)
    for key in keys:
        assert await Environments(journal.bus).find(key) is None


async def test_it_goes_once_its_submission_is_clean_and_not_before(journal: Journal, tmp_path: Path) -> None:
    store, key, other = Store(), fresh_key(), fresh_key()
    private = builder(store, tmp_path)
    async with private.following(journal):
        address = await build(journal, private, key, "mine")
        await build(journal, private, other, "others")
        await journal.settle(await journal.known(address), lambda state: decide_cancel(state, None))
        await asyncio.sleep(SHORT_S)
        assert (store.released, noted(tmp_path)) == ([], sorted([key, other]))
        await clean(journal, address)
        await removed(journal, store, key)
        async with asyncio.timeout(PATIENCE_S):
            while noted(tmp_path) != [other]:
                await asyncio.sleep(0.02)
    assert store.released == [key]
    assert await Environments(journal.bus).find(other) is not None


@pytest.mark.parametrize("when", ["before its next life", "in its next life"])
async def test_what_a_dead_life_built_goes_in_the_next_one(journal: Journal, tmp_path: Path, when: str) -> None:
    store, key = Store(), fresh_key()
    address = await build(journal, builder(store, tmp_path), key, "mine")
    if when == "before its next life":
        await clean(journal, address)
    async with builder(store, tmp_path).following(journal):
        if when == "in its next life":
            await asyncio.sleep(SHORT_S)
            assert store.released == []
            await clean(journal, address)
        await removed(journal, store, key)


async def test_a_life_that_died_in_the_midst_of_a_build_leaves_a_note(journal: Journal, tmp_path: Path) -> None:
    """Its container may have made the roots by then, though no event says so."""
    store, key = Store(), fresh_key()
    address = (await journal.submit(request("mine"))).address
    with builder(store, tmp_path).making(key, address):
        assert noted(tmp_path) == [key]
        await clean(journal, address)
        async with builder(store, tmp_path).following(journal):
            await removed(journal, store, key)


async def test_a_runner_removes_what_it_fetched_and_says_nothing(journal: Journal, tmp_path: Path) -> None:
    """Its builder does; and a builder of the same data directory has nothing to do with it."""
    store, others, key = Store(), Store(), fresh_key()
    runner = builder(store, tmp_path, "runner")
    async with runner.following(journal), builder(others, tmp_path).following(journal):
        await clean(journal, await build(journal, runner, key, "mine"))
        async with asyncio.timeout(PATIENCE_S):
            while store.released != [key]:
                await asyncio.sleep(0.02)
    assert await Environments(journal.bus).find(key) is not None
    assert others.released == []


async def test_a_build_that_failed_leaves_nothing_to_remove(journal: Journal, tmp_path: Path) -> None:
    private = builder(Store(), tmp_path)
    with private.making(fresh_key(), Address("default", "s")):
        pass
    assert noted(tmp_path) == []


async def test_a_failure_behind_a_build_that_stood_keeps_its_note(journal: Journal, tmp_path: Path) -> None:
    private, key = builder(Store(), tmp_path), fresh_key()
    address = await build(journal, private, key, "mine")
    with private.making(key, address):
        pass
    assert noted(tmp_path) == [key]


async def test_a_build_that_was_stopped_may_have_left_roots(journal: Journal, tmp_path: Path) -> None:
    private, key = builder(Store(), tmp_path), fresh_key()
    with pytest.raises(SessionFault), private.making(key, Address("default", "s")):
        raise SessionFault("a test")
    assert noted(tmp_path) == [key]


async def test_nothing_is_removed_while_it_is_built(journal: Journal, tmp_path: Path) -> None:
    """Another one has said that the submission is clean, before this builder knows that its lease is over."""
    store, key = Store(), fresh_key()
    private = builder(store, tmp_path)
    address = (await journal.submit(request("mine"))).address
    async with private.following(journal):
        with private.making(key, address):
            await clean(journal, address)
            await asyncio.sleep(SHORT_S)
            assert store.released == []
            private.stands(key)
        private._look_at_all()
        await removed(journal, store, key)


async def test_a_store_that_cannot_be_had_is_tried_again(journal: Journal, tmp_path: Path) -> None:
    store, key = Store(), fresh_key()
    store.faults = 3
    private = builder(store, tmp_path)
    async with private.following(journal):
        await clean(journal, await build(journal, private, key, "mine"))
        await removed(journal, store, key)
    assert noted(tmp_path) == []


async def test_what_must_stay_for_now_is_tried_again_and_keeps_no_other(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store, held, free = Store(), fresh_key(), fresh_key()
    store.held = {held}
    private = builder(store, tmp_path)
    async with private.following(journal):
        for key, name in ((held, "mine"), (free, "other")):
            await clean(journal, await build(journal, private, key, name))
        await removed(journal, store, free)
        async with asyncio.timeout(PATIENCE_S):
            while noted(tmp_path) != [held] or "stays in the store for now: a test holds it" not in caplog.text:
                await asyncio.sleep(0.02)
        store.held.clear()
        await removed(journal, store, held)
        async with asyncio.timeout(PATIENCE_S):
            while noted(tmp_path):
                await asyncio.sleep(0.02)


async def test_one_that_cannot_be_read_keeps_no_other_from_its_end(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keys = Store(), [fresh_key(), fresh_key()]
    private = builder(store, tmp_path)
    bad, good = [await build(journal, private, key, name) for key, name in zip(keys, ("bad", "good"), strict=True)]
    for address in (bad, good):
        await clean(journal, address)
    state = Journal.state

    async def refused(self: Journal, address: Address, **more: Any) -> Any:
        if address == bad:
            raise BusError("a test")
        return await state(self, address, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "state", refused)
        async with private.following(journal):
            await removed(journal, store, keys[1])
            assert keys[0] not in store.released
            patched.undo()
            await removed(journal, store, keys[0])


async def test_a_submission_that_the_stream_does_not_hold_has_ended_long_ago(journal: Journal, tmp_path: Path) -> None:
    store, key = Store(), fresh_key()
    with builder(store, tmp_path).making(key, Address("default", "gone")):
        async with builder(store, tmp_path).following(journal):
            await removed(journal, store, key)


async def test_without_a_data_directory_nothing_is_noted_and_all_is_done(journal: Journal) -> None:
    store, key = Store(), fresh_key()
    private = builder(store, None)
    async with private.following(journal):
        await clean(journal, await build(journal, private, key, "mine"))
        await removed(journal, store, key)


async def test_what_is_no_note_is_said_and_left_alone(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    builder(store, tmp_path)
    directory = tmp_path / "in-hand" / "private-builder"
    secret = tmp_path / "secret"
    secret.write_text('{"tenant": "default", "id": "s"}')
    odd = {name: fresh_key() for name in ("link", "garbage", "address", "directory", "fifo")}
    (directory / odd["link"]).symlink_to(secret)
    (directory / odd["garbage"]).write_text("no note")
    (directory / odd["address"]).write_text('{"tenant": "a/b", "id": ""}')
    (directory / odd["directory"]).mkdir()
    os.mkfifo(directory / odd["fifo"])
    (directory / "not a key").write_text("")
    before = noted(tmp_path)
    async with builder(store, tmp_path).following(journal):
        await asyncio.sleep(SHORT_S)
    assert (store.released, noted(tmp_path)) == ([], before)
    for name in odd.values():
        assert f"{name} is no note of an environment" in caplog.text


async def test_a_directory_that_cannot_be_had_stops_nobody(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in-hand").symlink_to(tmp_path / "elsewhere")
    store, key = Store(), fresh_key()
    private = builder(store, tmp_path)
    assert "cannot be noted" in caplog.text
    async with private.following(journal):
        await clean(journal, await build(journal, private, key, "mine"))
        await removed(journal, store, key)
    assert list((tmp_path / "elsewhere").iterdir()) == []
