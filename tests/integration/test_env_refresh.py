"""A refresh and a collection of the same environment: what is put back has its roots."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import cast

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.cli.env_refresh import _kept, _put_back
from cutor.containers.engine import Engine
from cutor.journal.environments import Environments
from cutor.model.collection import Taken
from cutor.model.content import pack
from cutor.model.environments import EnvironmentBuilt, EnvironmentRemoved, Programs
from cutor.nix.settings import NixSettings
from cutor.operations.collection import Collector, Place

KEY = "a" * 64
BUILT = EnvironmentBuilt(
    key=KEY,
    derivation="/nix/store/x.drv",
    closure=(),
    closure_bytes=0,
    variables=pack(b""),
    programs=Programs(bash="/b", sh="/s", env="/e"),
    worker="w",
)
REMOVED = EnvironmentRemoved(key=KEY, reason="it is to be built anew")
SEEN = Taken(key=KEY, because="old", frees_bytes=1, stands=False, touched_s=0)


async def stays(bus: Bus, seen: Taken) -> str | None:
    """Return why a collection, which has planned to take it, spares it at the moment; null: its roots go."""
    collector = Collector(bus, cast("Engine", None), Place(NixSettings(), "one"))
    return await collector._stays(seen, told=seen.stands)


@pytest.mark.parametrize("seen", [SEEN, msgspec.structs.replace(SEEN, stands=True)])
async def test_no_collection_takes_the_roots_of_what_a_refresh_may_put_back(own_bus: Bus, seen: Taken) -> None:
    environments = Environments(own_bus)
    await environments.append_built(BUILT)
    async with _kept(environments, KEY):
        old = await environments.find(KEY, consistent=True)
        await environments.append_removed(REMOVED, "refresh")
        assert await stays(own_bus, seen) == "pinned by now"
        assert await _put_back(environments, old)
    state = await environments.state(KEY)
    assert (state.built, state.pinned) == (BUILT, False)


async def test_what_a_collection_took_before_is_not_put_back(own_bus: Bus) -> None:
    environments = Environments(own_bus)
    await environments.append_built(BUILT)
    assert await stays(own_bus, msgspec.structs.replace(SEEN, stands=True)) is None
    async with _kept(environments, KEY):
        assert not await _put_back(environments, await environments.find(KEY, consistent=True))
    assert (await environments.state(KEY)).built is None


async def test_the_pin_goes_however_a_refresh_ends_and_one_that_was_there_stays(own_bus: Bus) -> None:
    environments = Environments(own_bus)
    with pytest.raises(KeyboardInterrupt):
        async with _kept(environments, KEY):
            raise KeyboardInterrupt
    assert not (await environments.state(KEY)).pinned
    await environments.append_pinned(KEY)
    async with _kept(environments, KEY):
        pass
    assert (await environments.state(KEY)).pinned


@pytest.mark.parametrize("first_ends", [True, False])
async def test_of_two_refreshes_neither_takes_back_the_others_pin_and_none_an_operators(own_bus: Bus, first_ends: bool) -> None:
    environments, first, second = Environments(own_bus), AsyncExitStack(), AsyncExitStack()
    await environments.append_built(BUILT)
    await first.enter_async_context(_kept(environments, KEY))
    await second.enter_async_context(_kept(environments, KEY))
    await (first if first_ends else second).aclose()
    assert await stays(own_bus, SEEN) == "pinned by now"
    await (second if first_ends else first).aclose()
    assert not (await environments.state(KEY)).pinned
    async with _kept(environments, KEY):
        assert not await environments.append_pinned(KEY), "it is pinned already, though not for long"
    assert (await environments.state(KEY)).pinned
    assert await environments.append_pinned(KEY, pinned=False)
    assert not (await environments.state(KEY)).pinned


async def test_who_says_again_that_it_is_to_be_kept_makes_its_history_no_longer(own_bus: Bus) -> None:
    """All of it is read with every hit of what is pinned."""
    environments = Environments(own_bus)
    await environments.append_built(BUILT)
    async with _kept(environments, KEY):
        for _ in range(3):
            await environments.append_pinned(KEY)
    state = await environments.state(KEY)
    assert state.pins == (state.sequence - 1,), "the refresh's, that of the operator, and the end of the refresh's"
