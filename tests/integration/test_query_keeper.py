"""The projector's side of the query service, with a service that does not what it should."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cutor.process.measures import Measures
from cutor.projections.queries import keeper
from cutor.projections.queries.keeper import answering
from cutor.projections.queries.link import Settings
from cutor.projections.views_paths import beside
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

ASKED_BEFORE_IT_IS_READY = """
import pathlib, socket, sys, time
link = socket.socket(fileno=0).makefile("rwb", 0)
link.readline()
link.write(b'{"type":"hold"}\\n')
link.readline()
link.write(b'{"type":"ready"}\\n{"type":"release"}\\n{"type":"hold"}\\n')
link.readline()
pathlib.Path(sys.argv[1], "held").touch()
time.sleep(600)
"""
DOES_NOT_END = """
import pathlib, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
link = socket.socket(fileno=0).makefile("rwb", 0)
link.readline()
for name in ("snapshot", "snapshot.wal", "export"):
    pathlib.Path(sys.argv[1], "views.duckdb." + name).touch()
link.write(b'{"type":"ready"}\\n')
time.sleep(600)
"""
SETTINGS = Settings(server="", name="", database="", snapshot_age_ms=0, snapshot_interval_s=0.0, snapshot_path="")


async def nothing_has_come() -> None:
    """All is committed."""


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    writer = Writer(tmp_path / "views.duckdb")
    await writer.open()
    yield writer
    await writer.close()


@pytest.mark.parametrize("program", [HANGS, TALKS_NONSENSE])
async def test_a_service_that_hangs_is_ended_and_lets_the_views_go(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    monkeypatch.setattr(keeper, "PROGRAM", ["-c", program, str(tmp_path)])
    monkeypatch.setattr(keeper, "HOLD_S", 0.1)
    monkeypatch.setattr(keeper, "READY_S", 0.0)
    async with answering(SETTINGS, writer, Measures(), nothing_has_come):
        deadline = time.monotonic() + PATIENCE_S
        while "the query service ended" not in caplog.text:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    async with asyncio.timeout(PATIENCE_S):  # who copies holds a lock: it is free again
        await writer.steady_version()
    assert (tmp_path / "held").exists()


async def test_a_question_that_comes_before_the_service_is_ready_does_not_end_it(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "PROGRAM", ["-c", ASKED_BEFORE_IT_IS_READY, str(tmp_path)])
    async with answering(SETTINGS, writer, Measures(), nothing_has_come):
        async with asyncio.timeout(PATIENCE_S):
            while not (tmp_path / "held").exists():
                await asyncio.sleep(0.02)
        assert "ended" not in caplog.text


async def test_a_service_that_has_to_be_killed_leaves_no_copies(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "PROGRAM", ["-c", DOES_NOT_END, str(tmp_path)])
    monkeypatch.setattr(keeper, "END_S", 0.1)
    async with answering(msgspec.structs.replace(SETTINGS, database=str(writer.path)), writer, Measures(), nothing_has_come):
        copies = [beside(writer.path, name) for name in ("snapshot", "snapshot.wal", "export")]
        assert all(path.exists() for path in copies)
    assert not any(path.exists() for path in copies)


async def test_a_copy_that_is_cancelled_as_it_begins_holds_nothing(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning runs on in the thread: without its end no checkpoint would ever be made again."""
    store, begun, go_on = writer._open_store(), threading.Event(), threading.Event()
    begin_copy = store.begin_copy

    def slowly() -> int:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return begin_copy()

    async def copy() -> None:
        async with writer.copying():
            raise AssertionError("it was cancelled before")

    monkeypatch.setattr(store, "begin_copy", slowly)
    task = asyncio.create_task(copy())
    assert await asyncio.to_thread(begun.wait, PATIENCE_S)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    await writer.settle()
    assert store._copies == 0
