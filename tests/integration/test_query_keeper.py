"""The projector's side of the query service, with a service that does not what it should."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cutor.projections import query_keeper
from cutor.projections.query_keeper import answering
from cutor.projections.query_link import Settings
from cutor.projections.writer import Writer
from tests.integration.projecting import PATIENCE_S

HANGS = """
import pathlib, socket, sys, time
link = socket.socket(fileno=0).makefile("rwb", 0)
link.readline()
link.write(b'{"type":"hold"}\\n')
pathlib.Path(sys.argv[1], "held").write_bytes(link.readline())
time.sleep(600)
"""
TALKS_NONSENSE = """
import pathlib, socket, sys, time
link = socket.socket(fileno=0).makefile("rwb", 0)
link.readline()
pathlib.Path(sys.argv[1], "held").touch()
link.write(b'nonsense\\n')
time.sleep(600)
"""


@pytest.mark.parametrize("program", [HANGS, TALKS_NONSENSE])
async def test_a_service_that_hangs_is_ended_and_lets_the_views_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    monkeypatch.setattr(query_keeper, "PROGRAM", ["-c", program, str(tmp_path)])
    monkeypatch.setattr(query_keeper, "HOLD_S", 0.1)
    monkeypatch.setattr(query_keeper, "READY_S", 0.0)
    settings = Settings(server="", name="", database="", snapshot_age_ms=0, snapshot_interval_s=0.0, snapshot_path="")
    writer = Writer(tmp_path / "views.duckdb")
    await writer.open()
    try:
        async with answering(settings, writer):
            deadline = time.monotonic() + PATIENCE_S
            while "the query service ended" not in caplog.text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        async with asyncio.timeout(PATIENCE_S):  # who copies holds a lock: it is free again
            await writer.steady_version()
    finally:
        await writer.close()
    assert (tmp_path / "held").exists()
