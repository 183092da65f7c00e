"""Environments on a real server: a stranger's message does not stand in the way of the next build."""

from __future__ import annotations

import secrets

import msgspec

from cutor.bus.connection import Bus
from cutor.environments import Environments
from cutor.model.environments import EnvironmentRemoved
from tests.unit.test_environments import BUILT


async def test_an_unreadable_message_counts_as_none_and_the_next_build_is_found(bus: Bus) -> None:
    built = msgspec.structs.replace(BUILT, key=secrets.token_hex(16))
    environments = Environments(bus)
    assert await environments.find(built.key) is None
    await environments.append_built(built)
    assert await environments.find(built.key) == built
    await bus.publish(f"cutor.env.{built.key}", b"[" * 100_000)
    assert await environments.find(built.key) is None
    await environments.append_built(built)
    assert await environments.find(built.key) == built
    await environments.append_removed(EnvironmentRemoved(key=built.key, reason="a test"), "test")
    assert await environments.find(built.key) is None
