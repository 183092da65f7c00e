"""Names of workers in leases: unique by construction, because what stands under its own name is its former life's to a role."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.decide import decide_cancel
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.roles.in_hand import InHand, Note
from cutor.stack.data import DataDirectory
from cutor.stack.role_process import worker_name
from tests.scripted_roles import PATIENCE_S, Waiting, end, kinds, request, role, set_ack_wait, until

ROLE = """
import sys
from pathlib import Path
from cutor.config import Config
from cutor.process.context import RoleContext
from cutor.stack.role_process import RoleSettings, run_role

async def role(context: RoleContext) -> None:
    print(context.worker)

run_role(RoleSettings("builder", "none", Path(sys.argv[1]), Config(), *sys.argv[2:]), role)
"""


def named(data: Path, *name: str) -> str:
    """Return the name of a role process with this data directory."""
    done = subprocess.run(
        [sys.executable, "-c", ROLE, str(data), *name], capture_output=True, text=True, check=True, timeout=180
    )
    return done.stdout.strip()


def instance(data: Path) -> str:
    directory = DataDirectory(data)
    directory.prepare()
    return directory.make_instance()


def test_the_name_of_a_role_ends_with_its_instance_whatever_it_is_called(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert named(a) == f"builder-{instance(a)}"
    assert named(a, "same") == f"same-{instance(a)}"
    assert named(b, "same") == f"same-{instance(b)}"
    assert instance(a) != instance(b)
    shutil.copytree(a, tmp_path / "copied")
    copied = named(tmp_path / "copied", "same")
    assert copied == f"same-{instance(tmp_path / 'copied')}" != f"same-{instance(a)}"


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=3))
    return journal


def cleaned(state: Submission) -> bool:
    return state.cleaned_ns is not None


async def test_a_worker_of_another_host_with_the_same_name_keeps_what_it_holds(journal: Journal, tmp_path: Path) -> None:
    """A died with the delivery in hand, B works on it since, A starts again; and A swept what B has a container of."""
    await set_ack_wait(journal.bus, 2.0)
    submitted = await journal.submit(request("name"))
    async with WeightedQueues(journal.bus, "EVENTS", [("builder-default", 1)]) as queue:
        delivery = await queue.next(PATIENCE_S)
    assert delivery is not None
    tenant, identity = submitted.address
    note = Note(ack_subject=delivery.ack_subject, sequence=submitted.step_sequence, tenant=tenant, id=identity, token="dead")
    InHand(tmp_path / "a", "builder").note(note)
    names = {host: worker_name("same", instance(tmp_path / host)) for host in "ab"}
    work, other = Waiting(end), Waiting(end)
    async with role(journal, work, worker=names["b"], data=tmp_path / "b"):
        await work.began.wait()
        await set_ack_wait(journal.bus, 120.0)
        async with role(journal, other, worker=names["a"], data=tmp_path / "a"):
            await asyncio.sleep(1)
            assert not other.began.is_set()
            assert not work.stopped.is_set()
            work.go_on.set()
            await until(journal, submitted.address, cleaned)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "finished", "cleaned"]


async def test_nobody_sweeps_what_another_of_the_same_name_had(journal: Journal, tmp_path: Path) -> None:
    names = {host: worker_name("same", instance(tmp_path / host)) for host in "ab"}
    work, looked_at = Waiting(end), asyncio.Event()
    submitted = await journal.submit(request("swept"))

    async def removes_slowly(job: object) -> None:
        try:
            await work(job)  # type: ignore[arg-type]
        finally:
            await looked_at.wait()

    async with role(journal, removes_slowly, worker=names["b"], data=tmp_path / "b"):
        await work.began.wait()
        await journal.settle(await journal.known(submitted.address), lambda state: decide_cancel(state, None))
        async with role(journal, end, worker=names["a"], data=tmp_path / "a", swept=(submitted.address,)):
            assert "cleaned" not in await kinds(journal, submitted.address)
        looked_at.set()
        state = await until(journal, submitted.address, cleaned)
    assert state.lease is not None
    assert state.lease.worker == names["b"]
