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


async def test_a_strangers_message_under_its_id_does_not_swallow_an_environment(bus: Bus) -> None:
    """The server takes what has a known message id for a repetition, and stores nothing."""
    built = msgspec.structs.replace(BUILT, key=secrets.token_hex(16))
    for sequence in range(3):
        subject = f"cutor.env.junk{built.key}{sequence}"
        message_id = f"env/{built.key}/built/{built.worker}/{sequence}"
        await bus.append(subject, b"junk", message_id=message_id, fence=subject, expected_sequence=0)
    environments = Environments(bus)
    await environments.append_built(built)
    assert await environments.find(built.key) == built
