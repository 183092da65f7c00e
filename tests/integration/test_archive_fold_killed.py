"""Who seals a fold, or has views begin with one, is killed before each step that changes the disk: what is there is whole.

A process of its own has a child die at the first step, another one at the second, and so on, until one comes to the end. It
runs no thread itself, and tells in a line how the next life ended.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cutor.bus.message import Stored
from cutor.model.codec import encode
from cutor.model.events import kind_of
from cutor.model.subjects import EVENTS, Address, event_subject
from cutor.projections.archive.beginning import Beginning
from cutor.projections.archive.fold_sealing import manifests_of, seal_fold
from cutor.projections.archive.fold_verification import verify_fold
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import FoldPlace, SealedFold
from cutor.projections.sealed_past import SealedPast
from cutor.projections.store import Store
from cutor.projections.views_file import remove_leftovers
from cutor.projections.writer import Writer
from tests.integration.projecting import FINISHED
from tests.property.test_projections_incremental import difference
from tests.property.test_sealed_fold import seal

LIVES = 10
SEGMENTS = 2
STEPS: tuple[tuple[Any, str], ...] = (
    (os, "open"),
    (os, "write"),
    (os, "fsync"),
    (Path, "mkdir"),
    (Path, "chmod"),
    (Path, "rename"),
    (Path, "unlink"),
    (shutil, "rmtree"),
    (Store, "_commit"),
    (Store, "work_all_in"),
    (Store, "close"),
)
"""What is called for each step, of Python or of a store."""


def messages(lives: int, behind: int = 0) -> list[Stored]:
    found = [
        (event_subject(Address("default", f"s{number}"), kind_of(event)), encode(event))
        for number in range(behind // len(FINISHED), behind // len(FINISHED) + lives)
        for event in FINISHED
    ]
    return [
        Stored(EVENTS, sequence, subject, sequence * 1_000_000_007, None, {}, body)
        for sequence, (subject, body) in enumerate(found, behind + 1)
    ]


def make(directory: Path) -> None:
    """Seal some, fold that, and seal more; beside it lie the views of all of it, and of what is published behind that."""
    archive = Archive(directory / "archive")
    with archive.held():
        for number in range(SEGMENTS):
            seal(archive, EVENTS, messages(LIVES, number * LIVES * len(FINISHED)))
            if number == 0:
                asyncio.run(seal_fold(archive))
    for name, lives in (("sealed", SEGMENTS * LIVES), ("all", (SEGMENTS + 1) * LIVES)):
        store = Store.open(directory / f"{name}.duckdb")
        store.apply(EVENTS, messages(lives))
        store.close()


def the_fold(archive: Archive) -> SealedFold:
    fold = FoldPlace(archive).look(manifests_of(archive)).fold
    assert fold is not None
    return fold


def seals(directory: Path) -> None:
    """Bring the fold on."""
    archive = Archive(directory / "archive")
    with archive.held():
        asyncio.run(seal_fold(archive))


def next_sealer(directory: Path) -> None:
    """Find a fold that is whole, the former one or the new one; bring it on, and leave nothing beside it."""
    archive = Archive(directory / "archive")
    assert asyncio.run(verify_fold(archive)).faults == []
    assert the_fold(archive).messages in (LIVES * len(FINISHED), SEGMENTS * LIVES * len(FINISHED))
    seals(directory)
    fold, place = the_fold(archive), FoldPlace(archive)
    assert sorted(path.name for path in place.directory.iterdir()) == [fold.file_name, "index.json"]
    assert difference(place.path_of(fold), directory / "sealed.duckdb") is None


def begins(directory: Path) -> None:
    """Have views that are empty begin with the fold."""
    asyncio.run(_begin(directory))


async def _begin(directory: Path) -> None:
    archive = Archive(directory / "archive")
    fold, writer = the_fold(archive), Writer(directory / "views" / "views.duckdb")
    writer.path.parent.mkdir(exist_ok=True)
    remove_leftovers(writer.path)
    await writer.open()
    if not writer.checkpoint(EVENTS).sequence:
        beginning = Beginning(fold, FoldPlace(archive).path_of(fold), {})
        assert await SealedPast(None, writer, archive)._put(beginning) is None  # type: ignore[arg-type]
    if behind := messages((SEGMENTS + 1) * LIVES)[writer.checkpoint(EVENTS).sequence :]:
        await writer.apply(EVENTS, behind)
    await writer.close()


def next_projector(directory: Path) -> None:
    """Begin again, and have the views of all there is, and nothing beside them."""
    begins(directory)
    views = directory / "views"
    assert [path.name for path in views.iterdir()] == ["views.duckdb"]
    assert difference(views / "views.duckdb", directory / "all.duckdb") is None


def die_before(step: int) -> None:
    """Have this process die before a step, from 1 on."""
    steps = count(1)

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **more: Any) -> Any:
            writes = function is not opened or args[1] & (os.O_CREAT | os.O_WRONLY)
            if writes and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **more)

        return called

    opened = os.open
    for owner, name in STEPS:
        setattr(owner, name, dying(getattr(owner, name)))


def in_a_child(work: Callable[[], None]) -> int:
    """Do something in a child; return its exit code, below zero for a signal."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def deaths(directory: Path, work: Callable[[Path], None], following: Callable[[Path], None]) -> Iterator[tuple[int, int, int]]:
    """Yield of each step its number, how who was to die before it ended, and how the next life did."""
    for step in count(1):
        here = directory / str(step)
        shutil.copytree(directory / "made", here)

        def die() -> None:
            die_before(step)  # noqa: B023 - it is called here alone
            work(here)  # noqa: B023

        ended = in_a_child(die)
        yield step, ended, in_a_child(lambda: following(here))  # noqa: B023
        shutil.rmtree(here)
        if ended == 0:
            return


def main(directory: Path, who: str) -> None:
    work, following = {"sealer": (seals, next_sealer), "projector": (begins, next_projector)}[who]
    (directory / "made").mkdir()
    assert in_a_child(lambda: make(directory / "made")) == 0
    if who == "projector":
        assert in_a_child(lambda: seals(directory / "made")) == 0
    for said in deaths(directory, work, following):
        print(msgspec.json.encode(said).decode(), flush=True)


@pytest.mark.parametrize(("who", "least"), [("sealer", 15), ("projector", 6)])
def test_whoever_is_killed_leaves_what_is_whole(who: str, least: int, tmp_path: Path) -> None:
    """It takes 20 s of CPU: at each of 25 steps a process dies, and another one does it all, and compares the rows."""
    done = subprocess.run([sys.executable, "-m", __name__, tmp_path, who], capture_output=True, text=True, check=False)
    said = [msgspec.json.decode(line, type=tuple[int, int, int]) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    *killed, (last, ended, _) = said
    assert [ended for _, ended, _ in killed] == [-signal.SIGKILL] * len(killed)
    assert [following for _, _, following in said] == [0] * last, done.stderr
    assert ended == 0
    assert last > least


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
