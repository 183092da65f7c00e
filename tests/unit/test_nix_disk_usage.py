"""How much trees of files take: every file once, by no link, as deep as descriptors reach, whatever vanishes meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutor.nix.inside import disk_usage
from cutor.nix.inside.disk_usage import ENTRY_BYTES, MAX_DEPTH, Tally, TooDeep, count_tree, free_bytes


def counted(parent: Path, name: str) -> int:
    tally = Tally()
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in count_tree(tally, handle, name):
            continue
    finally:
        os.close(handle)
    return tally.total_bytes


def test_a_file_counts_as_its_blocks_and_as_something_where_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_bytes(bytes(1 << 20))
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 30)
    assert counted(tmp_path, "empty") == ENTRY_BYTES
    assert counted(tmp_path, "full") >= 1 << 20
    assert counted(tmp_path, "sparse") < 1 << 20


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert counted(tmp_path, "nothing") == 0


def test_a_tree_is_the_sum_of_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "tree/deep/er").mkdir(parents=True)
    for name in ("a", "deep/b", "deep/er/c"):
        (tmp_path / "tree" / name).touch()
    assert counted(tmp_path, "tree") == 6 * ENTRY_BYTES


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_bytes(bytes(1 << 20))
    once = counted(tmp_path, "tree")
    for number in range(20):
        os.link(tmp_path / "tree/a", tmp_path / f"tree/{number}")
    assert counted(tmp_path, "tree") == once


def test_only_so_many_files_with_several_names_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_usage, "MAX_LINKED", 1)
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tree" / name).touch()
        os.link(tmp_path / "tree" / name, tmp_path / f"tree/{name}2")
    assert counted(tmp_path, "tree") == ENTRY_BYTES * (1 + 1 + 2)


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/big").write_bytes(bytes(1 << 20))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/there").symlink_to(tmp_path / "outside")
    (tmp_path / "top").symlink_to(tmp_path / "outside")
    assert counted(tmp_path, "tree") < 1 << 20
    assert counted(tmp_path, "top") == ENTRY_BYTES


def test_a_directory_that_becomes_a_link_while_it_is_entered_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/big").write_bytes(bytes(1 << 20))
    (tmp_path / "tree/inner").mkdir(parents=True)
    opened = os.open

    def swapped(path: str, *args: int, **kwargs: int) -> int:
        if path == "inner":
            (tmp_path / "tree/inner").rmdir()
            (tmp_path / "tree/inner").symlink_to(tmp_path / "outside")
        return opened(path, *args, **kwargs)

    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    monkeypatch.setattr(os, "open", swapped)
    tally = Tally()
    for _ in count_tree(tally, handle, "tree"):
        continue
    assert tally.total_bytes < 1 << 20
    os.close(handle)


def test_it_pauses_so_that_others_get_their_turn(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(640):
        (tmp_path / f"tree/{number}").touch()
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert len(list(count_tree(Tally(), handle, "tree"))) == 10
    os.close(handle)


def test_what_vanishes_meanwhile_is_passed_over_and_no_descriptor_is_left(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(200):
        (tmp_path / f"tree/{number}").mkdir()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    counting = count_tree(Tally(), handle, "tree")
    next(counting)
    for path in (tmp_path / "tree").iterdir():
        path.rmdir()
    assert list(counting) is not None
    abandoned = count_tree(Tally(), handle, "tree")
    list(abandoned)
    os.close(handle)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_too_deep_is_said_and_not_passed_over(tmp_path: Path) -> None:
    deepest = tmp_path / "/".join(["d"] * MAX_DEPTH)
    deepest.mkdir(parents=True)
    assert counted(tmp_path, "d") == MAX_DEPTH * ENTRY_BYTES
    (deepest / "d").mkdir()
    with pytest.raises(TooDeep):
        counted(tmp_path, "d")


def test_what_is_free_is_bounded_by_files_where_those_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(files: int, free_files: int) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 1000, 900, 800, files, free_files, free_files, 0, 255))

    monkeypatch.setattr(os, "statvfs", lambda _: facts(100, 10))
    assert free_bytes("/") == 10 * ENTRY_BYTES
    monkeypatch.setattr(os, "statvfs", lambda _: facts(10_000, 9_000))
    assert free_bytes("/") == 800 * 4096
    monkeypatch.setattr(os, "statvfs", lambda _: facts(0, 0))
    assert free_bytes("/") == 800 * 4096
