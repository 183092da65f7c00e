"""Finding an environment in the log: replicas may be behind, and anybody may have written there."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import msgspec
import pytest

from cutor.bus.message import Stored
from cutor.journal.environments import Environments, Known
from cutor.model.codec import encode
from cutor.model.content import pack
from cutor.model.environments import EnvironmentBuilt, EnvironmentPinned, EnvironmentRemoved, Programs

BUILT = EnvironmentBuilt(
    key="k",
    derivation="/nix/store/x.drv",
    closure=(),
    closure_bytes=0,
    variables=pack(b""),
    programs=Programs(bash="/b", sh="/s", env="/e"),
    worker="w",
)
REMOVED = EnvironmentRemoved(key="k", reason="r")
ELSEWHERE = msgspec.structs.replace(BUILT, key="other")


PINNED = EnvironmentPinned(key="k")
FOUND = Known(BUILT, 1)


class TwoReplicas:
    """A bus whose stream has a leader and a replica that answers plain reads, with the bodies of each under the key."""

    def __init__(self, replica: list[bytes], leader: list[bytes]) -> None:
        self._bodies = {False: replica, True: leader}

    def _stored(self, consistent: bool) -> list[Stored]:
        return [
            Stored("ENVIRONMENTS", n, "cutor.env.k", 0, None, {}, body) for n, body in enumerate(self._bodies[consistent], 1)
        ]

    async def last(self, stream: str, subject: str, *, consistent: bool = False) -> Stored | None:
        if stream == "STACK":
            return None  # a stack that says of no version that it has it
        assert (stream, subject) == ("ENVIRONMENTS", "cutor.env.k")
        return next(reversed(self._stored(consistent)), None)

    async def history_batches(
        self, matching: str, first: str, *, stream: str, at_least: int
    ) -> AsyncGenerator[list[Stored], None]:
        assert (stream, matching, first) == ("ENVIRONMENTS", "cutor.env.k", "cutor.env.k")
        assert at_least == len(self._bodies[True])
        for stored in self._stored(True):
            yield [stored]


@pytest.mark.parametrize(
    ("replica", "leader", "found"),
    [
        ([encode(BUILT)], [], FOUND),  # no second question
        ([], [], None),
        ([], [encode(BUILT)], FOUND),
        ([encode(REMOVED)], [encode(BUILT)], FOUND),
        ([encode(REMOVED)], [encode(REMOVED)], None),
        ([b"{"], [encode(BUILT)], FOUND),
        ([b"{"], [encode(REMOVED)], None),
        ([encode(BUILT), encode(PINNED)], [encode(BUILT), encode(PINNED)], FOUND),
        ([encode(BUILT), encode(PINNED)], [encode(BUILT), encode(PINNED), encode(REMOVED)], None),
        ([], [encode(REMOVED), encode(PINNED)], None),
    ],
)
async def test_the_leader_has_the_last_word_on_what_is_not_there(
    replica: list[bytes], leader: list[bytes], found: Known | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert await Environments(TwoReplicas(replica, leader)).find("k") == found  # type: ignore[arg-type]
    assert caplog.records == []


async def test_who_asks_the_leader_at_once_gets_no_older_answer() -> None:
    bus = TwoReplicas([encode(BUILT)], [encode(BUILT), encode(REMOVED)])
    assert await Environments(bus).find("k", consistent=True) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not an event"),
        (b'{"kind": "env-exploded"}', "unknown kind of event 'env-exploded'"),
        (b'{"kind": "env-built", "version": 9}', "env-built has version 9"),
        (b'{"kind": "env-built", "key": "k"}', "env-built: Object missing required field"),
        (encode(ELSEWHERE), "an event of another environment, 'other'"),
    ],
)
async def test_what_is_no_event_of_it_is_left_aside_and_logged(
    body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [encode(BUILT), body, body]
    with caplog.at_level(logging.WARNING):
        assert await Environments(TwoReplicas(bodies, bodies)).find("k") == FOUND  # type: ignore[arg-type]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"cutor.env.k: 2 messages that are no events of it are left aside; the last: {said}")
