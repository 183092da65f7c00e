"""A container's control group, found by its id where either version has it. Files stand for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutor.containers.control_group import PLACES, SOCKET_BYTES, SOCKETS, Watermark, limit_sockets

ID = "5f" * 32


def made(root: Path, place: int, *, watermark: str = "9000000\n", usage: str = "7000000\n") -> Path:
    """Write the two counters of a container at one of the places; return that of the watermark."""
    files = PLACES[place]
    directory = root / files.directory.format(ID)
    directory.mkdir(parents=True)
    (directory / files.usage).write_text(usage)
    (directory / files.watermark).write_text(watermark)
    return directory / files.watermark


@pytest.mark.parametrize("place", range(len(PLACES)), ids=[place.directory for place in PLACES])
def test_it_is_set_back_and_read_wherever_docker_put_the_group(tmp_path: Path, place: int) -> None:
    counter = made(tmp_path, place)
    watermark = Watermark.find(ID, tmp_path)
    assert watermark is not None
    watermark.reset()
    assert counter.read_text().startswith("0")  # what the kernel takes as: set it back
    counter.write_text("12000000\n")
    assert watermark.added_bytes() == 5_000_000
    watermark.close()


@pytest.mark.parametrize("missing", ["everything", "usage"])
def test_there_is_none_where_the_group_is_elsewhere(tmp_path: Path, missing: str) -> None:
    if missing == "usage":
        (made(tmp_path, 0).parent / PLACES[0].usage).unlink()
    assert Watermark.find(ID, tmp_path) is None


def test_a_counter_that_can_not_be_written_is_none(tmp_path: Path) -> None:
    counter = made(tmp_path, 0)
    counter.unlink()
    counter.mkdir()  # opening it for writing fails, for root too: as the kernel refuses it before Linux 6.12
    assert Watermark.find(ID, tmp_path) is None


def test_nothing_added_is_nothing_known(tmp_path: Path) -> None:
    counter = made(tmp_path, 2)
    watermark = Watermark.find(ID, tmp_path)
    assert watermark is not None
    assert watermark.added_bytes() is None  # never set back
    watermark.reset()
    counter.write_text("7000000\n")
    assert watermark.added_bytes() is None
    watermark.close()


def test_what_was_freed_meanwhile_is_what_a_stage_below_that_held_at_the_most(tmp_path: Path) -> None:
    counter = made(tmp_path, 2)
    watermark = Watermark.find(ID, tmp_path)
    assert watermark is not None
    watermark.reset()
    counter.write_text("7000000\n")
    (counter.parent / PLACES[2].usage).write_text("6400000\n")
    assert watermark.added_bytes() == 600_000
    watermark.close()


def test_sockets_are_limited_where_they_count_apart(tmp_path: Path) -> None:
    counter = made(tmp_path, 2)
    (counter.parent / SOCKETS).write_text("9223372036854771712\n")
    assert limit_sockets(ID, tmp_path)
    assert int((counter.parent / SOCKETS).read_text()) == SOCKET_BYTES


def test_sockets_are_left_alone_where_nothing_is_to_be_done(tmp_path: Path) -> None:
    assert not limit_sockets(ID, tmp_path)
