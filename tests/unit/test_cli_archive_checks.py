"""What doctor says of an archive that is behind, and of limits and disks that fill up."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutor.cli.checks.archive import judge_archive
from cutor.cli.checks.storage import Filled, check_disks, filled, judge_disk, judge_storage
from cutor.projections.archive.manifest import VERSION, Manifest
from cutor.projections.archive.reports import StreamReport
from cutor.projections.settings import ArchiveSettings
from tests.unit.test_archive_manifest import three

GIB = 1 << 30
HOUR_NS = 3600 * 10**9
NOW_S = 1_000_000.0
NOW_NS = int(NOW_S * 1e9)
SETTINGS = ArchiveSettings(directory="/srv/archive", segment_age_s=3600, interval_s=600)


def test_an_archive_that_keeps_up_is_well() -> None:
    young = StreamReport(three(), 5, NOW_NS - HOUR_NS, 1)
    nothing = StreamReport(Manifest(version=VERSION, stream="BODIES", created="x"), 0, None, 1)
    found = judge_archive([young, nothing], SETTINGS, NOW_S)
    assert (found.verdict, found.detail) == ("ok", "sealed are EVENTS up to 34")
    assert judge_archive([nothing], SETTINGS, NOW_S).detail == "nothing is old enough to be sealed"


def test_an_archive_that_is_behind_is_warned_of() -> None:
    found = judge_archive([StreamReport(three(), 5, NOW_NS - 7 * HOUR_NS, 1)], SETTINGS, NOW_S)
    assert (found.verdict, found.detail) == ("warn", "not sealed are 5 of EVENTS, the oldest for 7 h")
    assert "`cutor archive seal`" in found.remedy


def test_what_was_acknowledged_as_missing_stays_in_mind() -> None:
    found = judge_archive([StreamReport(three().with_gap(36), 0, None, 1)], SETTINGS, NOW_S)
    assert (found.verdict, found.detail) == ("warn", "sealed without what was acknowledged as missing: 35 to 36 of EVENTS")


@pytest.mark.parametrize(("used", "verdict"), [(10, "ok"), (79, "ok"), (80, "warn"), (96, "warn"), (97, "fail"), (200, "fail")])
def test_a_limit_that_fills_up_is_foreseen(used: int, verdict: str) -> None:
    info = {"storage": used * GIB, "limits": {"max_storage": 100 * GIB}}
    found = judge_storage(filled(info, {}))
    assert found
    assert found.verdict == verdict
    assert f"{used}.0 GiB of 100.0 GiB, {used} %" in found.detail


def test_a_stream_that_forgets_when_it_is_full_is_no_concern() -> None:
    def stream(discard: str, max_bytes: int) -> dict[str, dict[str, object]]:
        return {"config": {"discard": discard, "max_bytes": max_bytes}, "state": {"bytes": 90}}

    info = {"storage": 1, "limits": {"max_storage": -1}}
    assert filled(info, {"DEADLETTERS": stream("old", 100), "BODIES": stream("new", -1)}) == []
    assert filled(info, {"EVENTS": stream("new", 100)}) == [Filled("EVENTS", 90, 100)]
    assert judge_storage([]) is None


def test_a_disk_is_told_of_once(tmp_path: Path) -> None:
    assert list(check_disks(tmp_path, {"views": tmp_path / "not" / "there", "archive": tmp_path})) == []
    found = list(check_disks(tmp_path, {"views": Path("/dev/shm"), "archive": Path("/dev/shm/archive")}))
    assert [one.what for one in found] == ["views disk"]
    assert judge_disk("archive", Filled("/srv/archive", 90, 100)).verdict == "warn"
    assert judge_disk("archive", Filled("/srv/archive", 10, 100)).verdict == "ok"
