"""A worker that lost its lease stops its work, however it could have come to know of it; one that did not lose it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import BusClosed, BusUnreachable
from cutor.config import Config
from cutor.journal.journal import Appended, Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.events import Cancelled, Event, Finished, Lease, Leased, Ran, Stage
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import event_subject
from cutor.process.context import RoleContext
from cutor.roles.loop import Loop
from cutor.roles.results import Results
from cutor.roles.step import LeasedStep, LeaseLost
from tests.fault.proxy import Proxy
from tests.nats_server import OwnServer
from tests.scripted_roles import (
    PATIENCE_S,
    Scripted,
    Waiting,
    build,
    end,
    kinds,
    pending_acks,
    request,
    role,
    set_ack_wait,
    take_over,
    until,
)


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=3))
    return journal


async def stopped(work: Waiting) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await work.stopped.wait()


def cleaned(state: Submission) -> bool:
    return state.cleaned_ns is not None


@contextmanager
def deaf(journal: Journal, *kinds: str) -> Iterator[None]:
    """Lose every notice of some kinds of events, as without a connection."""
    client = journal.bus.link._client
    handlers = dict(client._subs)
    client._subs = {number: one for number, one in handlers.items() if not one.subject.endswith(kinds)}
    try:
        yield
    finally:
        client._subs = handlers


@asynccontextmanager
async def behind_a_proxy(server: OwnServer) -> AsyncIterator[tuple[Proxy, Journal]]:
    async with Proxy(server.port) as proxy, Bus.connect(proxy.url(server.url), name="cut") as bus:
        yield proxy, Journal(bus)


async def test_work_stops_when_the_next_lease_passes_by(journal: Journal) -> None:
    """It would go on for ever otherwise: it appends nothing, and its heartbeats are confirmed."""
    work = Waiting(end)
    submitted = await journal.submit(request("passing"))
    async with role(journal, work):
        await work.began.wait()
        lease = await take_over(journal, submitted.address)
        await stopped(work)
        assert await pending_acks(journal) == 1, "the clock of the one who has it now"
    state = await journal.known(submitted.address)
    assert (state.status, state.lease, state.strays) == ("SUBMITTED", lease, 0)


async def test_who_comes_late_leaves_the_lease_to_the_worker_that_has_it(journal: Journal, own_server: OwnServer) -> None:
    """It stood still between its read and its append for longer than a lease lasts, and the event went to another one."""
    await set_ack_wait(journal.bus, 2.0)
    late, healthy = Waiting(end), Waiting(end)
    submitted = await journal.submit(request("late"))
    arrived, go_on, settled = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with Bus.connect(own_server.url, name="late") as bus:
        slow = Journal(bus)
        settle = slow.settle

        async def stalled(state: Submission, decide: Callable[[Submission], Event | None], **more: int) -> Appended:
            arrived.set()
            await go_on.wait()
            appended = await settle(state, decide, **more)
            settled.set()
            return appended

        slow.settle = stalled  # type: ignore[method-assign]
        async with role(slow, late, worker="late"):
            await asyncio.wait_for(arrived.wait(), PATIENCE_S)
            async with role(journal, healthy, worker="healthy"):
                await asyncio.wait_for(healthy.began.wait(), PATIENCE_S)
                await set_ack_wait(journal.bus, 60.0)  # the event is to come to nobody a third time
                go_on.set()
                await asyncio.wait_for(settled.wait(), PATIENCE_S)
                await asyncio.sleep(0.5)
                assert not healthy.stopped.is_set()
                healthy.go_on.set()
                state = await until(journal, submitted.address, cleaned)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "finished", "cleaned"]
    assert (state.lease and state.lease.worker, state.strays, late.taken) == ("healthy", 0, [])


async def test_work_stops_when_its_step_is_done_by_another(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("done"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cutor.roles.attention.LOOKS_AFTER_S", (0.0, 0.5, 0.5))
        async with role(journal, work):
            await work.began.wait()
            lease = await take_over(journal, submitted.address)
            other = LeasedStep(journal, Policy(), await journal.known(submitted.address), lease)
            await build(other)
            await stopped(work)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased", "cache-built"]


async def test_a_forged_lease_stops_nothing(journal: Journal) -> None:
    """With a wrong number it is a stray, and garbage is no lease: the log decides, the notice is only a reason to look."""
    work = Waiting(end)
    submitted = await journal.submit(request("forged"))
    subject = event_subject(submitted.address, "leased")
    async with role(journal, work):
        await work.began.wait()
        for number in (1, 3, 7, 0, -1):
            lease = Lease(role="builder", worker="x", token="x", number=number)
            await journal.bus.publish(subject, encode(Leased(lease=lease)))
        await journal.bus.publish(subject, b"garbage")
        await journal.bus.publish(subject, b'{"kind":"leased","version":99}')
        await asyncio.sleep(0.5)
        assert not work.stopped.is_set()
        work.go_on.set()
        state = await until(journal, submitted.address, cleaned)
    assert (state.status, state.strays, state.attempts.builder) == ("FINISHED", 7, 1)


async def test_a_process_that_stood_still_looks_whether_its_leases_are_its_own(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.roles.attention.HEARTBEAT_S", 2.0)
    monkeypatch.setattr("cutor.roles.attention.CLOCK_S", 0.1)
    work = Waiting(end)
    submitted = await journal.submit(request("still"))
    async with role(journal, work):
        await work.began.wait()
        with deaf(journal, "leased"):
            await take_over(journal, submitted.address)
            await asyncio.sleep(0.3)
        assert not work.stopped.is_set()
        time.sleep(2.5)  # noqa: ASYNC251 - that is what is tried
        await stopped(work)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased"]


async def test_a_heartbeat_that_is_not_confirmed_is_a_reason_to_look(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.roles.handler.HEARTBEAT_S", 0.5)
    work = Waiting(end)
    submitted = await journal.submit(request("beat"))
    async with role(journal, work):
        await work.began.wait()
        with deaf(journal, "leased"):
            await take_over(journal, submitted.address)
            await asyncio.sleep(0.3)
        assert not work.stopped.is_set()
        ask = journal.bus.link.ask

        async def unanswered(subject: str, body: bytes = b"", **more: object) -> object:
            return await ask("cutor.nobody.answers" if body == b"+WPI" else subject, body, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(journal.bus.link, "ask", unanswered)
        await stopped(work)


async def test_a_reconnect_is_a_reason_to_look(journal: Journal, own_server: OwnServer) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("reconnect"))
    async with behind_a_proxy(own_server) as (proxy, cut), role(cut, work):
        await work.began.wait()
        proxy.cut()
        await take_over(journal, submitted.address)
        await asyncio.sleep(0.3)
        assert not work.stopped.is_set(), "it cannot know"
        proxy.resume()
        await stopped(work)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased"]


async def test_who_is_cut_off_for_as_long_as_a_lease_lasts_stops(journal: Journal, own_server: OwnServer) -> None:
    """Frozen, the connection stands and carries nothing; another worker gets the delivery, and ends the submission."""
    await set_ack_wait(journal.bus, 2.0)
    work = Waiting(end)
    submitted = await journal.submit(request("cut-off"))
    async with behind_a_proxy(own_server) as (proxy, cut), role(cut, work):
        await work.began.wait()
        proxy.freeze()
        await stopped(work)
        async with role(journal, end, worker="w2"):
            state = await until(journal, submitted.address, cleaned)
        proxy.resume()
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased", "finished", "cleaned"]
    assert (state.strays, state.lease and state.lease.worker) == (0, "w2")


async def test_who_is_cut_off_for_good_stops_at_once_and_takes_no_grace(journal: Journal, own_server: OwnServer) -> None:
    """As when the server refuses a credential that it knew: heartbeats cannot come, and nothing can be appended."""
    await set_ack_wait(journal.bus, 2.0)
    work, next_one = Waiting(end), Waiting(end)
    submitted = await journal.submit(request("closed"))
    async with Bus.connect(own_server.url, name="closed") as closed:
        context = RoleContext("", "test", "w1", Config(shutdown_grace_s=3600.0), lambda: None, asyncio.Event())
        loop = asyncio.create_task(Loop(context, Journal(closed), Scripted("builder", work), 1).run())
        await work.began.wait()
        await closed.link._client._process_err("'Authorization Violation'")
        await stopped(work)
        with pytest.raises(BusClosed):
            await asyncio.wait_for(loop, PATIENCE_S)
    async with role(journal, next_one, worker="w2"):
        await next_one.began.wait()
        next_one.go_on.set()
        await until(journal, submitted.address, cleaned)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased", "finished", "cleaned"]


async def test_the_grace_is_not_waited_for_once_the_connection_is_closed_for_good(
    journal: Journal, own_server: OwnServer
) -> None:
    """Free slots: the loop hears of it while it waits for a delivery, before any heartbeat is due."""
    work = Waiting(end)
    submitted = await journal.submit(request("no-grace"))
    async with Bus.connect(own_server.url, name="closed") as closed:
        context = RoleContext("", "test", "w1", Config(shutdown_grace_s=3600.0), lambda: None, asyncio.Event())
        loop = asyncio.create_task(Loop(context, Journal(closed), Scripted("builder", work), 2).run())
        await work.began.wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cutor.roles.attention.Attention.cut_off", lambda *_: None)
            await closed.close()
            with pytest.raises(BusClosed):
                await asyncio.wait_for(loop, PATIENCE_S)
    assert work.stopped.is_set()
    assert await kinds(journal, submitted.address) == ["submitted", "leased"]


async def test_a_job_goes_on_when_the_server_comes_back_in_time(journal: Journal, own_server: OwnServer) -> None:
    """An outage longer than an append used to wait for, shorter than the lease: not a lease is spent on it."""
    work = Waiting(end)
    submitted = await journal.submit(request("outage"))
    async with role(journal, work):
        await work.began.wait()
        await own_server.kill()
        work.go_on.set()  # the append finds nobody
        await asyncio.sleep(17)
        await own_server.start()
        state = await until(journal, submitted.address, cleaned)
    assert (state.status, state.attempts.builder, state.strays) == ("FINISHED", 1, 0)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "finished", "cleaned"]


@asynccontextmanager
async def running_test_case(journal: Journal, name: str) -> AsyncIterator[tuple[LeasedStep, asyncio.Event, asyncio.Task[None]]]:
    """A runner's work that adds a result once the event is set, and then has a test case that never ends by itself."""
    submitted = await journal.submit(request(name, cases=5))
    builder = Lease(role="builder", worker="b", token="b", number=1)
    await journal.settle(submitted, lambda _state: Leased(lease=builder))
    await build(LeasedStep(journal, Policy(), await journal.known(submitted.address), builder))
    lease = Lease(role="runner", worker="r", token="r", number=1)
    state = (await journal.settle(await journal.known(submitted.address), lambda _state: Leased(lease=lease))).state
    leased = LeasedStep(journal, Policy(), state, lease)

    go_on = asyncio.Event()

    async def work() -> None:
        async with Results(leased) as results:
            await go_on.wait()
            await results.add(Stage(outcome="OK"))
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    try:
        yield leased, go_on, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_results_that_are_not_wanted_stop_the_test_case_that_runs(journal: Journal) -> None:
    async with running_test_case(journal, "flight") as (leased, go_on, task):
        other = Lease(role="runner", worker="o", token="o", number=2)
        await journal.settle(await journal.known(leased.state.address), lambda _state: Leased(lease=other))
        go_on.set()
        with pytest.raises(LeaseLost, match="lease 1 of the runner is over"):
            await asyncio.wait_for(task, PATIENCE_S)
        assert task.cancelling() == 0
    assert (await journal.known(leased.state.address)).lease == other


async def test_a_test_case_does_not_outlive_results_that_cannot_be_appended(journal: Journal) -> None:
    async with running_test_case(journal, "unreachable") as (_, go_on, task):

        async def away(*_some: object, **_more: object) -> Appended:
            raise BusUnreachable("NATS does not answer")

        journal.settle = away  # type: ignore[method-assign]
        go_on.set()
        with pytest.raises(BusUnreachable):
            await asyncio.wait_for(task, PATIENCE_S)


async def test_a_cancellation_from_outside_stays_one_although_results_fail_at_the_same_time(journal: Journal) -> None:
    async with running_test_case(journal, "both") as (leased, go_on, task):
        failed = asyncio.Event()

        async def away(*_some: object, **_more: object) -> Appended:
            failed.set()
            raise BusUnreachable("NATS does not answer")

        journal.settle = away  # type: ignore[method-assign]
        go_on.set()
        await failed.wait()
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE_S)
        assert task.cancelled()
    assert leased.interrupted is not None, "what there was to tell is noted all the same"


class RoleProcess:
    """A scripted role as a process."""

    def __init__(self, server: str, directory: Path, worker: str) -> None:
        self._marks, self.worker = directory / "marks", worker
        self._marks.mkdir(exist_ok=True)
        arguments = [server, str(directory / f"data-{worker}"), "builder", worker, str(self._marks)]
        self._process = subprocess.Popen([sys.executable, "-m", "tests.scripted_roles", *arguments])

    async def mark(self, what: str) -> None:
        """Wait until something has happened to it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (self._marks / f"{self.worker}-{what}").exists():
                assert self._process.poll() is None, "it has ended"
                await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


async def test_a_stopped_process_that_goes_on_stops_its_work_and_appends_nothing(
    journal: Journal, own_server: OwnServer, tmp_path: Path
) -> None:
    await set_ack_wait(journal.bus, 2.0)
    submitted = await journal.submit(request("sigstop"))
    process = RoleProcess(own_server.url, tmp_path, "sleeper")
    try:
        await process.mark("began-1")
        process.send(signal.SIGSTOP)
        work = Waiting(end)
        async with role(journal, work, worker="w2"):
            async with asyncio.timeout(PATIENCE_S):
                await work.began.wait()
            await set_ack_wait(journal.bus, 60.0)  # the event is to come to nobody a third time
            process.send(signal.SIGCONT)
            await process.mark("stopped-1")
            work.go_on.set()
            state = await until(journal, submitted.address, cleaned)
    finally:
        process.end()
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased", "finished", "cleaned"]
    assert (state.strays, state.lease and state.lease.worker) == (0, "w2")


@pytest.mark.parametrize("when", ["before the lease", "while it runs"])
async def test_strays_from_elsewhere_hurt_no_submission(journal: Journal, when: str) -> None:
    """Whatever anybody may publish under a submission's subjects, but for what ends it rightfully."""
    submitted = await journal.submit(request(f"strays-{when.replace(' ', '-')}"))
    address = submitted.address
    work = Waiting(end)

    async def flood(lease: Lease | None) -> int:
        forged = lease or Lease(role="builder", worker="w1", token="guessed", number=1)
        wrong = Lease(role=forged.role, worker=forged.worker, token="wrong", number=forged.number)
        bodies = {
            "leased": [encode(Leased(lease=Lease(role="builder", worker="x", token="x", number=n))) for n in (5, 0, 2**40)],
            "finished": [encode(Finished(lease=wrong, outcome="OK")), b"\xff\xfe", b"", b'{"kind":"finished","version":2}'],
            "ran": [encode(Ran(lease=wrong, index=0, stages=(Stage(outcome="OK"),))), b"[]"],
            "cleaned": [b'{"kind":"cleaned","worker":"x","by":"worker"}'],
            "cancelled": [b"garbage", b'{"kind":"cancelled","version":9}', encode(Finished(lease=wrong, outcome="OK"))],
            "submitted": [b"garbage"],
            "exploded": [encode(Cancelled())],
        }
        for kind, some in bodies.items():
            for body in some:
                await journal.bus.publish(event_subject(address, kind), body)
        return sum(len(some) for some in bodies.values())

    sent = await flood(None) if when == "before the lease" else 0
    async with role(journal, work):
        await work.began.wait()
        if when == "while it runs":
            sent = await flood(work.taken[0].lease)
            await asyncio.sleep(0.5)
        assert not work.stopped.is_set()
        work.go_on.set()
        state = await until(journal, address, cleaned)
    assert (state.status, state.strays, state.attempts.builder, len(work.taken)) == ("FINISHED", sent, 1, 1)
