"""Environments on a real server: their states, and strangers' messages that stand in nobody's way."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from cutor.bus.connection import Bus
from cutor.journal.environments import Environments, Known
from cutor.model.environments import Environment, EnvironmentBuilding, EnvironmentRemoved
from tests.unit.test_environments import BUILT

GARBAGE: Final = (b"", b"{}", b"[" * 100_000, b'{"kind":"env-removed","key":"another","reason":""}')


def key() -> str:
    return secrets.token_hex(16)


async def test_what_stands_is_found_whatever_came_behind_it(bus: Bus) -> None:
    built = msgspec.structs.replace(BUILT, key=key())
    environments = Environments(bus)
    assert await environments.find(built.key) is None
    known = await environments.append_built(built)
    for body in GARBAGE:
        await bus.publish(f"cutor.env.{built.key}", body)
        assert await environments.find(built.key) == known
    assert await environments.append_pinned(built.key)
    assert await environments.find(built.key) == await environments.find(built.key, consistent=True) == known
    newer = await environments.append_built(built)
    assert await environments.find(built.key) == newer == Known(built, known.sequence + len(GARBAGE) + 2)
    assert await environments.append_removed(EnvironmentRemoved(key=built.key, reason="a test"), "test")
    assert await environments.find(built.key) is None
    await bus.publish(f"cutor.env.{built.key}", b"{")
    assert await environments.find(built.key) is None


async def test_a_removal_is_of_what_stands_and_of_nothing_that_was_built_since(bus: Bus) -> None:
    built = msgspec.structs.replace(BUILT, key=key())
    environments, removed = Environments(bus), EnvironmentRemoved(key=built.key, reason="a test")
    assert not await environments.append_removed(removed, "test")
    older, newer = await environments.append_built(built), await environments.append_built(built)
    assert not await environments.append_removed(removed, "test", built_sequence=older.sequence)
    assert await environments.find(built.key) == newer
    assert await environments.append_removed(removed, "test", built_sequence=newer.sequence)
    assert not await environments.append_removed(removed, "test")


async def test_a_pin_is_set_once_and_outlasts_a_removal(bus: Bus) -> None:
    built = msgspec.structs.replace(BUILT, key=key())
    environments = Environments(bus)
    assert not await environments.append_pinned(built.key, pinned=False)
    assert await environments.append_pinned(built.key)
    assert not await environments.append_pinned(built.key)
    await environments.append_built(built)
    await environments.append_removed(EnvironmentRemoved(key=built.key, reason="a test"), "test")
    assert (await environments.state(built.key)).pinned
    assert await environments.append_pinned(built.key, pinned=False)
    assert not (await environments.state(built.key)).pinned


async def test_of_several_who_claim_behind_the_same_message_one_has_it(bus: Bus) -> None:
    environments, name = Environments(bus), key()
    seen = await environments.state(name)
    assert seen == Environment(key=name)
    claims = [EnvironmentBuilding(key=name, tenant="t", id=f"s{n}", lease_token=f"{n}", worker="w") for n in range(5)]
    claimed = [await environments.claim(seen, claim) for claim in claims]
    assert [state is not None for state in claimed] == [True, False, False, False, False]
    state = await environments.state(name, seen)
    assert state == claimed[0] == await environments.state(name)
    assert state.building == claims[0]
    taken_over = await environments.claim(state, claims[1])
    assert taken_over is not None
    assert taken_over.building == claims[1]
    built = msgspec.structs.replace(BUILT, key=name)
    known = await environments.append_built(built)
    after = await environments.state(name, taken_over)
    assert after == Environment(key=name, built=built, built_sequence=known.sequence, sequence=known.sequence)


async def test_a_strangers_message_under_its_id_does_not_swallow_an_environment(bus: Bus) -> None:
    """The server takes what has a known message id for a repetition, and stores nothing."""
    built = msgspec.structs.replace(BUILT, key=key())
    for sequence in range(3):
        subject = f"cutor.env.junk{built.key}{sequence}"
        message_id = f"env/{built.key}/built/{built.worker}/{sequence}"
        await bus.append(subject, b"junk", message_id=message_id, fence=subject, expected_sequence=0)
    environments = Environments(bus)
    known = await environments.append_built(built)
    assert await environments.find(built.key) == known
