"""Uids of running submissions: no two are the same on one host, whoever asks, and a dead process holds none."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from cutor.nix.inside.namespace import HOST_ID_BASE, ID_COUNT
from cutor.roles import uids as uids_module
from cutor.roles.step import WorkerUnable
from cutor.roles.uids import Uids

BASE = 1_000_000_000 + os.getpid() * 16
HOLD = """
import asyncio, sys
from cutor.roles.uids import Uids
uids = Uids(int(sys.argv[1]), 1)
asyncio.run(uids.reserve())
with uids.uid() as uid:
    print(uid, flush=True)
    sys.stdin.read()
"""


@asynccontextmanager
async def reserved(base: int, count: int) -> AsyncIterator[Uids]:
    """Return uids with their uids, for a while."""
    uids = Uids(base, count)
    try:
        await uids.reserve()
        yield uids
    finally:
        uids.close()


async def lowest(base: int) -> int:
    """Return the uid that a runner with one slot would be lent."""
    async with reserved(base, 1) as uids:
        with uids.uid() as uid:
            return uid


async def test_the_uid_that_has_been_free_longest_is_lent() -> None:
    """The kernel may still be taking down what a program with the others left."""
    async with reserved(BASE, 3) as uids:
        with uids.uid() as one:
            with uids.uid() as two:
                assert (one, two) == (BASE, BASE + 1)
            with uids.uid() as third, uids.uid() as again:
                assert (third, again) == (BASE + 2, BASE + 1)
        assert [uids.lend() for _ in range(3)] == [BASE + 1, BASE + 2, BASE]
    assert await lowest(BASE) == BASE


async def test_a_uid_of_a_container_that_may_still_run_is_lent_to_nobody() -> None:
    """Not here, nor by another runner; once every container that had it is gone, whoever looks next has it."""
    uids = Uids(BASE, 2)
    for uid in (BASE, BASE, BASE + 2):
        uids.withhold(uid)
    await uids.reserve()
    with uids.uid() as one, uids.uid() as two:
        assert (one, two) == (BASE + 1, BASE + 3)
    uids.give_free(BASE)
    assert await lowest(BASE) == BASE + 4
    uids.give_free(BASE)
    assert await lowest(BASE) == BASE
    uids.close()
    assert await lowest(BASE + 2) == BASE + 2


async def test_a_uid_that_another_process_has_is_withheld_all_the_same() -> None:
    uids = Uids(BASE, 1)
    async with reserved(BASE, 1):
        uids.withhold(BASE)
    await uids.reserve()
    with uids.uid() as uid:
        assert uid == BASE + 1
    uids.close()


async def test_uids_of_another_runner_begin_beside_them() -> None:
    async with reserved(BASE, 2) as first, reserved(BASE, 2) as second:
        with first.uid() as one, first.uid() as two, second.uid() as three:
            assert (one, two, three) == (BASE, BASE + 1, BASE + 2)


def test_a_killed_process_holds_nothing() -> None:
    command = [sys.executable, "-c", HOLD, str(BASE)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == BASE
        assert asyncio.run(lowest(BASE)) == BASE + 1
        other.kill()
        other.wait()
        assert asyncio.run(lowest(BASE)) == BASE


async def test_uids_of_build_containers_are_never_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uids_module, "SPARE_UIDS", ID_COUNT)
    async with reserved(HOST_ID_BASE - 1, 2) as uids:
        with uids.uid() as below, uids.uid() as above:
            assert (below, above) == (HOST_ID_BASE - 1, HOST_ID_BASE + ID_COUNT)


@pytest.fixture
def all_held(monkeypatch: pytest.MonkeyPatch) -> ExitStack:
    """Hold the sockets of BASE and BASE + 1, which are all that a runner with one slot looks at."""
    monkeypatch.setattr(uids_module, "SPARE_UIDS", 1)
    held = ExitStack()
    for uid in (BASE, BASE + 1):
        held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(f"\0cutor-uid-{uid}")
    return held


async def test_without_a_free_uid_the_runner_is_unable_and_no_submission_to_blame(all_held: ExitStack) -> None:
    uids = Uids(BASE, 1)
    with all_held, pytest.raises(WorkerUnable, match=f"from {BASE} to {BASE + 1} only 0 .* held by other processes"):
        await uids.reserve()
    await uids.reserve()  # once they are let go
    with uids.uid() as uid:
        assert uid == BASE
    uids.close()


async def test_what_a_runner_has_nobody_takes_from_it_between_two_submissions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uids_module, "SPARE_UIDS", 2)
    async with reserved(BASE, 2) as uids, reserved(BASE, 1):
        with uids.uid() as uid:
            assert uid == BASE
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as greedy, pytest.raises(OSError, match="in use"):
            greedy.bind(f"\0cutor-uid-{BASE}")
        await uids.reserve()
        assert sorted(uids.lend() for _ in range(2)) == [BASE, BASE + 1]


async def test_others_have_their_turn_while_many_uids_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uids_module, "SPARE_UIDS", 1000)
    monkeypatch.setattr(Uids, "_try", lambda self, uid: None)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    with pytest.raises(WorkerUnable):
        await Uids(BASE, 4).reserve()
    task.cancel()
    assert turns >= 1000 // uids_module.TRIES_AT_ONCE


async def test_two_that_reserve_at_once_get_what_one_needs() -> None:
    uids = Uids(BASE, 2)
    await asyncio.gather(uids.reserve(), uids.reserve())
    assert await lowest(BASE) == BASE + 2
    uids.close()
