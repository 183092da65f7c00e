"""What a manifest says, what is refused in its place, and what a restore compares."""

from __future__ import annotations

import msgspec
import pytest

from cutor.bus.backup_manifest import (
    ORDER,
    ConsumerPosition,
    Manifest,
    ManifestInvalid,
    RestoreRefused,
    State,
    StreamBackup,
    check_free,
    check_server,
    decode,
    encode,
    identity_of,
    in_order,
    is_restored,
    restore_order,
    version_of,
    with_replicas,
)
from cutor.bus.restoring import MARKED, marked, note_in, unmarked

GROWS = {"discard": "new", "max_age": 0}


def stream(name: str, **config: object) -> StreamBackup:
    return StreamBackup(
        name=name,
        file=f"{name}.snapshot",
        size_bytes=7,
        sha256="0" * 64,
        messages=3,
        stored_bytes=300,
        first_sequence=1,
        last_sequence=3,
        config={"name": name, **GROWS, **config},
        consumers=[
            ConsumerPosition(name="builder-default", config={"durable_name": "builder-default"}, acknowledged_sequence=2)
        ],
    )


def manifest(*streams: StreamBackup, version: int = 1, server_version: str = "2.15.1") -> Manifest:
    return Manifest(
        version=version,
        made_at="2026-01-02T03:04:05Z",
        cutor_version="1",
        server_version=server_version,
        streams=list(streams),
    )


def test_it_is_read_as_it_was_written() -> None:
    held = manifest(stream("EVENTS"), stream("BODIES"))
    assert decode(encode(held), "x") == held


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "x: not the manifest of a backup"),
        (b"{}", "missing required field `version`"),
        (b"\xff", "x: not the manifest of a backup"),
        (b"[" * 100_000, "x: not the manifest of a backup"),
        (b'{"version": 1}', "missing required field"),
        (b'{"version": 2}', "a backup in version 2 of its form; this cutor knows 1 alone"),
        (encode(manifest()), "names no streams, or one twice"),
        (encode(manifest(stream("EVENTS"), stream("EVENTS"))), "names no streams, or one twice"),
    ],
)
def test_what_is_none_is_refused_in_one_line(raw: bytes, said: str) -> None:
    with pytest.raises(ManifestInvalid, match=said) as refused:
        decode(raw, "x")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../../etc/passwd"},
        {"file": "BODIES.snapshot"},
        {"name": "../EVENTS", "file": "../EVENTS.snapshot"},
        {"config": {"name": "OTHER"}},
        {"config": {}},
        {"sha256": "0" * 63},
        {"sha256": "A" * 64},
        {"size_bytes": -1},
        {"messages": -1},
        {"messages": 1 << 63},
        {"messages": 4},
        {"stored_bytes": -1},
        {"first_sequence": -1},
        {"last_sequence": 1 << 63},
        {"last_sequence": -1},
        {"config": {"name": "EVENTS", "num_replicas": "abc"}},
        {"config": {"name": "EVENTS", "num_replicas": [1]}},
        {"config": {"name": "EVENTS", "num_replicas": True}},
        {"config": {"name": "EVENTS", "num_replicas": -1}},
        {"config": {"name": "EVENTS", "num_replicas": 10**30}},
        {"config": {"name": "EVENTS", "metadata": "x"}},
        {"config": {"name": "EVENTS", "metadata": {"a": 1}}},
        {"consumers": [ConsumerPosition(name="a", config={}, acknowledged_sequence=-1)]},
        {"consumers": [ConsumerPosition(name="a.b", config={}, acknowledged_sequence=0)]},
    ],
)
def test_a_manifest_that_would_lead_elsewhere_is_refused(changes: dict[str, object]) -> None:
    one = msgspec.structs.replace(stream("EVENTS"), **changes)
    with pytest.raises(ManifestInvalid):
        decode(encode(manifest(one)), "x")


def test_a_stream_comes_before_those_that_it_refers_to_and_is_restored_after_them() -> None:
    names = ["BODIES", "OWN", "STACK", "EVENTS", "DEADLETTERS", "ENVIRONMENTS", "PARKED"]
    order = in_order(names)
    assert order == ["STACK", "OWN", "PARKED", "DEADLETTERS", "EVENTS", "ENVIRONMENTS", "BODIES"]
    assert [name for name in order if name in ORDER] == list(ORDER)
    assert [one.name for one in restore_order(map(stream, names))] == order[::-1]


def test_a_restored_stream_is_the_same_to_the_message() -> None:
    one = stream("EVENTS")
    assert is_restored(one, State(3, 1, 3))
    assert not any(is_restored(one, other) for other in (State(2, 1, 3), State(3, 1, 2), State(3, 2, 4), State(0, 1, 0)))


def test_what_is_appended_behind_a_restored_stream_is_none_of_its_business() -> None:
    one = stream("EVENTS")
    assert is_restored(one, State(5, 1, 5))
    assert not any(is_restored(one, other) for other in (State(4, 1, 5), State(3, 1, 4), State(4, 2, 5), State(6, 1, 5)))
    empty = msgspec.structs.replace(one, messages=0, first_sequence=8, last_sequence=7)
    assert is_restored(empty, State(2, 8, 9))
    assert not is_restored(empty, State(2, 1, 2))


@pytest.mark.parametrize("config", [{"discard": "old"}, {"max_age": 10**9}])
def test_where_messages_go_by_themselves_fewer_of_them_are_fine(config: dict[str, object]) -> None:
    one = stream("STACK", **config)
    assert is_restored(one, State(3, 1, 3))
    assert is_restored(one, State(0, 4, 3))
    assert is_restored(one, State(2, 3, 4))
    assert not is_restored(one, State(0, 1, 0))
    assert not is_restored(one, State(4, 1, 3))


def test_a_stream_without_messages_begins_behind_its_last_sequence() -> None:
    assert State.of({"messages": 0, "first_seq": 0, "last_seq": 0}) == State.of({"messages": 0, "first_seq": 1, "last_seq": 0})
    assert State.of({"messages": 0, "first_seq": 6, "last_seq": 5}) == State(0, 6, 5)


def test_a_single_server_is_told_of_copies_that_it_cannot_keep() -> None:
    held = manifest(stream("EVENTS", num_replicas=1), stream("BODIES", num_replicas=3))
    with pytest.raises(RestoreRefused, match="cannot keep 3 copies: `--replicas 1` restores one copy"):
        check_server(held, (2, 15), clustered=False, replicas=None)
    check_server(held, (2, 15), clustered=False, replicas=1)
    check_server(held, (2, 15), clustered=True, replicas=None)
    assert with_replicas({"num_replicas": 3, "a": 1}, 1) == {"num_replicas": 1, "a": 1}
    assert with_replicas({"num_replicas": 3}, None) == {"num_replicas": 3}


def test_an_older_server_than_the_one_that_made_it_is_refused() -> None:
    held = manifest(stream("EVENTS"), stream("BODIES"))
    with pytest.raises(RestoreRefused, match=r"made by nats-server 2.15.1: an older server \(2.14\)"):
        check_server(held, (2, 14), clustered=False, replicas=None)
    check_server(held, (2, 16), clustered=False, replicas=None)
    assert version_of("2.15.0-dev") == (2, 15)
    assert version_of("nonsense") == (0, 0)


def test_a_backup_without_the_stream_that_is_marked_is_refused() -> None:
    with pytest.raises(RestoreRefused, match="has no stream BODIES: it is not that of a stack"):
        check_server(manifest(stream("EVENTS")), (2, 15), clustered=False, replicas=None)


def test_the_marked_stream_is_the_first_that_a_restore_makes() -> None:
    assert restore_order(map(stream, [*ORDER, "A", "ZZZ"]))[0].name == MARKED


def test_a_backup_is_told_from_any_other_and_known_again() -> None:
    held = manifest(stream("EVENTS"), stream("BODIES"))
    assert identity_of(decode(encode(held), "x")) == identity_of(held)
    changed = msgspec.structs.replace(stream("BODIES"), sha256="1" * 64)
    others = [manifest(stream("EVENTS"), changed), msgspec.structs.replace(held, made_at="2026-01-02T03:04:06Z")]
    assert len({identity_of(one) for one in [held, *others]}) == 3


def test_the_note_is_added_and_taken_away_beside_other_metadata() -> None:
    for config in ({"name": "BODIES"}, {"name": "BODIES", "metadata": {"mine": "1"}}):
        assert note_in(config) is None
        noted = marked(config, "abc")
        assert note_in(noted) == "abc"
        assert unmarked(noted) == {"metadata": {}, **config}


def test_a_server_that_holds_streams_is_refused() -> None:
    with pytest.raises(RestoreRefused, match=r"holds streams already \(BODIES, EVENTS\), and cutor deletes none"):
        check_free(["EVENTS", "BODIES"])
    check_free([])
