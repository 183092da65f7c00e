"""A segment of the largest size is written, compared and read within the memory that is meant for it."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from cutor.bus.message import Stored
from cutor.config import InvalidConfig, parse
from cutor.projections.archive import segment_file
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveUnusable
from cutor.projections.archive.segment_file import LARGEST_BYTES, SegmentWriter, messages_of, row_group, totals_of

SCALE = 8
"""All sizes are an eighth of what they are."""


def incompressible(count: int, size: int) -> list[Stored]:
    return [Stored("BODIES", number, "cutor.body.x.0", number, None, {}, os.urandom(size)) for number in range(1, count + 1)]


@pytest.mark.parametrize("body_bytes", [512 << 10, 4 << 20])
def test_the_largest_segment_fits(body_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "MEMORY_BYTES", segment_file.MEMORY_BYTES // SCALE)
    messages = incompressible(LARGEST_BYTES // SCALE // body_bytes + 1, body_bytes)
    draft = tmp_path / "draft"
    with SegmentWriter("BODIES") as writer:
        for message in messages:
            writer.add([message])
        writer.write(draft)
    assert totals_of(draft).messages == len(messages)
    assert [one for batch in messages_of("BODIES", draft, 1, len(messages)) for one in batch] == messages


def test_large_messages_are_compressed_few_at_a_time(tmp_path: Path) -> None:
    """So that who reads some of them decompresses hardly more."""
    messages = [Stored("EVENTS", number, "s", number, None, {}, bytes(8 << 10)) for number in range(1, 5001)]
    with SegmentWriter("EVENTS") as writer:
        writer.add(messages)
        writer.write(tmp_path / "draft")
    with duckdb.connect() as connection:
        sql = "SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata($1) ORDER BY ALL"
        groups = connection.execute(sql, [str(tmp_path / "draft")]).fetchall()
    assert groups == [(0, 2048), (1, 2048), (2, 904)]


@pytest.mark.parametrize(
    ("messages", "body_bytes", "rows"),
    [(250_000, 250_000 * 100, 40_960), (250_000, 250_000 * 438, 36_864), (10, 80 << 20, 2048), (1, 0, 40_960)],
)
def test_a_group_is_bounded_by_messages_and_bytes(messages: int, body_bytes: int, rows: int) -> None:
    assert row_group(messages, body_bytes) == rows


def test_what_does_not_fit_into_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "MEMORY_BYTES", 16 << 20)
    many = incompressible(5000, 20 << 10)
    with SegmentWriter("BODIES") as writer, pytest.raises(ArchiveUnusable, match="a segment cannot be taken into memory"):
        writer.add(many)


def test_a_larger_one_is_refused_by_the_configuration() -> None:
    parse(f"[archive]\nsegment_bytes = {LARGEST_BYTES}\n".encode(), "c")
    with pytest.raises(InvalidConfig, match=r"archive\.segment_bytes"):
        parse(f"[archive]\nsegment_bytes = {LARGEST_BYTES + 1}\n".encode(), "c")


def test_a_file_whose_messages_are_in_disorder_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT range AS sequence, range AS time_ns, 'x' AS subject, NULL::VARCHAR AS message_id, "
            f"NULL::VARCHAR AS headers, 'x'::BLOB AS body FROM range(5, 0, -1)) TO '{path}' (FORMAT parquet)"
        )
    with pytest.raises(ArchiveDamaged, match="it has 4 behind 5"):
        list(messages_of("EVENTS", path, 1, 5))
