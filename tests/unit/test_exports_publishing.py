"""Publishing the views on a schedule: what hinders it is said once, in words, and tried again before the interval is over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from cutor.projections.exports import publishing as module
from cutor.projections.exports.publishing import publish, publishing
from cutor.projections.queries.executors import Moment
from cutor.projections.queries.link import Settings

if TYPE_CHECKING:
    from cutor.projections.exports.exports import Exports

AN_HOUR_S = 3600.0
PATIENCE_S = 180.0


class Files:
    """Stands for the maker of files of the views: counts those that it makes."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "made"
        self.makings = 0

    async def as_of(self) -> list[Moment]:
        return []

    @contextlib.asynccontextmanager
    async def made(self) -> AsyncIterator[tuple[Path, list[Moment]]]:
        self.makings += 1
        self.file.write_text("views")
        yield self.file, []


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def test_no_file_is_made_for_a_directory_that_is_not_there(files: Files, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="/nowhere is no directory"):
        await publish(cast("Exports", files), tmp_path / "nowhere" / "views.duckdb")
    assert files.makings == 0


async def test_a_directory_that_is_made_later_gets_the_file_before_the_interval_is_over(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    target = tmp_path / "late" / "views.duckdb"
    caplog.set_level(logging.INFO)
    settings = Settings(
        server="", name="", database="", snapshot_age_ms=0, snapshot_interval_s=AN_HOUR_S, snapshot_path=str(target)
    )
    async with asyncio.timeout(PATIENCE_S), publishing(cast("Exports", files), settings):
        while not caplog.records:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)  # a few tries more, which say nothing new
        target.parent.mkdir()
        while not target.exists():
            await asyncio.sleep(0.005)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [f"the views cannot be published at {target}: {target.parent} is no directory"]
    assert (target.read_text(), files.makings) == ("views", 1)
