"""The codec: golden files of every event version, tolerance of the new, refusal of the unreadable."""

import json
from pathlib import Path

import msgspec
import pytest

from cutor.model.codec import UPCASTERS, VERSIONS, EventError, UnknownEventError, decode, encode
from cutor.model.events import EVENT_TYPES, KINDS, Leased, kind_of
from tests.unit.histories import RUNNING, ran

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_bodies_are_still_read(path: Path) -> None:
    kind, _, version = path.stem.rpartition(".v")
    event = decode(path.read_bytes())
    assert kind_of(event) == kind
    if int(version) == VERSIONS[kind]:
        assert json.loads(encode(event)) == json.loads(path.read_bytes())


def test_every_version_of_every_kind_has_a_golden_file() -> None:
    wanted = {f"{kind}.v{version}" for kind, last in VERSIONS.items() for version in range(1, last + 1)}
    assert {path.stem for path in FILES} == wanted


def test_every_old_version_has_an_upcaster() -> None:
    assert set(UPCASTERS) == {(kind, version) for kind, last in VERSIONS.items() for version in range(1, last)}


def test_kinds_are_those_of_the_design() -> None:
    implied = {"finished", "cancelled", "rejected", "parked", "cache-lost"}
    assert set(KINDS) == {"submitted", "leased", "cache-built", "compiled", "ran", "cleaned"} | implied
    assert len(KINDS) == len(EVENT_TYPES)


def test_events_tolerate_fields_that_a_newer_cutor_added() -> None:
    document = msgspec.json.decode(encode(RUNNING[1]))
    document["added"] = 1
    document["lease"]["added"] = [1]
    assert decode(json.dumps(document).encode()) == RUNNING[1]


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
