"""What an archive says of itself: nothing of it can be changed, left out or moved without being noticed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from cutor.projections.archive.errors import ArchiveDamaged
from cutor.projections.archive.manifest import VERSION, Manifest, Segment, decode, encode

HASH = "ab" * 32
CHAIN = "65190617511d1751dcb6b9b2d327f0e70fb0eddfa23d098b4ca0ddcd2d658f3b"


def segment(first: int, last: int) -> Segment:
    return Segment(
        first=first,
        last=last,
        body_bytes=10,
        file_bytes=20,
        first_time_ns=1,
        last_time_ns=2,
        fingerprint=HASH,
        sha256=HASH,
        rules=HASH,
    )


def three() -> Manifest:
    manifest = Manifest(version=VERSION, stream="EVENTS", created="2026-01-01T00:00:00Z")
    for first in (5, 15, 25):
        manifest = manifest.with_segment(segment(first, first + 9))
    return manifest


def document(manifest: Manifest) -> Any:
    return json.loads(encode(manifest))


def read(document: Any) -> Manifest:
    return decode(json.dumps(document).encode(), "EVENTS", "place")


def test_it_reads_back() -> None:
    manifest = three()
    assert decode(encode(manifest), "EVENTS", "place") == manifest
    assert (manifest.first, manifest.last, manifest.messages) == (5, 34, 30)


def test_a_segment_follows_the_one_before() -> None:
    with pytest.raises(ValueError, match="does not follow 34"):
        three().with_segment(segment(36, 40))


@pytest.mark.parametrize(
    "field", ["body_bytes", "file_bytes", "first_time_ns", "last_time_ns", "fingerprint", "sha256", "chain"]
)
def test_a_changed_segment_is_noticed(field: str) -> None:
    changed = document(three())
    value = changed["segments"][1][field]
    changed["segments"][1][field] = "cd" * 32 if isinstance(value, str) else value + 1
    with pytest.raises(ArchiveDamaged, match="segment 15 to 24"):
        read(changed)


def test_a_segment_that_is_left_out_is_noticed() -> None:
    changed = document(three())
    del changed["segments"][1]
    with pytest.raises(ArchiveDamaged, match="25 to 34 does not follow 14"):
        read(changed)


def test_segments_of_another_stream_are_noticed() -> None:
    changed = document(three())
    changed["created"] = "2026-01-02T00:00:00Z"
    with pytest.raises(ArchiveDamaged, match="was changed"):
        read(changed)
    with pytest.raises(ArchiveDamaged, match="not of BODIES"):
        decode(encode(three()), "BODIES", "place")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b'{"version":1}', b'{"version":9}', b"[" * 100_000, b"\xff"])
def test_what_is_no_manifest_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(ArchiveDamaged, match=r"^place: "):
        decode(raw, "EVENTS", "place")


def test_what_a_newer_cutor_wrote_is_refused_with_what_to_do() -> None:
    """Another version of the form, or a field that this one does not know: who writes the manifest anew would drop it."""
    with pytest.raises(
        ArchiveDamaged, match=r"^place: an archive in version 9 of its form; .* alone: use the cutor that wrote it"
    ):
        decode(b'{"version":9}', "EVENTS", "place")
    of_all, of_one = document(three()), document(three())
    of_all["colour"] = of_one["segments"][1]["colour"] = "blue"
    for changed in (of_all, of_one):
        with pytest.raises(ArchiveDamaged, match=r"^place: .*unknown field `colour`.* this cutor knows version 1 .*newer one$"):
            read(changed)


def test_what_may_be_left_out_may_be() -> None:
    """`missing`, `acknowledged` and `rules`, of which an archive of before says something and one of today nothing."""
    empty = Manifest(version=VERSION, stream="EVENTS", created="2026-01-01T00:00:00Z")
    of_today = empty.with_segment(msgspec.structs.replace(segment(5, 14), rules=""))
    assert "acknowledged" not in document(of_today)
    assert not {"missing", "rules"} & {*document(of_today)["segments"][0]}
    assert decode(encode(of_today), "EVENTS", "place") == of_today


def test_a_restored_stream_takes_the_segments_along() -> None:
    moved = three().of_stream("2026-02-02T00:00:00Z")
    assert decode(encode(moved), "EVENTS", "place") == moved
    assert moved.chain != three().chain


def test_a_gap_is_named_for_ever_and_cannot_be_hidden() -> None:
    pending = three().with_gap(36)
    assert (pending.next, pending.gaps, pending.last) == (37, [(35, 36)], 34)
    assert pending.with_gap(37).gaps == [(35, 37)]
    assert decode(encode(pending), "EVENTS", "place") == pending
    with pytest.raises(ValueError, match="does not follow 36"):
        pending.with_segment(segment(35, 40))
    passed = pending.with_segment(segment(37, 40)).with_segment(segment(41, 50)).with_gap(51)
    assert (passed.gaps, passed.next, passed.messages) == ([(35, 36), (51, 51)], 52, 44)
    assert decode(encode(passed), "EVENTS", "place") == passed
    moved = passed.of_stream("2027-01-01T00:00:00Z")
    assert (moved.gaps, moved.next) == (passed.gaps, passed.next)
    for missing in (0, 1, 3):
        changed = document(passed)
        changed["segments"][3]["missing"] = missing
        with pytest.raises(ArchiveDamaged):
            read(changed)


def test_a_gap_before_everything_cannot_be() -> None:
    empty = Manifest(version=VERSION, stream="EVENTS", created="2026-01-01T00:00:00Z")
    with pytest.raises(ValueError, match="does not lie behind"):
        empty.with_gap(5)
    with pytest.raises(ValueError, match="does not lie behind"):
        three().with_gap(34)
    with pytest.raises(ArchiveDamaged):
        read(document(empty) | {"acknowledged": 3})
    first = document(three())
    first["segments"][0]["missing"] = 4
    with pytest.raises(ArchiveDamaged):
        read(first)


def test_the_chain_of_an_archive_without_gaps_is_what_it_was() -> None:
    """Archives that were sealed before gaps could be acknowledged are read as they are."""
    assert "missing" not in encode(three()).decode()
    assert three().chain == CHAIN
