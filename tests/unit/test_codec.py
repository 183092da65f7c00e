"""The codec: golden files of every event version, tolerance of the new, refusal of the unreadable."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cutor.cli.failures import exit_code_of
from cutor.model.codec import (
    DECISION_KINDS,
    ENVIRONMENT_KINDS,
    UPCASTERS,
    VERSIONS,
    EventError,
    UnknownEventError,
    decode,
    decode_decision,
    decode_environment,
    decode_policy,
    encode,
)
from cutor.model.environments import EnvironmentRemoved
from cutor.model.events import EVENT_TYPES, KINDS, PASSING_KINDS, TERMINAL_KINDS, Leased, kind_of
from cutor.model.limits import DEFAULT_LIMITS, Bounds, Policy
from tests.unit.histories import RUNNING, ran

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*.json"))


READERS = dict.fromkeys(ENVIRONMENT_KINDS, decode_environment) | dict.fromkeys(DECISION_KINDS, decode_decision)
"""What reads the events of other streams than EVENTS."""


def kind_and_version(path: Path) -> tuple[str, int]:
    """Return what a golden file holds: ``KIND.vVERSION.json``; one with a field that came later says so before ``.json``."""
    kind, _, rest = path.stem.rpartition(".v")
    return kind, int(rest.partition(".")[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_bodies_are_still_read(path: Path) -> None:
    kind, version = kind_and_version(path)
    event = READERS.get(kind, decode)(path.read_bytes())
    assert kind_of(event) == kind
    if version == VERSIONS[kind]:
        body = json.loads(path.read_bytes())
        assert without_later_fields(json.loads(encode(event)), body) == body


def without_later_fields(again: Any, body: Any) -> Any:
    """Return what was written again without fields that a body from before them does not have: null, for nothing is known."""
    if isinstance(again, list) and isinstance(body, list):
        return [without_later_fields(one, known) for one, known in zip(again, body, strict=True)]
    if isinstance(again, dict) and isinstance(body, dict):
        kept = {name: value for name, value in again.items() if name in body or value is not None}
        return {name: without_later_fields(value, body.get(name)) for name, value in kept.items()}
    return again


def test_a_later_field_of_a_golden_body_may_be_null_and_nothing_else() -> None:
    assert without_later_fields([{"a": 1, "b": None}], [{"a": 1}]) == [{"a": 1}]
    assert without_later_fields([{"a": 1, "b": 0}], [{"a": 1}]) != [{"a": 1}]
    assert without_later_fields([{"a": None}], [{"a": 1}]) != [{"a": 1}]


def test_every_version_of_every_kind_has_a_golden_file() -> None:
    wanted = {f"{kind}.v{version}" for kind, last in VERSIONS.items() for version in range(1, last + 1)}
    assert {"{}.v{}".format(*kind_and_version(path)) for path in FILES} == wanted


def test_every_old_version_has_an_upcaster() -> None:
    assert set(UPCASTERS) == {(kind, version) for kind, last in VERSIONS.items() for version in range(1, last)}


def test_kinds_are_those_of_the_design() -> None:
    implied = {"finished", "cancelled", "rejected", "parked", "cache-lost"}
    assert set(KINDS) == {"submitted", "leased", "cache-built", "compiled", "ran", "cleaned"} | implied
    assert len(KINDS) == len(EVENT_TYPES)
    assert set(VERSIONS) == {*KINDS, *ENVIRONMENT_KINDS, *DECISION_KINDS}
    assert DECISION_KINDS == ("parked-resolved",)
    assert set(ENVIRONMENT_KINDS) == {"env-building", "env-built", "env-removed", "env-pinned", "env-unpinned"}


def test_events_tolerate_fields_that_a_newer_cutor_added() -> None:
    document = msgspec.json.decode(encode(RUNNING[1]))
    document["added"] = 1
    document["lease"]["added"] = [1]
    assert decode(json.dumps(document).encode()) == RUNNING[1]


REMOVED = EnvironmentRemoved(key="k", reason="r")


def test_a_body_of_an_older_version_goes_through_its_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    """In both streams: what said ``key`` was called ``name`` in a version 1 that never was."""
    monkeypatch.setitem(VERSIONS, "env-removed", 2)
    monkeypatch.setitem(UPCASTERS, ("env-removed", 1), lambda document: document | {"key": document["name"]})
    old = b'{"kind": "env-removed", "name": "k", "reason": "r"}'
    assert decode_environment(old) == EnvironmentRemoved(key="k", reason="r", version=2)
    with pytest.raises(UnknownEventError, match="env-removed has version 3; this cutor knows 1 to 2"):
        decode_environment(b'{"kind": "env-removed", "version": 3}')
    with pytest.raises(EventError, match="env-removed: not the shape of version 1: 'name'"):
        decode_environment(b'{"kind": "env-removed", "key": "k", "reason": "r"}')
    monkeypatch.setitem(VERSIONS, "cancelled", 2)
    monkeypatch.setitem(UPCASTERS, ("cancelled", 1), lambda document: {"kind": document["kind"], "reason": document["why"]})
    assert decode(b'{"kind": "cancelled", "why": "w"}').reason == "w"


def test_a_stream_has_its_own_kinds() -> None:
    with pytest.raises(UnknownEventError, match="'env-removed'"):
        decode(encode(REMOVED))
    with pytest.raises(UnknownEventError, match="'leased'"):
        decode_environment(encode(RUNNING[1]))


@pytest.mark.parametrize("depth", [2_000, 200_000])
@pytest.mark.parametrize("read", [decode, decode_environment, decode_policy, decode_decision])
def test_what_is_nested_too_deeply_is_an_event_error(read: Callable[[bytes], object], depth: int) -> None:
    """Also in a field that nobody knows: a decoder walks through those, too."""
    nest = b"[" * depth + b"]" * depth
    for body in (
        b'{"added": %b, "kind": "cancelled"}' % nest,
        b'{"kind": "cancelled", "reason": "", "added": %b}' % nest,
        b'{"kind": "env-removed", "key": "k", "reason": "", "added": %b}' % nest,
        b'{"kind": ' * depth,
    ):
        with pytest.raises(EventError) as raised:
            read(body)
        assert len(str(raised.value)) < 100


def test_what_an_upcaster_reads_may_be_nested_too_deeply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its document is decoded as a whole; the head alone skips what stands behind the version."""
    monkeypatch.setitem(VERSIONS, "env-removed", 2)
    monkeypatch.setitem(UPCASTERS, ("env-removed", 1), lambda document: document)
    with pytest.raises(EventError, match="nested too deeply"):
        decode_environment(b'{"kind": "env-removed", "version": 1, "key": %b' % (b"[" * 2_000 + b"]" * 2_000 + b"}"))


@pytest.mark.parametrize("text", ["x" * 8_000_000, "\n" * 8_000_000])
def test_an_error_is_no_longer_than_a_line(text: str) -> None:
    """It becomes the message of `rejected`, which has to fit into an event itself."""
    request = {"files": [], "test_cases": [], "compare": text}
    with pytest.raises(EventError) as raised:
        decode(json.dumps({"kind": "submitted", "digest": "", "request": request}).encode())
    assert len(str(raised.value)) < 400


def test_an_event_that_cannot_be_read_is_a_fault_of_the_stack_not_a_bug() -> None:
    assert exit_code_of(EventError("x")) == exit_code_of(UnknownEventError("x")) == 3


def test_a_policy_of_a_newer_stack_is_read_without_what_this_cutor_does_not_know() -> None:
    policy = Policy(bounds=Bounds(files=7), max_leases=2)
    document = msgspec.json.decode(encode(policy))
    document["added"] = {}
    document["bounds"]["added"] = 1
    document["limits"]["link"] = {}
    document["limits"]["run"]["minimum"] = 1
    document["limits"]["run"]["default"]["added"] = 1
    read = decode_policy(json.dumps(document).encode())
    assert read == policy
    assert type(read.bounds) is Bounds


def test_a_policy_of_an_older_stack_is_filled_up_with_what_is_built_in() -> None:
    assert decode_policy(b"{}") == Policy()
    assert decode_policy(b'{"bounds": {"files": 7}}').bounds == Bounds(files=7)


def test_what_a_stack_of_before_a_limit_or_a_stage_publishes_is_filled_up() -> None:
    """Else the first client that is newer than its stack could hand in nothing."""
    document = json.loads(encode(Policy()))
    del document["limits"]["compile"], document["limits"]["run"]["maximum"]["open_files"]
    document["limits"]["run"]["maximum"]["processes"] = 7
    read = decode_policy(json.dumps(document).encode()).limits
    assert read.compile == DEFAULT_LIMITS.compile
    assert read.run.maximum == msgspec.structs.replace(DEFAULT_LIMITS.run.maximum, processes=7)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"tenants": {"\xff": 1}}', b'{"bounds": {"files": "7"}}'])
def test_what_is_no_policy_is_an_event_error(body: bytes) -> None:
    with pytest.raises(EventError, match="the published policy cannot be read: "):
        decode_policy(body)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", EventError),
        (b"\xff\xfe", EventError),
        (b"[]", EventError),
        (b'{"kind": 5}', EventError),
        (b'{"kind": "exploded"}', UnknownEventError),
        (b'{"kind": "leased", "version": 2}', UnknownEventError),
        (b'{"kind": "leased", "version": 0}', UnknownEventError),
        (b'{"kind": "leased"}', EventError),
        (b'{"kind": "cancelled", "reason": "\xff"}', EventError),
    ],
)
def test_what_is_no_event_is_an_event_error_of_one_line(body: bytes, error: type[EventError]) -> None:
    with pytest.raises(error) as raised:
        decode(body)
    assert "\n" not in str(raised.value)


def test_bodies_are_json_with_kind_and_version() -> None:
    assert msgspec.json.decode(encode(ran(0, "OK")))["kind"] == "ran"
    assert msgspec.json.decode(encode(RUNNING[1]))["version"] == 1
    assert isinstance(RUNNING[1], Leased)


def test_every_kind_of_event_is_known_to_end_a_submission_or_to_leave_it_open_but_for_what_comes_behind_an_end() -> None:
    assert sorted((*PASSING_KINDS, *TERMINAL_KINDS, "cleaned")) == sorted(KINDS)
