"""Views that begin with a sealed fold equal those that were folded at once: wherever segments, the fold and its pieces end."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cutor.bus.message import Stored
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.archive.fold_copy import check_copy, copy
from cutor.projections.archive.fold_sealing import manifests_of, seal_fold
from cutor.projections.archive.fold_verification import verify_fold
from cutor.projections.archive.manifest import VERSION, Manifest
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import FoldPlace
from cutor.projections.archive.segment_file import SegmentWriter
from cutor.projections.folds.gaps import Gap
from cutor.projections.store import Store
from tests.property.test_projections_incremental import both_streams, difference

STREAMS = (EVENTS, ENVIRONMENTS)
directories = itertools.count()


def seal(archive: Archive, stream: str, messages: Sequence[Stored]) -> None:
    """Seal messages as the next segment; what they leave out behind the last one counts as acknowledged."""
    manifest = archive.manifest(stream) or Manifest(version=VERSION, stream=stream, created="2026-01-01T00:00:00Z")
    if manifest.segments and messages[0].sequence > manifest.next:
        manifest = manifest.with_gap(messages[0].sequence - 1)
    with SegmentWriter(stream) as writer:
        writer.add(messages)
        with archive.draft(stream) as draft:
            archive.put_in_place(draft, writer.write(draft), manifest)


def folded_at_once(path: Path, kept: dict[str, list[Stored]], gaps: dict[str, list[Gap]]) -> None:
    store = Store.open(path)
    for stream, messages in kept.items():
        if gaps[stream]:
            store.note_gaps(stream, gaps[stream])
        if messages:
            store.apply(stream, messages)
    store.close()


@pytest.mark.timeout(900)
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_views_that_begin_with_a_fold_equal_those_that_were_folded_at_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp(f"fold-{next(directories)}")
    archive = Archive(directory / "archive")
    written = data.draw(both_streams())
    waiting = {
        stream: [
            Stored(stream, one.sequence, one.subject, one.time_ns, one.message_id, {}, one.body) for one in written[stream]
        ]
        for stream in STREAMS
    }
    kept: dict[str, list[Stored]] = {stream: [] for stream in STREAMS}
    gaps: dict[str, list[Gap]] = {stream: [] for stream in STREAMS}
    with archive.held():
        for _ in range(data.draw(st.integers(1, 6))):
            stream = data.draw(st.sampled_from(STREAMS))
            count = data.draw(st.integers(1, 9))
            if kept[stream] and len(waiting[stream]) > 1 and data.draw(st.integers(0, 4)) == 4:
                lost = waiting[stream].pop(0)
                gaps[stream].append(Gap(lost.sequence, lost.sequence, waiting[stream][0].time_ns))
            if messages := waiting[stream][:count]:
                del waiting[stream][:count]
                seal(archive, stream, messages)
                kept[stream] += messages
            pieces = data.draw(st.none() | st.integers(0, 2))
            if pieces is not None:
                more = iter([True] * pieces)
                asyncio.run(seal_fold(archive, goes_on=lambda: next(more, False)))  # noqa: B023 - it is called here alone
    place = FoldPlace(archive)
    fold = place.look(manifests_of(archive)).fold
    views = directory / "views.duckdb"
    if fold is not None:
        copy(place.path_of(fold), fold, views)
        check_copy(views, fold)
        assert [path.suffix for path in sorted(place.directory.iterdir())] == [".duckdb", ".json"]
        (directory / "scratch").mkdir()
        assert asyncio.run(verify_fold(archive, directory / "scratch")).faults == []
    store = Store.open(views)
    for stream in STREAMS:
        kept[stream] += waiting[stream]
        new = [gap for gap in gaps[stream] if gap not in store.gaps(stream)]
        if new:
            store.note_gaps(stream, new)
        rest = [one for one in kept[stream] if one.sequence > store.checkpoint(stream).sequence]
        while rest:
            count = data.draw(st.integers(1, 12))
            store.apply(stream, rest[:count])
            del rest[:count]
    store.close()
    folded_at_once(directory / "at-once.duckdb", kept, gaps)
    assert difference(views, directory / "at-once.duckdb") is None
    shutil.rmtree(directory)
