"""Where readings leave the same out again and again, pauses grow, and the views say so."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.errors import LeftOut
from cutor.projections.rereading import Rereading
from cutor.projections.writer import Writer
from tests.bench.lives import lives


async def test_views_that_have_come_behind_it_lack_nothing(tmp_path: Path) -> None:
    """Those of a rebuild that are put in their place, or what an archive gave."""
    writer = Writer(tmp_path / "views.duckdb")
    await writer.open()
    try:
        rereading, left = Rereading(writer), LeftOut(EVENTS, "5 to 6", 5)
        for _ in range(2):
            await rereading.note(left)
        await writer.apply(EVENTS, list(islice(lives(6), 4)))
        assert rereading.reason(EVENTS) is not None
        await writer.apply(EVENTS, list(islice(lives(6), 4, 6)))
        assert rereading.reason(EVENTS) is None
        assert await rereading.note(LeftOut(EVENTS, "8", 8)) == 1
    finally:
        await writer.close()


async def test_pauses_grow_until_something_is_folded(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "views.duckdb")
    await writer.open()
    try:
        rereading, left = Rereading(writer), LeftOut(EVENTS, "5 to 6", 5)
        assert await rereading.note(left) == 1
        assert rereading.reason(EVENTS) is writer.waits_for(EVENTS) is None
        assert [await rereading.note(left) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
        assert rereading.reason(EVENTS) == writer.waits_for(EVENTS) == f"{left}; 8 readings in a row have"
        assert await rereading.note(LeftOut(ENVIRONMENTS, "1", 1)) == 1
        await rereading.folded(EVENTS)
        assert rereading.reason(EVENTS) is writer.waits_for(EVENTS) is None
        assert await rereading.note(left) == 1
        assert [await rereading.note(LeftOut(ENVIRONMENTS, "1", 1)) for _ in range(2)] == [2, 4]
        rereading.forget()
        assert rereading.reason(ENVIRONMENTS) is None
        assert await rereading.note(LeftOut(ENVIRONMENTS, "1", 1)) == 1
    finally:
        await writer.close()
