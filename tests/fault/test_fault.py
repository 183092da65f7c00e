"""Some points of `make fault`, spread over roles, server, network and start: the same rounds, the same promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.points import POINTS
from tests.fault.runner import run

CHOSEN = {
    "builder.append-leased.sent",
    "builder.append-cache-built.after",
    "builder.container-start.sent",
    "runner.append-ran.sent",
    "runner.append-finished.after",
    "runner.container-create.sent",
    "projector.commit.within",
    "projector.checkpoint.during",
    "projector.snapshot.within",
    "outside.server",
    "outside.runner-init",
    "network.runner-cut",
    "supervisor.container-remove.before",
}


@pytest.mark.timeout(900)  # a busy machine; 2 min on a quiet one
async def test_whatever_is_killed_every_submission_ends_once(tmp_path: Path) -> None:
    points = [point for point in POINTS if point.name in CHOSEN]
    assert {point.name for point in points} == CHOSEN
    printed: list[str] = []
    rows = await run(points, tmp_path, printed.append)
    assert all(row.good for row in rows), "\n".join(printed)
    assert {row.point for row in rows if row.kills + row.made} == CHOSEN
