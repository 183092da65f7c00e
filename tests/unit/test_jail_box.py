"""Files in the box: never through a link, never out of it, whatever lies there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cutor.jail.inside.box import BoxError, copy_tree, remove_tree, write_file


def test_files_are_written_with_the_directories_on_their_way(tmp_path: Path) -> None:
    write_file(str(tmp_path), "a", b"1")
    write_file(str(tmp_path), "d/e/f", b"\0\xff" * 1000)
    write_file(str(tmp_path), "d/g", b"")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "d/e/f").read_bytes() == b"\0\xff" * 1000
    assert (tmp_path / "d/g").read_bytes() == b""
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o777 == 0o644


@pytest.mark.parametrize("name", ["", "/", "/etc/x", "../x", "a/../x", "a/..", ".", "a//b", "a/"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BoxError, match="not a name of a file in the box"):
        write_file(str(tmp_path), name, b"")
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed_and_files_not_overwritten(tmp_path: Path) -> None:
    root, outside = tmp_path / "box", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "directory").symlink_to(outside)
    (root / "file").symlink_to(outside / "x")
    (root / "there").write_text("old")
    for name in ("directory/x", "file", "there", "there/x"):
        with pytest.raises(BoxError, match=name):
            write_file(str(root), name, b"new")
    assert list(outside.iterdir()) == []
    assert (root / "there").read_text() == "old"


def tree(root: Path) -> dict[str, object]:
    """Return what is in a directory: kind, mode and content of each name."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        content: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (stat.filemode(mode), content)
    return found


def test_a_copy_is_the_same_without_pipes_and_follows_no_link(tmp_path: Path) -> None:
    source = tmp_path / "base"
    (source / "d/e").mkdir(parents=True)
    (source / "d/e/file").write_bytes(b"x" * 3_000_000)
    (source / "script").write_text("#!")
    (source / "script").chmod(0o750)
    (source / "d/e").chmod(0o500)
    (source / "to-root").symlink_to("/")
    (source / "dangling").symlink_to("../../nowhere")
    before = tree(source)
    os.mkfifo(source / "pipe")
    copy_tree(str(source), str(tmp_path / "copy"))
    assert tree(tmp_path / "copy") == before
    (tmp_path / "copy/script").write_text("changed")
    assert (source / "script").read_text() == "#!"


def make_deep(root: Path, name: str, levels: int) -> None:
    """Make a directory with directories in directories, each with a link."""
    fd = os.open(root, os.O_RDONLY)
    os.mkdir(name, dir_fd=fd)
    for _ in range(levels):
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, name = below, "d" * 200
        os.mkdir(name, dir_fd=fd)
        os.symlink("/", "link", dir_fd=fd)
    os.close(fd)


def depth(root: Path, name: str) -> int:
    """Return how many directories lie in each other from ``name`` on."""
    fd, levels = os.open(root / name, os.O_RDONLY), 0
    while "d" * 200 in os.listdir(fd):  # noqa: PTH208 (of a descriptor)
        assert os.readlink("link", dir_fd=fd) == "/"
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, levels = below, levels + 1
    os.close(fd)
    return levels


def test_a_copy_may_be_deeper_than_any_path_is_long(tmp_path: Path) -> None:
    make_deep(tmp_path, "base", 500)
    copy_tree(str(tmp_path / "base"), str(tmp_path / "copy"))
    assert depth(tmp_path, "copy") == 500
    for name in ("base", "copy"):  # no tool of the tests' can
        remove_tree(str(tmp_path), name)


def test_a_copy_keeps_holes_and_modes_and_takes_no_more_than_there_is(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "d/e").mkdir(parents=True)
    with (base / "d/holes").open("wb") as file:
        for at in (1 << 20, 1 << 30):
            file.seek(at)
            file.write(b"data")
        file.truncate(1 << 40)
    (base / "d/e").chmod(0)
    (base / "d").chmod(0o311)
    base.chmod(0)
    copy_tree(str(base), str(tmp_path / "copy"))
    copied = tmp_path / "copy/d/holes"
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("base", "copy", "copy/d", "copy/d/e")] == [
        *(0, 0o755, 0o311, 0),
    ]
    facts = copied.stat()
    assert (facts.st_size, facts.st_blocks) == (1 << 40, (base / "d/holes").stat().st_blocks)
    with copied.open("rb") as file:
        file.seek(1 << 30)
        assert file.read(6) == b"data\0\0"


def test_a_tree_is_removed_however_deep_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    make_deep(tmp_path, "box", 3000)  # deeper than any path can be long
    (tmp_path / "box/to-kept").symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / "box/pipe")
    (tmp_path / "box/file").write_text("x")
    (tmp_path / "box/file").chmod(0)
    remove_tree(str(tmp_path), "box")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept/file").read_text() == "x"
