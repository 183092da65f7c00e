"""What a box is believed to hold, from trees as user code may leave them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cutor.jail.inside import weigh as weigh_module
from cutor.jail.inside.box import INODE_BYTES
from cutor.jail.inside.weigh import NAME_BYTES, weigh

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


def test_no_link_is_followed_and_no_depth_is_too_much(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(50):
        (outside / str(number)).touch()
    (box / "link").symlink_to(outside)
    monkeypatch.setattr(weigh_module, "MAX_DEPTH", 3)
    (box / "1/2/3/4/5/6").mkdir(parents=True)
    assert files_of(box) == 1 + 1 + 4


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
