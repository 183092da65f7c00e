"""Uids of running submissions: no two are the same on one host, whoever asks, and a dead process holds none."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from cutor.containers.errors import ContainerError
from cutor.nix.inside.namespace import HOST_ID_BASE, ID_COUNT
from cutor.roles import slots as slots_module
from cutor.roles.slots import Slots

BASE = 1_000_000_000 + os.getpid() * 16
HOLD = """
import sys
from cutor.roles.slots import Slots
with Slots(int(sys.argv[1]), 1).uid() as uid:
    print(uid, flush=True)
    sys.stdin.read()
"""


def test_uids_are_lent_lowest_first_and_come_back() -> None:
    slots = Slots(BASE, 2)
    with slots.uid() as one:
        with slots.uid() as two:
            assert (one, two) == (BASE, BASE + 1)
        with slots.uid() as again:
            assert again == BASE + 1
    with slots.uid() as first:
        assert first == BASE


def test_slots_of_another_runner_begin_beside_them() -> None:
    with Slots(BASE, 2).uid() as one, Slots(BASE, 2).uid() as two, Slots(BASE, 2).uid() as three:
        assert (one, two, three) == (BASE, BASE + 1, BASE + 2)


def test_a_killed_process_holds_nothing() -> None:
    command = [sys.executable, "-c", HOLD, str(BASE)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == BASE
        with Slots(BASE, 1).uid() as uid:
            assert uid == BASE + 1
        other.kill()
        other.wait()
        with Slots(BASE, 1).uid() as uid:
            assert uid == BASE


def test_uids_of_build_containers_are_never_lent() -> None:
    with Slots(HOST_ID_BASE - 1, 2).uid() as below, Slots(HOST_ID_BASE - 1, ID_COUNT).uid() as above:
        assert (below, above) == (HOST_ID_BASE - 1, HOST_ID_BASE + ID_COUNT)


def test_a_host_without_a_free_uid_is_a_fault_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "SPARE_UIDS", 1)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(Slots(BASE, 1).uid())
        with pytest.raises(ContainerError, match=f"no uid from {BASE} to {BASE + 1} is free"):
            held.enter_context(Slots(BASE, 1).uid())
