"""What an init knows of its environment's paths: which is missing before the first stage, and which went or changed after."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutor.jail.inside.closure import STORE_TIME_NS, UNFINISHED, look_at, vanished


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A directory, a file and a link that leads nowhere: all three can be store paths."""
    directory, file, link = (tmp_path / name for name in ("directory", "file", "link"))
    directory.mkdir()
    file.write_text("as built")
    link.symlink_to("nowhere")
    for path in (directory, file, link):
        finish(path)
    return [directory, file, link]


def finish(path: Path) -> None:
    """Give a path the time of a finished store path."""
    os.utime(path, ns=(0, STORE_TIME_NS), follow_symlinks=False)


def closure(paths: list[Path]) -> bytes:
    return "\n".join(map(str, paths)).encode()


def test_the_first_path_that_is_missing_is_named(paths: list[Path], tmp_path: Path) -> None:
    assert look_at(closure(paths))[1] is None
    assert look_at(b"")[1] is None
    gone, later = tmp_path / "gone", tmp_path / "gone too"
    assert look_at(closure([paths[0], gone, later])) == ([], str(gone))


def test_what_is_as_it_was_has_not_vanished(paths: list[Path]) -> None:
    looked, _ = look_at(closure(paths))
    assert vanished(looked) is None


@pytest.mark.parametrize("number", range(3))
def test_what_went_is_named(paths: list[Path], number: int) -> None:
    looked, _ = look_at(closure(paths))
    one = paths[number]
    one.rmdir() if one.is_dir() else one.unlink()
    assert vanished(looked) == str(one)


def test_what_was_made_anew_meanwhile_is_named_too(paths: list[Path], tmp_path: Path) -> None:
    looked, _ = look_at(closure(paths))
    (tmp_path / "new").write_text("as built")
    finish(tmp_path / "new")
    (tmp_path / "new").rename(paths[1])
    assert vanished(looked) == str(paths[1])


def test_a_directory_whose_removal_has_begun_is_named(paths: list[Path]) -> None:
    (paths[0] / "bin").mkdir()
    finish(paths[0])
    looked, _ = look_at(closure(paths))
    (paths[0] / "bin").rmdir()
    assert vanished(looked) == str(paths[0])


@pytest.mark.parametrize("number", range(3))
def test_a_path_that_is_being_written_is_not_there_yet(paths: list[Path], number: int) -> None:
    """Or was written halfway by a fetch that was killed, or wholly by one that Nix refused in the end."""
    os.utime(paths[number], follow_symlinks=False)
    assert look_at(closure(paths)) == ([], f"{paths[number]}{UNFINISHED}")
    finish(paths[number])
    assert look_at(closure(paths))[1] is None


@pytest.mark.parametrize("number", range(3))
def test_what_a_builder_made_and_nix_did_not_take_is_not_there(
    paths: list[Path], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have the time of a finished path, which its builder set before it failed; its owner is the builder's user."""
    monkeypatch.setattr("cutor.jail.inside.closure._owner_of", lambda _: paths[number].lstat().st_uid + 1)
    assert look_at(closure([paths[number]])) == ([], f"{paths[number]}{UNFINISHED}")
