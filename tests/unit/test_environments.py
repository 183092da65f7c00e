"""Finding an environment in the log: replicas may be behind, and anybody may have written there."""

from __future__ import annotations

import logging

import msgspec
import pytest

from cutor.bus.message import Stored
from cutor.environments import Environments
from cutor.model.codec import encode
from cutor.model.content import pack
from cutor.model.environments import EnvironmentBuilt, EnvironmentRemoved, Programs

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


class TwoReplicas:
    """A bus whose stream has a leader and a replica that answers plain reads; bodies, or None where there is no message."""

    def __init__(self, replica: bytes | None, leader: bytes | None) -> None:
        self._bodies = {False: replica, True: leader}

    async def last(self, stream: str, subject: str, *, consistent: bool = False) -> Stored | None:
        assert (stream, subject) == ("ENVIRONMENTS", "cutor.env.k")
        body = self._bodies[consistent]
        return None if body is None else Stored(stream, 1, subject, 0, None, {}, body)


@pytest.mark.parametrize(
    ("replica", "leader", "found"),
    [
        (encode(BUILT), None, BUILT),  # no second question
        (None, None, None),
        (None, encode(BUILT), BUILT),
        (encode(REMOVED), encode(BUILT), BUILT),
        (encode(REMOVED), encode(REMOVED), None),
        (b"{", encode(BUILT), BUILT),
        (b"{", encode(REMOVED), None),
    ],
)
async def test_the_leader_has_the_last_word_on_what_is_not_there(
    replica: bytes | None, leader: bytes | None, found: EnvironmentBuilt | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert await Environments(TwoReplicas(replica, leader)).find("k") == found  # type: ignore[arg-type]
    assert caplog.records == []


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
async def test_what_is_no_event_of_it_counts_as_none_and_is_logged(
    body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await Environments(TwoReplicas(body, body)).find("k") is None  # type: ignore[arg-type]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"cutor.env.k: {said}")
