"""Reading what a jail left: only a regular file of bounded size, and never a wait."""

import os
from pathlib import Path

import pytest

from cutor.nix.inside.files import FilesError, read_file
from cutor.nix.inside.store import find_program


def test_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert read_file(f"{tmp_path}/file", 4) == b"1234"
    assert read_file(f"{tmp_path}/missing", 4) is None
    with pytest.raises(FilesError, match="larger than 3 bytes"):
        read_file(f"{tmp_path}/file", 3)


def test_anything_else_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("link", "pipe", "directory"):
        with pytest.raises(FilesError):
            read_file(f"{tmp_path}/{name}", 4)


@pytest.mark.parametrize("directory", ["/bin", "/usr/bin", "/nix/store", "/nix/store/a/../../../bin", "", "relative"])
def test_a_program_outside_of_the_closure_is_none(directory: str) -> None:
    assert find_program("sh", [directory], frozenset({"/nix/store/a", "/bin", ""})) is None
