"""How a copy to or from a cache ends, as a store container tells it: real programs in the place of Nix's own."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from cutor.nix.inside import cache, nix, store
from cutor.nix.inside.cache import CopyRefused
from cutor.nix.inside.store import BuildsLock

FULL = "echo \"error: writing to file '/nix/store/x': No space left on device\" >&2; exit 1"
OTHER = "echo \"error: path '/nix/store/x' is not in the cache\" >&2; exit 1"


def copied(script: str, lock: BuildsLock | None = None, seconds: float = 60.0) -> None:
    gives_way = (lambda: lock.wanted) if lock is not None else (lambda: False)
    cache._copy(["/bin/sh", "-c", script], (), seconds, lambda _: None, gives_way)


@pytest.fixture
def turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The lock that who wants to be alone takes first; nobody has it."""
    monkeypatch.setattr(store, "TURN", tmp_path / "turn")
    return os.open(tmp_path / "turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def share(tmp_path: Path) -> BuildsLock:
    handle = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return BuildsLock(handle)


@pytest.mark.parametrize(("script", "cause"), [(FULL, "no-room"), (OTHER, "nix")])
def test_only_a_full_volume_is_told_as_one(script: str, cause: str) -> None:
    with pytest.raises(CopyRefused) as caught:
        copied(script)
    assert caught.value.cause == cause


def test_a_copy_goes_on_while_nobody_waits_to_be_alone(turn: int, tmp_path: Path) -> None:
    lock = share(tmp_path)
    fcntl.flock(turn, fcntl.LOCK_SH)  # as builds hold it that begin
    copied("exit 0", lock)
    assert not lock.wanted


def test_a_copy_that_hangs_gives_way_to_who_waits_to_be_alone(turn: int, tmp_path: Path) -> None:
    lock = share(tmp_path)
    fcntl.flock(turn, fcntl.LOCK_EX)
    with pytest.raises(CopyRefused) as caught:
        copied("exec sleep 600", lock)
    assert caught.value.cause == "gives-way"


def test_a_copy_that_talks_without_end_is_stopped_for_its_time() -> None:
    with pytest.raises(CopyRefused, match="it took longer than 1 s"):
        copied("trap 'exit 1' INT; while :; do echo copying >&2; done", seconds=1.0)


def test_what_is_gone_from_the_store_is_not_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cache, "SECRET", str(tmp_path / "secret"))
    with pytest.raises(CopyRefused, match="/nix/store/gone is not in the store any more") as caught:
        cache.publish("file:///cache", b"key", ["/nix/store/gone"], 1.0, lambda _: None, share(tmp_path))
    assert caught.value.cause == "gone"
    assert not (tmp_path / "secret").exists()


UNREACHED = "echo \"error: unable to download 'http://c/x.narinfo': Could not connect to server (7)\" >&2; exit 1"
UNSIGNED = "echo \"error: cannot add path '/nix/store/x' because it lacks a signature by a trusted key\" >&2; exit 1"
RETRIED = f"{UNREACHED.removesuffix('; exit 1').replace('error', 'warning')}; {UNSIGNED}"
CORRUPT = "echo \"error: NAR info file 'x.narinfo' is corrupt\" >&2; exit 1"
NO_CACHE = "echo \"error: 'http://c' does not appear to be a binary cache\" >&2; exit 1"
PATH = "/nix/store/" + "a" * 32 + "-made"
HAS, HAS_NOT = (f"echo '{json.dumps({PATH: what})}'" for what in ({}, None))


def stand_in(place: Path, monkeypatch: pytest.MonkeyPatch, copy: str, path_info: str, info: str) -> None:
    """Put scripts in the place of Nix's own programs; the store's database promises nothing that is not there."""
    program = place / "nix"
    program.write_text(f'#!/bin/sh\ncase "$*" in\n*" copy "*) {copy};;\n*path-info*) {path_info};;\n*) {info};;\nesac\n')
    program.chmod(0o755)
    monkeypatch.setattr(nix, "NIX", (str(program), "--extra-experimental-features", "nix-command"))
    monkeypatch.setattr(cache, "COPY", (str(program), "--flags", "copy"))
    monkeypatch.setattr(cache, "PROBE_SECONDS", 1.0)
    monkeypatch.setattr(cache, "_TIMEOUT", ("/usr/bin/timeout", "--signal=KILL", "1"))
    monkeypatch.setattr(cache, "_promised", lambda _paths: [])


@pytest.mark.parametrize(
    ("copy", "path_info", "info", "cause", "message"),
    [
        (UNREACHED, UNREACHED, UNREACHED, "away", "unable to download"),
        (UNREACHED, "exec sleep 600", "exec sleep 600", "away", "unable to download"),
        (UNREACHED, UNREACHED, "exit 0", "away", "unable to download"),
        (UNREACHED, HAS_NOT, "exit 0", "nix", "the cache lacks made"),
        (UNREACHED, HAS, "exit 0", "away", "unable to download"),
        (RETRIED, HAS, "exit 0", "nix", "lacks a signature"),
        (UNSIGNED, HAS, "exit 0", "nix", "lacks a signature"),
        (CORRUPT, CORRUPT, "exit 0", "nix", "is corrupt"),
        (NO_CACHE, NO_CACHE, NO_CACHE, "nix", "does not appear to be a binary cache"),
    ],
)
def test_only_a_cache_that_says_nothing_is_told_as_away(
    copy: str, path_info: str, info: str, cause: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, copy, path_info, info)
    with pytest.raises(CopyRefused, match=message) as caught:
        cache.fetch("http://c", ["k"], [PATH], 60.0, lambda _: None, share(tmp_path))
    assert caught.value.cause == cause


def test_a_mounted_cache_that_may_not_be_read_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOUNT", tmp_path / "nowhere")
    with pytest.raises(CopyRefused, match="has no access to it") as caught:
        cache.probe(cache.MOUNTED, write=False)
    assert caught.value.cause == "away"


@pytest.mark.parametrize(
    ("path_info", "info", "path", "cause"),
    [
        (UNREACHED, "exit 0", "", None),
        (UNREACHED, "exit 0", PATH, "away"),
        ("exec sleep 600", "exit 0", PATH, "away"),
        (f"{UNREACHED.removesuffix('exit 1')} exit 0", "exit 0", PATH, None),
        (OTHER, "exit 0", PATH, None),
        (CORRUPT, "exit 0", PATH, None),
        ("exit 0", UNREACHED, PATH, "away"),
        ("exit 0", NO_CACHE, PATH, "nix"),
    ],
)
def test_a_cache_is_asked_for_a_path_too_where_one_is_given(
    path_info: str, info: str, path: str, cause: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says of itself, which never changes, may come from a proxy. That it lacks the path is an answer."""
    stand_in(tmp_path, monkeypatch, "exit 1", path_info, info)
    if cause is None:
        cache.probe("http://c", write=False, path=path)
        return
    with pytest.raises(CopyRefused) as caught:
        cache.probe("http://c", write=False, path=path)
    assert caught.value.cause == cause


class Alone:
    """Stands for the builds' lock: while somebody is alone with the store, nobody builds on this host."""

    def __init__(self) -> None:
        self.times = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        self.times += 1
        yield


def test_nobody_is_kept_from_building_for_a_cache_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deleted by hand is brought back by who is alone with the store: not from there."""
    stand_in(tmp_path, monkeypatch, UNREACHED, UNREACHED, UNREACHED)
    monkeypatch.setattr(cache, "_promised", list)
    lock = Alone()
    with pytest.raises(CopyRefused, match=f"{PATH} went from this host's store") as caught:
        cache.fetch("http://c", ["k"], [PATH], 60.0, lambda _: None, cast("BuildsLock", lock))
    assert (caught.value.cause, lock.times) == ("away", 0)


def test_a_repair_that_takes_too_long_is_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, UNSIGNED, HAS, "exit 0")
    program = tmp_path / "nix-store"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/tried\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(nix, "STORE", str(program))
    monkeypatch.setattr(cache, "REPAIR_SECONDS", 0.2)
    monkeypatch.setattr(cache, "_promised", list)
    lock = Alone()
    with pytest.raises(CopyRefused, match="lacks a signature"):
        cache.fetch("http://c", ["k"], [PATH, f"{PATH}-2"], 60.0, lambda _: None, cast("BuildsLock", lock))
    assert ((tmp_path / "tried").read_text(), lock.times) == ("\n", 1)


NARINFO = f"""StorePath: {PATH}
URL: nar/{"0" * 52}.nar.zst
Compression: zstd
FileSize: 5
NarSize: 100
"""


@pytest.mark.parametrize(
    ("told", "archive", "stays"),
    [
        (NARINFO, b"12345", True),
        (NARINFO, None, False),
        (NARINFO, b"123", False),
        (NARINFO.replace("FileSize: 5\n", ""), b"123", True),
        (NARINFO.replace("nar/", "../nar/"), None, True),
        ("what a proxy says", None, True),
    ],
)
def test_a_mounted_cache_forgets_what_has_no_archive_before_it_is_published_again(
    told: str, archive: bytes | None, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nix would take it for published, whatever it is that was deleted by age."""
    monkeypatch.setattr(cache, "MOUNT", tmp_path / "cache")
    monkeypatch.setattr(cache, "SECRET", str(tmp_path / "secret"))
    monkeypatch.setattr(cache, "COPY", ("/usr/bin/true",))
    monkeypatch.setattr(store, "TURN", tmp_path / "turn")
    monkeypatch.setattr(store, "absent", lambda _paths: [])
    (tmp_path / "cache/nar").mkdir(parents=True)
    narinfo = tmp_path / "cache" / f"{'a' * 32}.narinfo"
    narinfo.write_text(told)
    if archive is not None:
        (tmp_path / f"cache/nar/{'0' * 52}.nar.zst").write_bytes(archive)
    others = [f"/nix/store/{letter * 32}-other" for letter in "bc"]
    (tmp_path / "cache" / f"{'b' * 32}.narinfo").symlink_to(narinfo)
    cache.publish(cache.MOUNTED, b"key", [*others, PATH], 60.0, lambda _: None, share(tmp_path))
    assert narinfo.exists() is stays
    assert [one.read_bytes() for one in (tmp_path / "cache/nar").iterdir()] == ([archive] if archive and stays else [])
