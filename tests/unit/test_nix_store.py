"""The daemon's side of a build, on directories of the test's own: roots, leftovers, programs, questions to the daemon."""

import json
import os
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cutor.jail.inside.box import remove_tree
from cutor.jail.inside.measure import Limits, Result
from cutor.nix.inside import build_init, jails, store
from cutor.nix.inside.build_init import Build, Refused
from cutor.nix.inside.derivation import Derivation
from cutor.nix.inside.job import BuildJob
from cutor.nix.inside.store import (
    MAX_CLOSURE_PATHS,
    OutOfTime,
    StoreError,
    TooManyPaths,
    closure_of,
    find_program,
    make_roots,
    remove_leftovers,
)

KEY = "7e57" * 16
ASK = store._ask
PATHS = [f"/nix/store/{number:032d}-package" for number in range(20)]


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "ROOTS", tmp_path / "roots")
    return tmp_path / "roots"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store elsewhere."""
    directory = tmp_path / "store"
    directory.mkdir()
    monkeypatch.setattr(store, "STORE", directory)
    monkeypatch.setattr(store, "_INSIDE_STORE", re.compile(rf"({re.escape(str(directory))}/[^/\0]+)(/[^/\0]+)*"))
    return directory


def linked(directory: Path) -> set[str]:
    return {os.readlink(link) for link in directory.iterdir()}  # noqa: PTH115 - as it is


def test_builds_of_one_key_at_once_keep_all_of_their_paths(roots: Path) -> None:
    def build(number: int) -> None:
        make_roots(KEY, PATHS[number % 10 : number % 10 + 10])

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(build, range(600)):
            pass
    assert linked(roots / KEY) == set(PATHS[:19])
    assert [entry.name for entry in roots.iterdir()] == [KEY]


def test_roots_that_can_not_be_made_leave_nothing(roots: Path) -> None:
    roots.mkdir()
    (roots / KEY).write_text("not a directory")
    with pytest.raises(OSError, match=KEY):
        make_roots(KEY, PATHS)
    with pytest.raises(OSError, match="too long"):
        make_roots("a" * 64, ["/nix/store/" + "x" * 300])
    assert [entry.name for entry in roots.iterdir()] == [KEY]


def test_what_dead_builds_left_is_removed_and_nothing_else(roots: Path, shop: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("1")
    left = shop / "a-cut.drv.chroot"
    deep = left / "root/nix/store/out"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 1000)
    (deep / "link").symlink_to(outside)
    deep.chmod(0)
    (shop / "a-cut.drv").write_text("Derive")
    (shop / ".removing-7/x/y").mkdir(parents=True)
    for name, content, mode in (("a-cut.lock", "", 0o600), ("b-cut.lock", "d", 0o600), ("c-flake.lock", "{}", 0o444)):
        (shop / name).write_text(content)
        (shop / name).chmod(mode)
    (shop / "d-empty.lock").touch(0o444)
    (shop / "e.lock").mkdir(0o700)
    (shop / "f-is.drv.chroot-tool").mkdir()
    (shop / "g.drv.chroot").symlink_to(outside)
    (shop / "g.drv").write_text("Derive")
    (shop / "i.drv.chroot/out").mkdir(parents=True)  # a store path that a user named so: no derivation has its hash
    (shop / "j.drv.chroot").mkdir()
    (shop / "j.drv").symlink_to(shop / "a-cut.drv")
    (shop / "k.drv.chroot.removing.1").mkdir()
    (shop / "h.lock").symlink_to(outside / "precious")
    (roots / ".half-made-1").mkdir(parents=True)
    (roots / ".half-made-1/x").symlink_to(outside)
    (roots / KEY).mkdir()
    waited: list[None] = []
    remove_leftovers(lambda: waited.append(None))
    remove_leftovers(lambda: waited.append(None))
    assert sorted(entry.name for entry in shop.iterdir()) == [
        *("a-cut.drv", "c-flake.lock", "d-empty.lock", "e.lock", "f-is.drv.chroot-tool", "g.drv", "g.drv.chroot", "h.lock"),
        *("i.drv.chroot", "j.drv", "j.drv.chroot", "k.drv.chroot.removing.1"),
    ]
    assert [entry.name for entry in roots.iterdir()] == [KEY]
    assert (outside / "precious").read_text() == "1"
    assert len(waited) == 1, "it may take its time, where there is something"


def entries_in(directory: Path) -> int:
    return sum(len(names) + len(files) for _, names, files in os.walk(directory))


def test_what_a_dead_build_left_is_removed_piece_by_piece_in_bounded_time_and_memory(
    roots: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "a-wide.drv").write_text("Derive")
    for place in ("x", "x/y", "z"):
        directory = shop / "a-wide.drv.chroot" / place
        directory.mkdir(parents=True)
        for number in range(300):
            (directory / f"{number:0240}").touch()
    (shop / "b-cut.drv").write_text("Derive")
    (shop / "b-cut.drv.chroot/x").mkdir(parents=True)
    monkeypatch.setattr(store, "CLEANING_SECONDS", 0.0)
    left = [entries_in(shop)]
    tracemalloc.start()
    while left[-1] > 2:
        remove_leftovers(lambda: None)
        left.append(entries_in(shop))
        assert left[-2] - 200 < left[-1] < left[-2], "some each time, and not all at once"
        assert not [path.name for path in shop.iterdir() if path.name.endswith(".chroot")], "in no build's way any more"
    assert sorted(path.name for path in shop.iterdir()) == ["a-wide.drv", "b-cut.drv"]

    wide = shop / "wide/deep"
    wide.mkdir(parents=True)
    for number in range(10_000):
        (wide / f"{number:0240}").touch()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    assert remove_tree(str(shop), "wide")
    assert tracemalloc.get_traced_memory()[1] - before < 100_000, "no list of the names"
    tracemalloc.stop()


def test_a_path_is_absent_where_nothing_is_there_and_what_cannot_be_looked_at_is_no_absence(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to("nowhere")
    (tmp_path / "file").touch()
    paths = [str(tmp_path / name) for name in ("there", "gone")]
    assert store.absent(paths) == paths[1:]
    with pytest.raises(NotADirectoryError):
        store.absent([str(tmp_path / "file/beneath")])


def program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_programs_that_a_jail_can_be_given(shop: Path) -> None:
    bash = program(shop / "x-env/bin/bash")
    odd = program(shop / "x-env/b@d/bash")
    (shop / "x-env/b@d/linked").symlink_to(bash)
    (shop / "y-dir/bin/bash").mkdir(parents=True)
    program(shop / "z-data/bin/bash", 0o644)
    (shop / "w-links/bin").mkdir(parents=True)
    (shop / "w-links/bin/sh").symlink_to(bash)
    (shop / "w-links/bin/lost").symlink_to(shop / "none")
    closure = frozenset(str(shop / name) for name in ("x-env", "y-dir", "z-data", "w-links"))

    def find(directory: str, name: str = "bash") -> str | None:
        return find_program(name, [f"{shop}/{directory}"], closure)

    for same in ("x-env/bin", "x-env/./bin", "x-env/bin/", "x-env//bin", "x-env/bin/."):
        assert find(same) == str(bash), same
    assert find("x-env/b@d/../bin") == str(bash)
    assert find("x-env/b@d", "linked") == str(bash), "where it leads to, a jail can be given"
    assert find("w-links/bin", "sh") == f"{shop}/w-links/bin/sh", "its own name, where that can be"
    for none in (
        ("x-env/b@d", "bash"),
        ("y-dir/bin", "bash"),
        ("z-data/bin", "bash"),
        ("w-links/bin", "lost"),
        ("x-env", "bin"),
    ):
        assert find(*none) is None, none
    assert odd.exists()
    assert find_program("bash", ["bin", str(bash.parent)], closure - {f"{shop}/x-env"}) is None
    assert find_program("sh", [f"{shop}/w-links/bin"], closure - {f"{shop}/x-env"}) is None, "it leads out of the closure"
    assert find_program("bash", [f"{shop}/y-dir/bin", str(odd.parent), str(bash.parent)], closure) == str(bash)


def answer(monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
    """Let another program answer instead of Nix."""
    monkeypatch.setattr(store, "_ask", lambda _, *rest: ASK(command, *rest))


def test_a_closure_is_paths_with_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "sed", r"s/$/  \t     7/")
    assert closure_of(PATHS[::-1], 5.0) == store.Closure(tuple(PATHS), 7 * len(PATHS))
    assert closure_of([], 0.0) == store.Closure((), 0)


def test_a_closure_that_is_too_large_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooManyPaths, match=f"has {MAX_CLOSURE_PATHS + 1} store paths; at most {MAX_CLOSURE_PATHS}"):
        closure_of(["/nix/store/x"] * (MAX_CLOSURE_PATHS + 1), 5.0)
    answer(monkeypatch, "seq", str(MAX_CLOSURE_PATHS + 5))
    with pytest.raises(TooManyPaths, match=f"has {MAX_CLOSURE_PATHS + 5} store paths"):
        closure_of(PATHS, 5.0)
    answer(monkeypatch, "yes", PATHS[0] + " 7")
    with pytest.raises(TooManyPaths, match="has more than"):
        closure_of(PATHS, 5.0)


def test_a_question_that_takes_too_long_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "sleep", "60")
    with pytest.raises(OutOfTime):
        closure_of(PATHS, 0.1)
    with pytest.raises(OutOfTime):
        closure_of(PATHS, -1.0)
    answer(monkeypatch, "sh", "-c", "echo 'path is not valid' >&2; exit 1")
    with pytest.raises(StoreError, match="path is not valid"):
        closure_of(PATHS, 5.0)
    answer(monkeypatch, "echo", "/etc/passwd 7")
    with pytest.raises(StoreError, match="not a store path"):
        closure_of(PATHS, 5.0)


FIRST = Result(exit_code=0, cpu_time_ms=1, wall_time_ms=2)
LIMITS = Limits(*[1] * len(Limits._fields))._replace(wall_time_ms=1000, cpu_time_ms=1000)


class Counters:
    """A control group in which the OOM killer strikes once between two looks."""

    def __init__(self) -> None:
        self.kills = iter((3, 4))

    def oom_kills(self) -> int:
        return next(self.kills)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfTime(), {"killed_by": "wall_time", "exit_code": None}),
        (StoreError("killed"), {"oom_kills": 1, "exit_code": None}),
        (TooManyPaths("11000"), {"exit_code": 1}),
    ],
)
def test_a_closure_that_passes_a_limit_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: dict[str, Any]
) -> None:
    def closure(paths: object, seconds: float) -> None:
        assert seconds < 0.999, "what is left of the wall time"
        raise error

    path = f"{PATHS[0]}.drv"
    (tmp_path / "result.json").write_text(json.dumps({"shell": path, "tools": path}))
    monkeypatch.setattr(jails, "HOME", str(tmp_path))
    monkeypatch.setattr(store, "read_derivation", lambda _: Derivation({}, {}, (), {}))
    monkeypatch.setattr(store, "closure_of", closure)
    job = BuildJob("k", (), LIMITS, "", 1, (), "", "", False, 1 << 30, 1)
    build = Build(job, None, Counters(), None)  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        build._realised(FIRST, build_init.time.monotonic_ns() - 2_000_000)
    result = caught.value.result._asdict()
    assert {name: result[name] for name in expected} == expected
    assert caught.value.message == (str(error) if isinstance(error, TooManyPaths) else None)
