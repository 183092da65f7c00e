"""Where readings leave the same out again and again, pauses grow, and the views say so."""

from __future__ import annotations

from pathlib import Path

from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.errors import LeftOut
from cutor.projections.rereading import Rereading
from cutor.projections.writer import Writer


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
    finally:
        await writer.close()
