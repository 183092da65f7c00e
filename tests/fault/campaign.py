"""Rounds on one stack: points armed, submissions handed in, processes killed, and when all has ended, everything looked at."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from cutor import Client
from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.errors import CutorError
from cutor.journal.environments import Environments
from cutor.model.request import request_from
from cutor.model.subjects import Address
from tests.attacks.campaign import unchecked
from tests.attacks.leftovers import Census
from tests.fault import deeds, promptness, views
from tests.fault.arming import Order
from tests.fault.fetched import FetchedEnvironment
from tests.fault.history import EVENTS, History, following
from tests.fault.invariants import Expected, Finding, Judged, check_ids
from tests.fault.leftovers import FaultWatch, roots_of
from tests.fault.points import Point, before
from tests.fault.rows import Handed, Row
from tests.fault.stack import LEASE_S, FaultStack
from tests.fault.submissions import BASIC, KINDS, LONG, SHELL, TWINS, Kind, fresh_id
from tests.fault.wraps import BUG, POISONED

STEPS: Final = ("builder.container-create.before", "runner.run.before", "runner.compile.before")
"""Where steps are let fail: a runner's containers are made before any submission is there."""
ACKNOWLEDGED_S: Final = 90.0
FIRED_S: Final = 180.0
AGAIN_S: Final = 15.0
"""So long after the last submission another one is handed in for a projector that has not come by its point: one that is
started again takes all that came meanwhile in a single commit.
"""
DONE_S: Final = 240.0
SEEN_S: Final = 120.0
LETTERS_S: Final = 120.0
"""A projector that could not write them tries again after 10 s."""
UNANSWERED_S: Final = 180.0
HANDED_BACK_NS: Final = (LEASE_S - 4) * 1_000_000_000
"""A delivery whose clock ran out comes so long after a kill, or later: the last heartbeat was half a second old."""
RUNNING_S: Final = 0.2
"""Between two looks whether what is to be cancelled runs."""
FIVE: Final = BASIC[:5]
LOST: Final = f"{SHELL}\n# lost from the store\n"


class Campaign:
    """What is handed in to one stack, and what is looked at. Make one with `campaign`."""

    def __init__(self, stack: FaultStack, client: Client, bus: Bus, history: History, projector: Path) -> None:
        self.stack = stack
        self.client = client
        self.bus = bus
        self.history = history
        self.tasks: set[asyncio.Task[None]] = set()
        self.projector = projector
        self.watches: list[tuple[FaultWatch, Census]] = []
        self.judged = Judged()
        self.strict = stack.max_leases == 1
        self.redelivered = 0
        """How often in this round everything that waits was delivered again: whoever was at work loses a lease."""
        self._twins = -1
        self._twin_token = secrets.token_hex(4)
        self._lost_key = ""
        self._lost: list[str] = []
        self._fetched = FetchedEnvironment(stack.store)
        self._ids_said: set[Finding] = set()
        self.garbage: set[int] = set()
        self._letters_said: set[str] = set()

    # -- handing in ------------------------------------------------------------------------------------------------

    async def hand_in(self, kind: Kind, *, by_process: bool = False) -> Handed:
        """Hand in a submission and return when it was acknowledged; where no answer comes, the same one again.

        ``by_process``: a process hands it in first, that may die of it.
        """
        identity = fresh_id(kind.name)
        if kind.environment == "lost":
            await self._lose_environment()
            self._lost.append(identity)
        if kind.environment == "fetched":
            await self.history.until_done(self._fetched.users, timeout_s=DONE_S)
            await self._fetched.forget()
            self._fetched.users.append(identity)
        request = kind.request(identity, self._shell(kind))
        if by_process:
            await self.stack.submit(identity, msgspec.json.encode(request))
        deadline = time.monotonic() + ACKNOWLEDGED_S
        while True:
            try:
                await self._submit(kind, identity, request)
                break
            except (BusError, CutorError):  # it may or may not be stored: handing the same one in again tells
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
        if kind.cancel != "nothing":
            self._begin(self._cancel(identity, kind.cancel))
        return Handed(identity, kind)

    def _shell(self, kind: Kind) -> str | None:
        """Return the ``shell.nix`` of a submission whose environment is neither its own nor everybody's."""
        if kind.environment == "lost":
            return LOST
        if kind.environment == "fetched":
            return self._fetched.shell
        if kind.environment != "twin":
            return None
        self._twins += 1
        return kind.shell_of(f"{self._twin_token} {self._twins // TWINS}")

    async def _submit(self, kind: Kind, identity: str, request: dict[str, object]) -> None:
        if not kind.unchecked:
            await self.client.submit(request, id=identity)
            return
        valid = unchecked(request_from(request))
        await self.client.journal.submit(msgspec.structs.replace(valid, address=Address("default", identity)))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _cancel(self, identity: str, until: str) -> None:
        if until == "submitted":
            await self.history.until(identity, "submitted", timeout_s=SEEN_S)
        else:
            await self.history.until(identity, "leased", until, timeout_s=SEEN_S)
            while not await asyncio.to_thread(self.stack.runs, identity, LONG.replace(" ", "\0").encode()):
                await asyncio.sleep(RUNNING_S)
        await self.cancel(identity)

    async def cancel(self, identity: str) -> None:
        """Cancel a submission; where no answer comes, again."""
        while True:
            try:
                await self.client.cancel(identity)
                return
            except BusError:
                await asyncio.sleep(0.2)

    async def _lose_environment(self) -> None:
        """Let the log say of an environment that it holds a path which the store has not, when nobody builds it any more."""
        await self.history.until_done(self._lost, timeout_s=DONE_S)
        environments = Environments(self.bus)
        key = self._lost_key
        known = await environments.find(key)
        assert known is not None
        gone = f"/nix/store/{secrets.token_hex(16).replace('e', 'x')}-gone"  # Nix's base 32 has no "e"
        closure = (*(path for path in known.built.closure if not path.endswith("-gone")), gone)
        built = msgspec.structs.replace(known.built, closure=closure, worker=f"loses-{secrets.token_hex(6)}")
        await environments.append_built(built)

    # -- a stack that works ----------------------------------------------------------------------------------------

    async def warm(self, *, lose: bool = True, places: Callable[[], Sequence[FaultStack]] | None = None) -> None:
        """See that the stack works, build what submissions share, and note what is there then.

        ``places``: where to look for what is left, if it is not the stack itself.
        """
        for shell in (SHELL, self._fetched.shell, LOST) if lose else (SHELL,):
            identity = fresh_id("warm")
            await self.client.submit(KINDS["plain"].request(identity, shell), id=identity)
            left = await self.history.until_done([identity], timeout_s=DONE_S)
            assert not left, "a normal submission does not end"
            result = await self.client.result(identity)
            assert result.outcome == "OK", (result.outcome, result.message)
            assert result.environment is not None
            self._lost_key = result.environment.key
            if shell == self._fetched.shell:
                await self._fetched.learn(self.bus, self._lost_key)
        for place in [self.stack] if places is None else places():
            watch = FaultWatch(place)
            self.watches.append((watch, await asyncio.to_thread(watch.census)))

    # -- rounds ----------------------------------------------------------------------------------------------------

    async def round(self, chains: Sequence[Sequence[Point]]) -> list[Row]:
        """Kill some processes at one time, each at its points one after the other; return what came of each point."""
        began = time.monotonic()
        rows = {point.name: Row(point.name) for chain in chains for point in chain}
        handed: dict[str, list[Handed]] = {name: [] for name in rows}
        self.redelivered = 0
        if self.strict:
            for step in STEPS:
                self.stack.points.arm(step, Order("fail", always=True))
        async with asyncio.TaskGroup() as tasks:
            for chain in chains:
                tasks.create_task(self._chain(chain, rows, handed))
        await self.settle(rows, handed, began)
        return list(rows.values())

    async def _chain(self, chain: Sequence[Point], rows: dict[str, Row], handed: dict[str, list[Handed]]) -> None:
        for point in chain:
            row = rows[point.name]
            self._arm(point)
            for name in (*FIVE, *point.kinds):
                by_process = point.role == "producer" and name in point.kinds and point.deed != "cancel"
                handed[point.name].append(await self.hand_in(KINDS[name], by_process=by_process))
            deed = asyncio.create_task(deeds.do(self, point, row, handed[point.name]))
            try:
                await self._until_fired(point, row, handed[point.name])
                if row.reached and point.deed in deeds.TO_THE_END:
                    await asyncio.wait_for(deed, DONE_S)
            finally:
                deed.cancel()
                await asyncio.gather(deed, return_exceptions=True)

    async def settle(
        self,
        rows: dict[str, Row],
        handed: dict[str, list[Handed]],
        began: float,
        *,
        faults_met: Callable[[str], int] | None = None,
    ) -> None:
        """Wait until all have ended, and look at everything.

        ``faults_met``: how many faults a submission met, each of which may cost it a lease; else the most kills of a role.
        """
        everything = [one for several in handed.values() for one in several]
        await self.history.until_done([one.identity for one in everything], timeout_s=DONE_S)
        kills = Counter(name.partition(".")[0] for name, row in rows.items() for _ in range(row.kills + row.made))
        most = max(kills.values(), default=0)
        await self._judge(rows, handed, faults_met or (lambda _: most))
        self._went_on(rows, handed)
        await self._not_gone(rows, handed)
        left, differ = await self.look()
        for name, row in rows.items():
            row.submissions = len(handed[name])
            row.left, row.views = [*row.left, *left], differ
            row.seconds = time.monotonic() - began

    def _arm(self, point: Point) -> None:
        if point.deed == "fail":
            self.stack.points.arm(next(step for step in STEPS if step.startswith(point.role)), Order("fail"))
        if point.deed == "poison":
            self.stack.points.arm(f"{point.role}.{POISONED}", Order("fail", always=True))
        if point.deed == "bug":
            self.stack.points.arm(f"{point.role}.{BUG}", Order("fail", always=True))
        for first in before(point):
            self.stack.points.arm(first, Order())
        self.stack.points.arm(point.name, Order(passing=point.passing))

    async def _until_fired(self, point: Point, row: Row, handed: list[Handed]) -> None:
        """Wait until a process has died at the point; where none comes by, the order is taken back."""
        began = time.monotonic()
        deadline, again = began + FIRED_S, began + AGAIN_S
        while not self.stack.points.fired(point.name):
            now = time.monotonic()
            if point.role == "projector" and again < now < deadline:
                handed.append(await self.hand_in(KINDS[FIVE[0]]))
                again = now + AGAIN_S
            if now > deadline:
                self.stack.points.disarm(point.name)
                row.reached = False
                return
            await asyncio.sleep(0.05)
        self._killed(row, point.name)
        for first in before(point):
            if self.stack.points.fired(first):
                self._killed(row, first)
            else:
                self.stack.points.disarm(first)

    def _killed(self, row: Row, point: str) -> None:
        row.kills += 1
        row.killed_ns.append(self.stack.points.fired_ns(point))

    async def _letters(self) -> list[Finding]:
        """Return what is wrong with the dead letters: each piece of garbage has one, and nothing else that anybody wrote."""
        deadline = time.monotonic() + LETTERS_S
        wanted = {f"cutor.dead.message.EVENTS.{sequence}" for sequence in self.garbage}
        while True:
            found = {stored.subject async for stored in self.bus.read("DEADLETTERS")}
            differ = (wanted ^ found) - self._letters_said
            if not differ or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        self._letters_said |= differ
        lost = [Finding("lost", f"garbage without a letter: {one}") for one in sorted(differ & wanted)]
        return lost + [Finding("doubled", f"something that changed nothing: {one}") for one in sorted(differ & found)]

    async def _judge(self, rows: dict[str, Row], handed: dict[str, list[Handed]], faults_met: Callable[[str], int]) -> None:
        for name, row in rows.items():
            for one in handed[name]:
                entries, expected = self.history.entries[one.identity], self._expected(one.kind, faults_met(one.identity))
                found = self.judged.first(one.identity, entries, expected)
                row.findings += [(one.identity, finding) for finding in found]
        first = next(iter(rows.values()))
        first.findings += self._ids()
        first.findings += [("the letters", finding) for finding in await self._letters()]

    def _ids(self) -> list[tuple[str, Finding]]:
        new = [finding for finding in check_ids(self.history.message_ids) if finding not in self._ids_said]
        self._ids_said.update(new)
        return [("the stream", finding) for finding in new]

    def _expected(self, kind: Kind, kills: int) -> Expected:
        """Return how a submission must end here: a kill costs a lease at the most, where leases are not bounded to one."""
        if self.strict:
            ends = ("PARKED", *(kind.expected.outcomes if kind.unchecked or kind.cancel != "nothing" else ()))
            return kind.expected._replace(outcomes=ends, max_leases=1)
        extra = self.redelivered + (2 if kind.environment == "lost" else 1)
        return kind.expected._replace(max_leases=1 + kills + extra)

    def _went_on(self, rows: dict[str, Row], handed: dict[str, list[Handed]]) -> None:
        """Note what came to its end by a clock alone. Where all was delivered again, notes may be of old deliveries."""
        kills_ns: dict[str, list[int]] = defaultdict(list)
        for row in rows.values():
            kills_ns[row.role] += row.killed_ns
        if not any(kills_ns.values()):
            return  # a cluster's roles have no instance in common, and what is killed there is a server
        for name, several in handed.items():
            for identity, entries in ((one.identity, self.history.entries[one.identity]) for one in several):
                found = [*promptness.unswept(entries, self.stack.instance, kills_ns)]
                if not self.redelivered:
                    found += promptness.slow(entries, self.stack.instance, kills_ns, HANDED_BACK_NS)
                rows[name].faults += [f"{identity}: {text}" for text in found]

    async def _not_gone(self, rows: dict[str, Row], handed: dict[str, list[Handed]]) -> None:
        """Note the containers that were there when it was said of them that they are gone."""
        owners = {one.identity: rows[name] for name, several in handed.items() for one in several}
        first = next(iter(rows.values()))
        for identity, containers in (await self.history.at_cleaned.left()).items():
            text = f"containers of {identity} when it was cleaned: {', '.join(containers)}"
            owners.get(identity, first).left.append(text)

    async def look(self) -> tuple[list[str], list[str]]:
        """Return what is left on the host, and how the views differ from a rebuild."""
        left = [name for watch, before in self.watches for name in await asyncio.to_thread(watch.left_since, before)]
        left += await asyncio.to_thread(roots_of, await self._private())
        return left, await views.differences(self.bus, self.projector / "projections.duckdb")

    async def _private(self) -> set[str]:
        """Return the keys of environments that were built for one submission alone."""
        events = [msgspec.json.decode(stored.body) async for stored in self.bus.read("ENVIRONMENTS")]
        return {event["key"] for event in events if event.get("private_to")}

    async def last(self) -> Row:
        """Return what is looked at in the end: deliveries that nobody answered, roots of Nix that were begun, and again all.

        All: every submission that was handed in. What came behind its end came after it was looked at.
        """
        row, began = Row("in the end"), time.monotonic()
        handed = [await self.hand_in(KINDS[name]) for name in (*FIVE, "builds")]
        await self.settle({row.point: row}, {row.point: handed}, began)
        row.left += await self._unanswered()
        await self.read_all()
        row.findings += [*self.judged.again(self.history.entries), *self._ids()]
        for watch, _ in self.watches:
            row.left += await asyncio.to_thread(watch.half_made_since)
        row.seconds = time.monotonic() - began
        return row

    async def read_all(self) -> None:
        """Return when all that is in the stream now has been taken; the projector has, as its views were looked at."""
        newest = int((await self.bus.stream_info(EVENTS))["state"]["last_seq"])
        await self.history.until_read(newest, timeout_s=SEEN_S)

    async def _unanswered(self) -> list[str]:
        """Return the consumers that hold deliveries which were not answered, after their clocks have run out."""
        end = time.monotonic() + UNANSWERED_S
        while True:
            found = []
            for role in ("builder", "runner"):
                consumer = f"{role}-default"
                state = await self.bus.api.call(consumer, f"CONSUMER.INFO.EVENTS.{consumer}")
                numbers = state["num_ack_pending"], state["num_pending"]
                if any(numbers):
                    found.append(f"deliveries of {consumer}: {numbers[0]} in work, {numbers[1]} wait")
            if not found or time.monotonic() > end:
                return found
            await asyncio.sleep(0.5)


@asynccontextmanager
async def campaign(stack: FaultStack, server: str | None = None, projector: Path | None = None) -> AsyncIterator[Campaign]:
    """Connect to a stack that runs. ``projector``: where its projector has its data, if not where the stack has its own."""
    async with AsyncExitStack() as exits:
        address = server or stack.server
        client = await exits.enter_async_context(Client(address))
        bus = await exits.enter_async_context(Bus.connect(address, name="fault harness"))
        history = await exits.enter_async_context(following(bus))
        held = Campaign(stack, client, bus, history, projector or stack.data)
        try:
            yield held
        finally:
            for task in held.tasks:
                task.cancel()
            await asyncio.gather(*held.tasks, return_exceptions=True)
            for watch, _ in held.watches:
                watch.close()
