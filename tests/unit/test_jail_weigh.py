"""What a box is believed to hold, from trees as user code may leave them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutor.jail.inside import weigh as weigh_module
from cutor.jail.inside.box import INODE_BYTES, remove_tree
from cutor.jail.inside.weigh import NAME_BYTES, NODE_BITS, NODE_BYTES, PAGE_BYTES, index_nodes, weigh

NAMES = 5000
"""What the file system says it holds, whatever a test makes."""
PAGES_BYTES = 7 * 4096
UNSEEN_BYTES = PAGES_BYTES + NAMES * NAME_BYTES
FILE_BYTES = INODE_BYTES - NAME_BYTES
"""How much more a file weighs that was seen."""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty box on a file system that says it holds `NAMES`."""
    facts = SimpleNamespace(f_blocks=10, f_bfree=3, f_frsize=4096, f_files=NAMES + 1, f_ffree=1)
    monkeypatch.setattr(os, "statvfs", lambda _: facts)
    path = tmp_path / "base"
    path.mkdir()
    yield path
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o700)


def files_of(box: Path) -> int:
    """Return how many files were seen, the box itself included."""
    return (weigh(str(box)) - UNSEEN_BYTES) // FILE_BYTES


def test_few_files_are_not_looked_at(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weigh_module, "FEW_FILES", NAMES)
    assert weigh(str(box)) == PAGES_BYTES + NAMES * INODE_BYTES


def test_a_file_counts_once_whatever_its_names(box: Path) -> None:
    (box / "deeper").mkdir()
    (box / "one").touch()
    for number in range(30):
        (box / "deeper" / str(number)).hardlink_to(box / "one")
    assert files_of(box) == 3


def test_long_names_and_links_take_more(box: Path) -> None:
    (box / ("x" * 31)).touch()
    short = weigh(str(box))
    (box / ("y" * 200)).touch()
    assert weigh(str(box)) - short == FILE_BYTES + 256
    (box / "link").symlink_to("z" * 50)
    assert weigh(str(box)) - short == 2 * FILE_BYTES + 256 + 51


def test_no_link_is_followed_and_no_depth_is_too_much(box: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(50):
        (outside / str(number)).touch()
    (box / "link").symlink_to(outside)
    here = os.open(box, os.O_RDONLY)
    for _ in range(1500):  # deeper than any path may be long, or Python may recurse
        os.mkdir("deeper", dir_fd=here)
        below = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert files_of(box) == 1 + 1 + 1500
    remove_tree(str(box.parent), box.name)
    box.mkdir()


def test_directories_beside_each_other_are_all_looked_at(box: Path) -> None:
    for number in range(5):
        for inner in range(number):
            (box / f"{number}" / f"{inner}").mkdir(parents=True)
            (box / f"{number}" / f"{inner}" / "file").touch()
    assert files_of(box) == 1 + 4 + 10 + 10


def test_what_refuses_to_be_read_is_read_and_left_as_it_was(box: Path) -> None:
    closed = box / "closed"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(0o070)
    box.chmod(0)
    assert files_of(box) == 3
    assert stat.S_IMODE(box.stat().st_mode) == 0
    box.chmod(0o700)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o070


def test_no_more_files_are_believed_than_the_file_system_has(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weigh_module, "FEW_FILES", 0)
    facts = SimpleNamespace(f_blocks=0, f_bfree=0, f_frsize=4096, f_files=2, f_ffree=0)
    monkeypatch.setattr(os, "statvfs", lambda _: facts)
    for number in range(10):
        (box / str(number)).touch()
    assert weigh(str(box)) == 2 * INODE_BYTES


GAPS = st.sampled_from([1, 2, 63, 64, 65, 4095, 4096, 1 << 18])
PAGES = st.lists(st.tuples(GAPS, st.sampled_from([1, 2, 64, 130])), max_size=8)


@given(PAGES)
def test_nodes_of_an_index_are_counted_as_the_kernel_makes_them(gaps: list[tuple[int, int]]) -> None:
    extents, at = [], 0
    for gap, length in gaps:
        extents.append((at, at + length))
        at += length + gap
    pages = [page for start, end in extents for page in range(start, end)]
    levels = -(-max(pages, default=0).bit_length() // NODE_BITS)
    assert index_nodes(extents) == sum(len({page >> NODE_BITS * (level + 1) for page in pages}) for level in range(levels))


@pytest.mark.parametrize("mode", [0o600, 0])
def test_pages_far_from_each_other_take_more(box: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    monkeypatch.setattr(weigh_module, "FEW_PAGES", 0)
    with (box / "dense").open("wb") as file:
        file.write(b"x" * PAGE_BYTES)
    dense = weigh(str(box))
    with (box / "sparse").open("wb") as file:
        for number in range(100):
            file.seek(number * 64 * PAGE_BYTES)
            file.write(b"x")
    (box / "sparse").chmod(mode)
    nodes = 100 + 2 + 1  # for each page, each 64 of those, and all
    assert weigh(str(box)) - dense == FILE_BYTES + nodes * NODE_BYTES
    assert stat.S_IMODE((box / "sparse").stat().st_mode) == mode
