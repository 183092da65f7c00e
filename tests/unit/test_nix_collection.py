"""A collection in turns, the roots that it removes and lists, and programs of Nix that are watched."""

from __future__ import annotations

import io
import os
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from cutor.nix.inside import collection, nix, roots, store
from cutor.nix.inside.inventory import Contents
from cutor.nix.inside.nix import Done
from cutor.nix.inside.store import BuildsLock, StoreError

KEYS = ["a" * 64, "b" * 64, "c" * 64]
NAMES = ["one", "two", "three"]


def path(name: str) -> str:
    return f"/nix/store/{'0' * 32}-{name}"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of roots, with two keys in it and what is none."""
    there = tmp_path / "roots"
    for module in (roots, store):
        monkeypatch.setattr(module, "ROOTS", there)
    for key, name in zip(KEYS[:2], NAMES, strict=False):
        store.make_roots(key, [path(name)])
    (there / ".half-made-0").mkdir()
    (there / "no key").mkdir()
    return there


class Lock:
    """Tells when somebody is alone."""

    def __init__(self) -> None:
        self.held = False
        self.turns = 0

    @contextmanager
    def alone(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        on_wait()
        self.held = True
        self.turns += 1
        yield
        self.held = False


def collect(
    monkeypatch: pytest.MonkeyPatch, keys: Sequence[str], endings: list[Done], left: set[str], lock: Lock
) -> tuple[collection.Collected, list[int]]:
    """Collect with a Nix that ends in turn as told, deletes two paths a turn, and leaves some of `NAMES` in the end."""
    sizes = Contents([path(name) for name in NAMES], array("Q", [1, 20, 300]), array("Q"), array("Q"), array("I"), True)
    counts: list[int] = []

    def watched(command: Sequence[str], stdin: bytes, on_line: Callable[[bytes], None], seconds: float) -> Done:
        assert lock.held
        assert seconds == 7
        for line in (b"deleting '/nix/store/x'", b"noise: deleting", b"deleting '/nix/store/y'"):
            on_line(line)
        return endings.pop(0)

    def absent(paths: Any) -> list[str]:
        return [one for one in paths if one not in left]

    monkeypatch.setattr(nix, "watched", watched)
    monkeypatch.setattr(collection, "read_contents", lambda: sizes)
    monkeypatch.setattr(collection, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(store, "absent", absent)
    asked: list[bool] = []
    waits: list[bool] = []

    def choose() -> dict[str, int | None]:
        asked.append(lock.held)
        return dict.fromkeys(keys)

    done = collection.collect(choose, cast("BuildsLock", lock), counts.append, lambda: waits.append(lock.held), 7)
    assert asked == [True], "once, and alone"
    assert waits == [False], "the host is told before the first turn, and not in between"
    return done, counts


def test_a_long_collection_lets_others_in_between_and_goes_on(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    lock = Lock()
    endings = [Done(1, True, "interrupted"), Done(-9, True, ""), Done(0, False, "")]
    done, counts = collect(monkeypatch, [KEYS[0], KEYS[2]], endings, {path("two")}, lock)
    assert done == collection.Collected([KEYS[0]], 2, 301)
    assert counts == [1, 2, 3, 4, 5, 6]
    assert lock.turns == 3
    assert not (directory / KEYS[0]).exists()
    assert (directory / KEYS[1]).exists()


def test_a_collection_that_fails_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="nix-store --gc failed: no more"):
        collect(monkeypatch, [], [Done(1, False, "no more")], set(), Lock())


def test_room_is_counted_as_df_does_without_what_is_roots_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand blocks 300 are used, and 200 kept for root."""
    facts = os.statvfs_result((4096, 4096, 1000, 700, 500, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: facts)
    assert collection.free_bytes() == (500 * 4096, 800 * 4096)


def test_roots_are_listed_by_key(directory: Path) -> None:
    listed = list(roots.rooted_keys())
    assert [(one.key, one.paths) for one in listed] == [(KEYS[0], (path("one"),)), (KEYS[1], (path("two"),))]
    assert all(one.made_at_s == int((directory / one.key).stat().st_mtime) for one in listed)


def test_there_may_be_no_roots_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "ROOTS", tmp_path / "nowhere")
    assert list(roots.rooted_keys()) == []
    assert roots.remove_roots(dict.fromkeys(KEYS)) == []


def test_links_that_lead_elsewhere_are_no_roots(directory: Path) -> None:
    (directory / KEYS[0] / "odd").symlink_to("/etc/passwd")
    (directory / KEYS[0] / "file").write_text("")
    assert next(iter(roots.rooted_keys())).paths == (path("one"),)


def test_only_a_key_names_roots(directory: Path) -> None:
    for name in ("no key", "..", ".half-made-0", KEYS[0][:8], ""):
        with pytest.raises(StoreError, match="is not the key of an environment"):
            roots.remove_roots({name: None})
    assert (directory / "no key").exists()


def test_roots_that_a_build_has_made_anew_since_are_spared(directory: Path) -> None:
    known_s = {key: int((directory / key).stat().st_mtime) for key in KEYS[:2]}
    os.utime(directory / KEYS[0], (0, 0))
    store.make_roots(KEYS[0], [path("one")])
    for key in KEYS[:2]:
        known_s[key] -= 10 if key == KEYS[0] else 0
    assert roots.remove_roots(known_s) == [KEYS[1]]
    assert [one.key for one in roots.rooted_keys()] == [KEYS[0]]


def test_some_roots_of_a_key_are_removed_and_no_others(directory: Path) -> None:
    store.make_roots(KEYS[0], [path("one"), path("two"), path("three")])
    roots.remove_links(KEYS[0], [path("two"), path("three"), path("unknown")])
    assert [one.paths for one in roots.rooted_keys()] == [(path("one"),), (path("two"),)]
    roots.remove_links("f" * 64, [path("one")])
    with pytest.raises(StoreError, match="is not the key of an environment"):
        roots.remove_links("../roots", [path("one")])


def test_other_roots_are_those_of_no_environment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = f'"{directory}/{KEYS[0]}/one" -> {path("one")}\n"/nix/var/nix/gcroots/auto/x" -> {path("two")}\n{{temp}} -> ?\n'

    @contextmanager
    def output(command: Sequence[str]) -> Iterator[io.BytesIO]:
        assert "--print-roots" in command
        yield io.BytesIO(listing.encode())

    monkeypatch.setattr(nix, "output", output)
    assert roots.other_roots() == [path("two")]


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_program_that_takes_too_long_is_interrupted_then_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[bytes] = []
    slow = (
        "import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('up', file=sys.stderr, flush=True)\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('stopping', file=sys.stderr); sys.exit(3)"
    )
    assert nix.watched(python(slow), b"", lines.append, 1.0) == Done(3, True, "up stopping")
    monkeypatch.setattr(nix, "STOP_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    assert nix.watched(python(deaf), b"", lines.append, 1.0) == Done(-9, True, "")


def test_a_program_is_given_its_input_and_heard_line_by_line() -> None:
    lines: list[bytes] = []
    program = "import sys\nfor line in sys.stdin: print('got', line.strip(), file=sys.stderr)\nsys.exit(4)"
    assert nix.watched(python(program), b"a\nb\n", lines.append, 60) == Done(4, False, "got a got b")
    assert lines == [b"got a", b"got b"]


def test_what_a_program_prints_is_lent_and_its_failure_told() -> None:
    with nix.output(python("print('here')")) as printed:
        assert printed.read() == b"here\n"
    with pytest.raises(StoreError, match="failed: no luck"), nix.output(python("import sys; sys.exit('no luck')")) as printed:
        assert printed.read() == b""


def test_a_program_whose_output_nobody_wants_any_more_is_ended() -> None:
    def read_one_line() -> None:
        with nix.output(python("while True: print('more')")) as printed:
            raise KeyError(printed.readline())

    with pytest.raises(KeyError, match="more"):
        read_one_line()
