"""What dead builders left in a store goes; what is finished, older, another build's, or behind a link stays."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cutor.nix.inside import tidying
from cutor.nix.inside.tidying import NIX_TIME_S

OUTPUT = "b" * 32 + "-output"
DERIVATION = "a" * 32 + "-x.drv"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    outputs = {"out": f"/nix/store/{OUTPUT}"}
    monkeypatch.setattr(tidying, "read_outputs", lambda _: outputs)
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def handle(store: Path) -> Iterator[int]:
    handle = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def knows_all(_: Sequence[str]) -> frozenset[str]:
    """Be a database that knows every path there is."""
    return frozenset()


def tidy(store: Path, handle: int, since_ns: int = 0, unknown: tidying.Unknown = knows_all) -> None:
    tidying.tidy(str(store), handle, since_ns, unknown)


def names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())


def finish(path: Path) -> None:
    os.utime(path, (NIX_TIME_S, NIX_TIME_S), follow_symlinks=False)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_unfinished_goes_with_its_lock_and_no_link_is_followed(
    store: Path, handle: int, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "victim").mkdir(mode=0o555)
    if kind == "file":
        (store / OUTPUT).write_text("half")
    elif kind == "directory":
        (store / OUTPUT / "deep").mkdir(parents=True)
        (store / OUTPUT / "deep/link").symlink_to(tmp_path / "victim")
        (store / OUTPUT / "deep").chmod(0)
    else:
        (store / OUTPUT).symlink_to(tmp_path / "victim")
    tidy(store, handle)
    assert names(store) == []
    assert (tmp_path / "victim").stat().st_mode & 0o777 == 0o555


@pytest.mark.parametrize("link", [False, True])
def test_what_is_finished_stays(store: Path, handle: int, link: bool) -> None:
    (store / OUTPUT).symlink_to("nowhere") if link else (store / OUTPUT).touch()
    finish(store / OUTPUT)
    tidy(store, handle)
    assert names(store) == [OUTPUT]


def test_what_was_there_before_stays(store: Path, handle: int) -> None:
    (store / OUTPUT).touch()
    tidy(store, handle, (store / OUTPUT).stat().st_ctime_ns + 1, frozenset)
    assert names(store) == [OUTPUT]


def test_what_has_nixs_time_and_its_database_does_not_know_goes(store: Path, handle: int) -> None:
    """A builder can set that time; Nix sets it before it knows that all is well."""
    others = f"{'c' * 32}-valid"
    for name in (OUTPUT, others):
        (store / name).touch()
        finish(store / name)
    asked: list[list[str]] = []

    def unknown(some: Sequence[str]) -> frozenset[str]:
        asked.append(sorted(some))
        return frozenset({OUTPUT})

    tidy(store, handle, unknown=unknown)
    assert names(store) == [others]
    assert asked == [[OUTPUT, others], [OUTPUT]], "and again, once it is locked: it may be valid by then"


def test_what_became_valid_meanwhile_stays(store: Path, handle: int) -> None:
    (store / OUTPUT).touch()
    finish(store / OUTPUT)
    answers = [frozenset({OUTPUT}), frozenset()]
    tidy(store, handle, unknown=lambda _: answers.pop(0))
    assert names(store) == [OUTPUT]
    assert answers == []


def test_what_is_no_path_of_the_store_stays(store: Path, handle: int) -> None:
    kept = [".links", ".removing-1", f"{OUTPUT}.lock", "lost+found"]
    for name in kept:
        (store / name).touch(0o600) if name.endswith(".lock") else (store / name).mkdir()
    tidy(store, handle, unknown=frozenset)
    assert names(store) == kept


def test_a_source_on_its_way_goes_once_nobody_holds_its_directory(store: Path, handle: int) -> None:
    (store / "tmp-5-0/deep").mkdir(parents=True)
    directory = os.open(store / "tmp-5-0", os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    tidy(store, handle)
    assert names(store) == ["tmp-5-0"]
    os.close(directory)
    tidy(store, handle)
    assert names(store) == []


def test_a_builders_directory_goes_whether_or_not_its_output_is_there(store: Path, handle: int) -> None:
    (store / f"{DERIVATION}.chroot/root/tmp").mkdir(parents=True)
    (store / DERIVATION).touch()
    finish(store / DERIVATION)
    tidy(store, handle)
    assert names(store) == [DERIVATION]


def test_what_another_build_is_at_work_on_stays(store: Path, handle: int) -> None:
    (store / f"{DERIVATION}.chroot/root").mkdir(parents=True)
    for name in (DERIVATION, OUTPUT):
        (store / name).touch()
    finish(store / DERIVATION)
    (store / f"{OUTPUT}.lock").touch(0o600)
    with (store / f"{OUTPUT}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tidy(store, handle, unknown=lambda some: frozenset({OUTPUT} & {*some}))
        assert names(store) == [DERIVATION, f"{DERIVATION}.chroot", OUTPUT, f"{OUTPUT}.lock"]
    tidy(store, handle)
    assert names(store) == [DERIVATION]


def test_a_lock_that_somebody_let_go_of_meanwhile_is_none(store: Path, handle: int) -> None:
    """Nix writes into it and removes its name: who opened it before holds nothing."""
    (store / OUTPUT).touch()
    (store / f"{OUTPUT}.lock").touch(0o600)
    (store / f"{OUTPUT}.lock").write_text("d")
    tidy(store, handle)
    assert names(store) == [OUTPUT, f"{OUTPUT}.lock"]


def test_a_link_in_the_place_of_a_lock_is_no_lock(store: Path, handle: int, tmp_path: Path) -> None:
    (store / OUTPUT).touch()
    (store / f"{OUTPUT}.lock").symlink_to(tmp_path / "elsewhere")
    tidy(store, handle)
    assert OUTPUT in names(store)
    assert not (tmp_path / "elsewhere").exists()


def test_what_takes_too_long_is_put_aside_for_the_next(store: Path, handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "REMOVAL_SECONDS", -1.0)
    (store / OUTPUT).mkdir()
    for number in range(20_000):
        (store / OUTPUT / str(number)).touch()
    tidy(store, handle)
    assert all(name.startswith(".removing-") for name in names(store))
