"""A cancel in every phase of a submission, on a live stack: one end, the work stopped, nothing tried again.

How fast it stopped is read from the stream's own times: ``cancelled`` when the wish was stored, ``cleaned`` when container and
processes were gone.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest

from cutor import Client, InvalidRequest, Result, SubmissionUnknown
from cutor.client.client import REASON_BYTES
from cutor.model.events import Stage
from cutor.model.subjects import Address
from tests.bare_stack import User, one_line
from tests.integration.live_submissions import (
    PYTHON,
    TERMINAL,
    cleaned,
    document,
    printed,
    projected,
    seconds_between,
    until,
    with_client,
)
from tests.live_stack import Stack
from tests.processes import command_of, descendants, init_of
from tests.served import containers

FASTEST_S: Final = 5.0
"""What is promised is a second; here several are stopped at one time, and other tests have the CPUs meanwhile."""
BUSY_S: Final = 60.0
"""Far less than what is stopped would go on, far more than a busy machine takes."""
LONG_MS: Final = 300_000
"""Longer than anything is waited for."""
LONG: Final = {kind: {"wall_time_ms": LONG_MS} for kind in ("dependencies", "compile", "run")}

EVALUATING: Final = "SLOW = builtins.foldl' (a: b: a + b) 0 (builtins.genList (n: n) 400000000); packages"
REALISING: Final = 'SLOW = pkgs.runCommand "slow-@" { } "sleep 1000; echo > $out"; packages'
STUBBORN: Final = """
trap '' TERM INT HUP
for n in 1 2 3; do python3 -c 'import os, time; os.setsid(); time.sleep(1000)' < /dev/null > /dev/null & done
sleep 1000
"""


def slow_shell(what: str) -> str:
    """Return a `shell.nix` that nobody has built yet, and that takes long."""
    return PYTHON.replace("packages", what.replace("@", secrets.token_hex(4)))


class Ended:
    """What is known of a submission that has ended: its kinds of events in order with their times, its result."""

    def __init__(self, result: Result, times: Sequence[tuple[str, int]]) -> None:
        self.result = result
        self.kinds = [kind for kind, _ in times]
        self._times = dict(reversed(times))

    def seconds(self, earlier: str, later: str) -> float:
        """Return the seconds between the first event of one kind and that of another, by the stream's own times."""
        return (self._times[later] - self._times[earlier]) / 1e9

    @property
    def stopped_s(self) -> float:
        """Return how long it took from the wish to its fulfilment."""
        return self.seconds("cancelled", "cleaned")

    def check(self) -> None:
        """One end and then ``cleaned``, whatever came before, and not a message that changed nothing."""
        ends = [kind for kind in self.kinds if kind in TERMINAL]
        assert len(ends) == 1, self.kinds
        assert self.kinds[-2:] == [ends[0], "cleaned"], self.kinds
        ended = ends[0] == "cancelled"
        assert (self.result.status == "CANCELLED") is (self.result.outcome == "CANCELLED") is ended
        assert self.result.attempts.builder <= 1
        assert self.result.attempts.runner <= 1
        assert containers(self.result.id) == []


async def outcome(client: Client, identity: str) -> Ended:
    """Return what became of a submission, once it is cleaned."""
    result = await cleaned(client, identity)
    entries = await client.journal.entries(Address("default", identity))
    return Ended(result, [(entry.stored.subject.rpartition(".")[2], entry.stored.time_ns) for entry in entries])


async def seen(client: Client, identity: str, kind: str, what: str = "") -> None:
    """Return once an event is in the log."""
    async for update in client.watch(identity):
        if update.kind == kind and update.what.startswith(what):
            return
    raise AssertionError(f"{identity} ended before {kind}")


@asynccontextmanager
async def handed_in(client: Client, request: dict[str, Any]) -> AsyncIterator[str]:
    """Hand in, and yield the id; in the end it is cancelled, if it was not before: no slot is kept from the next test."""
    identity = (await client.submit(request)).id
    try:
        yield identity
    finally:
        await client.cancel(identity)


async def stopped(client: Client, request: dict[str, Any], role: str, after_s: float | None) -> Ended:
    """Hand in, cancel some time after a role's lease, or once a program sleeps, and return what became of it."""
    async with handed_in(client, request) as identity:
        if after_s is None:
            return await cancelled_at(client, identity, "sleep")
        await seen(client, identity, "leased", role)
        await asyncio.sleep(after_s)
        assert await client.cancel(identity, reason="enough")
        return await outcome(client, identity)


RUNNING: Final = document(STUBBORN, limits=LONG)
COMPILING: Final = document("true", files={"cutor-compile.sh": STUBBORN}, limits=LONG)

PHASES: Final[dict[str, tuple[str, float | None, str]]] = {
    # what: the role whose lease is waited for, seconds after it, or none for a program, the stage that is interrupted
    "evaluating, just begun": ("builder", 0.0, "dependencies"),
    "evaluating": ("builder", 1.0, "dependencies"),
    "realising": ("builder", None, "dependencies"),
    "running, just begun": ("runner", 0.0, "run"),
    "running": ("runner", None, "run"),
    "compiling": ("runner", None, "compile"),
}


def in_phase(what: str) -> dict[str, Any]:
    """Return a request that stays long in a phase."""
    phase = what.partition(",")[0]
    slow = {"evaluating": EVALUATING, "realising": REALISING}
    if phase in slow:
        return document("true", shell=slow_shell(slow[phase]), cache=False, limits=LONG)
    return RUNNING if phase == "running" else COMPILING


def stages(result: Result) -> dict[str, str | None]:
    """Return the outcome of each kind of stage, of the runs that of the only one."""
    found = {"dependencies": result.dependencies, "compile": result.compile, "run": result.run[0]}
    return {kind: None if stage is None else stage.outcome for kind, stage in found.items()}


def test_whatever_a_submission_is_at_a_cancel_stops_it_soon(stack: Stack) -> None:
    async def all_phases(client: Client) -> dict[str, Ended]:
        ways = {what: stopped(client, in_phase(what), role, after_s) for what, (role, after_s, _) in PHASES.items()}
        return dict(zip(ways, await asyncio.gather(*ways.values()), strict=True))

    found = with_client(stack, all_phases)
    for what, one in found.items():
        one.check()
        assert one.kinds[-2] == "cancelled", what
        assert one.result.message == "enough"
        assert stages(one.result)[PHASES[what][2]] == "CANCELLED", what
        assert list(stages(one.result).values()).count("CANCELLED") == 1, what
    took_s = [one.stopped_s for one in found.values()]
    print(f"stopped after {statistics.median(took_s):.2f} s (median), {max(took_s):.2f} s at the most")
    assert min(took_s) < FASTEST_S
    assert max(took_s) < BUSY_S
    assert_nothing_is_delivered_again(stack)


def assert_nothing_is_delivered_again(stack: Stack) -> None:
    """Every delivery has been answered, so that none can come again, and none is left to come."""

    async def look(client: Client) -> bool | None:
        counts = []
        for role in ("builder", "runner"):
            info = await client.journal.bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.{role}-default")
            counts += [info["num_ack_pending"], info["num_pending"]]
        return True if counts == [0, 0, 0, 0] else None

    with_client(stack, lambda client: until(lambda: look(client)))


BUSY: Final = "echo begun; echo error >&2; printf '\\0\\377'; exec bash -c ': goes-on; while :; do :; done'"
LOUD_BYTES: Final = 300_000
LOUD: Final = f"head -c {LOUD_BYTES} /dev/zero | tr '\\0' x; exec bash -c ': goes-on; sleep 1000; true'"
CPU_MS: Final = 110_000
PATIENT: Final = {kind: {"wall_time_ms": LONG_MS, "cpu_time_ms": CPU_MS} for kind in ("run", "compile")}


async def interrupted(client: Client, run: str, **more: Any) -> Ended:
    """Hand in what prints at once and then goes on for long, as a process whose command says so; cancel it then."""
    async with handed_in(client, document(run, limits=PATIENT, **more)) as identity:
        return await cancelled_at(client, identity, "goes-on")


async def cancelled_at(client: Client, identity: str, command: str) -> Ended:
    """Cancel once a process with these words in its command line runs for a submission."""
    await until(lambda: asyncio.to_thread(runs, identity, command))
    assert await client.cancel(identity, reason="enough")
    return await outcome(client, identity)


def runs(identity: str, command: str) -> bool | None:
    """Return true where such a process runs in a container of a submission, else null."""
    for pid in (pid for container in containers(identity) for pid in descendants(init_of(container))):
        if any(word.startswith((command, f": {command}")) for word in command_of(pid)):
            return True
    return None


def check_measured(stage: Stage | None) -> Stage:
    """Check what is known of a stage that a cancel stopped, beside what it printed, and return it."""
    assert stage is not None
    assert (stage.outcome, stage.exit_code, stage.signal, stage.message) == ("CANCELLED", None, None, None)
    assert stage.cpu_time_ms is not None
    assert (stage.wall_time_ms or 0) > 0
    assert stage.limits is not None
    assert (stage.limits.wall_time_ms, stage.limits.cpu_time_ms) == (LONG_MS, CPU_MS)
    return stage


def test_a_cancelled_stage_keeps_what_it_printed(stack: Stack) -> None:
    async def all_of_them(client: Client) -> list[Ended]:
        cases = [{"name": "first"}, {"name": "second"}]
        return await asyncio.gather(
            interrupted(client, "true", files={"cutor-compile.sh": BUSY}),
            interrupted(client, BUSY, test_cases=cases),
            interrupted(client, LOUD),
        )

    compiling, running, loud = with_client(stack, all_of_them)
    for one in (compiling, running, loud):
        one.check()
    for stage in (check_measured(compiling.result.compile), check_measured(running.result.run[0])):
        assert (printed(stage.stdout), printed(stage.stderr)) == (b"begun\n\0\377", b"error\n")
    assert [stage.outcome for stage in compiling.result.run] == ["SKIPPED"]
    assert [(stage.outcome, stage.name) for stage in running.result.run] == [("CANCELLED", "first"), ("SKIPPED", "second")]
    assert printed(check_measured(loud.result.run[0]).stdout) == b"x" * LOUD_BYTES
    assert min(one.stopped_s for one in (compiling, running, loud)) < FASTEST_S
    check_shown(stack, running.result.id)


def check_shown(stack: Stack, identity: str) -> None:
    """Command line and views tell of it what the result does."""
    shown = stack.cutor("status", identity).stdout.decode()
    assert "run 1 first, stderr:\n    error\n" in shown
    assert "run 1: first CANCELLED in " in stack.cutor("events", identity).stdout.decode()
    wanted = f"id = '{identity}' and stage = 'run' and is_current and stdout_bytes > 0"
    rows = projected(stack, f"select test_case, outcome, stdout_bytes, wall_time_ms > 0 from stages where {wanted}", rows=1)
    assert rows == [[0, "CANCELLED", 8, True]]


def test_a_cancelled_build_keeps_what_nix_printed(stack: Stack) -> None:
    shell = PYTHON.replace("packages", f"shellHook = ''echo hooked {secrets.token_hex(4)}; sleep 1000''; packages")

    async def building(client: Client) -> Ended:
        async with handed_in(client, document("true", shell=shell, cache=False, limits=LONG)) as identity:
            return await cancelled_at(client, identity, "sleep")

    one = with_client(stack, building)
    one.check()
    stage = one.result.dependencies
    assert stage is not None
    assert stage.outcome == "CANCELLED"
    assert stage.limits is not None
    assert stage.stdout.data.startswith("hooked ")
    assert stage.wall_time_ms is not None


def test_a_queued_submission_is_cancelled_and_never_begins(stack: Stack) -> None:
    """Every slot is taken: one waits for a builder, since nobody has built its environment, one for a runner. Who receives it
    in the end only says that it is gone.
    """

    async def queued(client: Client) -> tuple[list[Ended], list[Ended]]:
        async with AsyncExitStack() as handed:
            holders = [await handed.enter_async_context(handed_in(client, RUNNING)) for _ in range(2)]
            await asyncio.gather(*(seen(client, holder, "leased", "runner") for holder in holders))
            for_runner = await handed.enter_async_context(handed_in(client, RUNNING))
            await seen(client, for_runner, "cache-built")
            building = await handed.enter_async_context(handed_in(client, in_phase("realising")))
            await until(lambda: asyncio.to_thread(runs, building, "sleep"))  # a lease alone may be given up on a busy machine
            for_builder = await handed.enter_async_context(handed_in(client, in_phase("realising")))
            waiting = [for_builder, for_runner]
            assert [await client.cancel(identity) for identity in waiting] == [True, True]
            assert [(await client.result(identity)).status for identity in waiting] == ["CANCELLED"] * 2
            for holder in [building, *holders]:
                assert await client.cancel(holder), (await client.result(holder)).message
            ended = [await outcome(client, one) for one in (*waiting, building, *holders)]
            return ended[:2], ended[2:]

    (for_builder, for_runner), holders = with_client(stack, queued)
    for one in (for_builder, for_runner, *holders):
        one.check()
    assert for_builder.kinds == ["submitted", "cancelled", "cleaned"]
    assert for_runner.kinds == ["submitted", "leased", "cache-built", "cancelled", "cleaned"]
    assert stages(for_builder.result) == {"dependencies": None, "compile": None, "run": "SKIPPED"}
    assert stages(for_runner.result) == {"dependencies": "OK", "compile": None, "run": "SKIPPED"}
    assert_nothing_is_delivered_again(stack)


RACES: Final = 20
SHORT: Final = document("sleep 0.05", test_cases=[{}, {}])


async def pace_s(client: Client) -> float:
    """Return the seconds that a short submission takes from its first result to its end, on this machine and now."""
    identities = [(await client.submit(SHORT)).id for _ in range(2)]
    found = [await outcome(client, identity) for identity in identities]
    return max(one.seconds("ran", "finished") for one in found)


async def race(client: Client, identity: str, after_s: float) -> bool:
    await seen(client, identity, "ran")
    await asyncio.sleep(after_s)
    return await client.cancel(identity)


def test_a_cancel_that_races_with_the_natural_end_leaves_one_end(stack: Stack) -> None:
    """Short submissions, each cancelled at a moment of its own around its end: whoever comes first, all tell the same."""

    async def races(client: Client) -> list[tuple[bool, Ended]]:
        latest_s = 2 * await pace_s(client)
        identities = [(await client.submit(SHORT)).id for _ in range(RACES)]
        racing = (race(client, identity, random.uniform(0, latest_s)) for identity in identities)
        appended = await asyncio.gather(*racing)
        return list(zip(appended, [await outcome(client, identity) for identity in identities], strict=True))

    found = with_client(stack, races)
    for appended, one in found:
        one.check()
        assert (one.kinds[-2], one.result.outcome) == (("cancelled", "CANCELLED") if appended else ("finished", "OK"))
    print(f"of {RACES} races the cancel won {sum(appended for appended, _ in found)}")
    names = ", ".join(f"'{one.result.id}'" for _, one in found)
    columns = "id, status, outcome, strays, cleaned_at is not null"
    rows = projected(stack, f"select {columns} from submissions where id in ({names}) and cleaned_at is not null", rows=RACES)
    wanted = [[one.result.id, one.result.status, one.result.outcome, 0, True] for _, one in found]
    assert sorted(rows) == sorted(wanted)
    assert_nothing_is_delivered_again(stack)


def test_of_many_who_cancel_one_learns_that_it_was_him(stack: Stack) -> None:
    async def many(client: Client) -> tuple[list[bool], bool, Ended]:
        async with handed_in(client, RUNNING) as identity:
            await seen(client, identity, "leased", "runner")
            commands = [asyncio.to_thread(stack.cutor, "cancel", identity, "--json") for _ in range(3)]
            said, done = await asyncio.gather(
                asyncio.gather(*(client.cancel(identity) for _ in range(10))), asyncio.gather(*commands)
            )
            assert [one.returncode for one in done] == [0, 0, 0]
            said += [json.loads(one.stdout)["cancelled"] for one in done]
            return said, await client.cancel(identity), await outcome(client, identity)

    said, again, one = with_client(stack, many)
    assert (Counter(said), again) == (Counter({False: 12, True: 1}), False)
    one.check()


def test_an_ended_submission_stays_as_it_is(stack: Stack) -> None:
    async def ended(client: Client) -> Result:
        identity = (await client.submit(document("echo done"))).id
        await client.result(identity, wait=True)
        return await cleaned(client, identity)

    before = with_client(stack, ended)
    done = stack.cutor("cancel", before.id, "--reason", "too late")
    assert (done.returncode, done.stdout.decode()) == (0, f"{before.id} has ended already; nothing was changed\n")
    assert (done.stderr, before.outcome) == (b"", "OK")
    assert with_client(stack, lambda client: client.result(before.id)) == before


@pytest.fixture
async def waiting(bare: User) -> AsyncIterator[tuple[Client, str]]:
    """A client, and a submission that no role will ever take up."""
    async with Client(bare.stack.server) as client:
        identity = (await client.submit(document("true"))).id
        yield client, identity
        await client.cancel(identity)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (5, "reason: Expected `str | null`, got `int`"),
        ("\ud800", "reason is not Unicode text: it holds the lone surrogate '\\ud800'"),
        ("é" * REASON_BYTES, f"reason: {2 * REASON_BYTES} bytes are more than the maximum of {REASON_BYTES} bytes"),
    ],
)
async def test_a_reason_that_no_event_could_hold_cancels_nothing(waiting: tuple[Client, str], reason: Any, said: str) -> None:
    client, identity = waiting
    with pytest.raises(InvalidRequest) as refused:
        await client.cancel(identity, reason=reason)
    assert str(refused.value) == said
    assert (await client.result(identity)).status == "SUBMITTED"
    assert await client.cancel(identity, reason="é" * (REASON_BYTES // 2))


async def test_a_reason_from_the_command_line_that_is_no_text_is_one_line(bare: User, waiting: tuple[Client, str]) -> None:
    done = await asyncio.to_thread(bare.cutor, "cancel", waiting[1], "--reason", "\udcff")
    assert "reason is not Unicode text" in one_line(done, 2)


async def test_nobody_can_cancel_what_is_not_there(waiting: tuple[Client, str]) -> None:
    client, identity = waiting
    with pytest.raises(SubmissionUnknown, match=f"no submission '{identity}0' of the tenant 'default' is known"):
        await client.cancel(f"{identity}0")
    assert (await client.result(identity)).status == "SUBMITTED"


def test_the_times_of_an_end_are_those_of_its_events(stack: Stack) -> None:
    one = with_client(stack, lambda client: stopped(client, RUNNING, "runner", 0.5))
    result = one.result
    assert result.finished_at is not None
    assert result.cleaned_at is not None
    assert seconds_between(result.finished_at, result.cleaned_at) == pytest.approx(one.stopped_s, abs=1e-5)
