"""Handing attacks in to a live stack, through the client as anybody would, and what came of each."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from cutor import Client, Result
from cutor.bus.errors import BusError
from cutor.errors import CutorError
from cutor.model.errors import InvalidRequest
from cutor.model.request import Request, ValidRequest, ValidTestCase, request_from
from cutor.model.subjects import Address
from tests.attacks.attack import LEADERS, Attack, Kill, parse_attack, request_of
from tests.attacks.judgement import differences, expected, got, repeated
from tests.attacks.neighbours import NEIGHBOURS, Neighbour
from tests.attacks.stack import AttackedStack, StackFailed

PROGRAMS: Final = Path(__file__).parent
ENDED_S: Final = 180
CLEANED_S: Final = 180
"""More than the 30 s of a dead lease: a runner that another attack kills may hold an ended submission still to be cleaned."""
THERE_S: Final = 60
"""A process that another attack killed is started again: on a busy machine that takes a while."""
AT_ONCE: Final = 2


class Verdict(NamedTuple):
    """What came of one attack; no differences: what must."""

    name: str
    expected: str
    got: str
    seconds: float
    differences: tuple[str, ...] = ()


Show = Callable[[Verdict], None]
HandIn = Callable[[Attack, asyncio.Event], Coroutine[Any, Any, None]]
"""Hands in an attack and judges it; sets the event when it has ended, and has then only to be cleaned."""


def load_attacks() -> list[Attack]:
    """Return every attack in the directories beside this file, by name. Raises `InvalidAttack`."""
    paths = sorted(path for path in PROGRAMS.glob("*/*") if path.suffix in LEADERS and path.name != "__init__.py")
    return [parse_attack(str(path.relative_to(PROGRAMS)), path.read_text()) for path in paths]


class Campaign:
    """Attacks on one stack. ``crowd`` is how many normal submissions an attack in a crowd has beside it at the most."""

    def __init__(self, stack: AttackedStack, client: Client, crowd: int) -> None:
        self._stack = stack
        self._client = client
        self._crowd = crowd
        self._killed = asyncio.Semaphore(0)

    async def alone(self, attacks: Sequence[Attack], show: Show, at_once: int) -> list[Verdict]:
        """Hand in ``at_once`` attacks at one time and nothing else; those that kill go first, together.

        Their dead leases take half a minute to run out, in which nothing of theirs runs: the others go on meanwhile.
        """
        verdicts: list[Verdict] = []
        turns = asyncio.Semaphore(at_once)

        async def one(attack: Attack, ended: asyncio.Event) -> None:
            verdicts.append(await self.judged(attack, ended))
            show(verdicts[-1])

        async def release(ended: asyncio.Event) -> None:
            await ended.wait()
            turns.release()

        async with self._killing(attacks, one), asyncio.TaskGroup() as tasks:
            for attack in attacks:
                if not attack.fells:
                    await turns.acquire()
                    ended = asyncio.Event()
                    tasks.create_task(one(attack, ended))
                    tasks.create_task(release(ended))
        return verdicts

    async def beside(self, attacks: Sequence[Attack], show: Show) -> list[Verdict]:
        """Hand in attacks, two at once, while normal submissions come one after the other; their verdicts come last."""
        verdicts: list[Verdict] = []
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(attack: Attack, ended: asyncio.Event) -> None:
            verdicts.append(await self.judged(attack, ended))
            show(verdicts[-1])

        async def in_turn(attack: Attack) -> None:
            async with turn:
                await one(attack, asyncio.Event())

        async with self._neighbours() as normal, self._killing(attacks, one):
            await asyncio.gather(*(in_turn(attack) for attack in attacks if not attack.fells))
        for verdict in normal:
            show(verdict)
        return verdicts + normal

    @asynccontextmanager
    async def _killing(self, attacks: Sequence[Attack], one: HandIn) -> AsyncIterator[None]:
        """Hand in the attacks that kill; the block begins when all have killed, and at its end their ends are waited for.

        Each kills before the next is handed in: its kill would cost that one a lease, and half a minute until its own kill.
        Those of the server come first and end before the others begin, which would have to wait for dead leases.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            for attack in sorted(attacks, key=lambda attack: attack.fells != "server"):
                if attack.fells:
                    tasks.append(asyncio.create_task(one(attack, asyncio.Event())))
                    await self._kill_of(tasks[-1])
                if attack.fells == "server":
                    await tasks.pop()
            yield
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _kill_of(self, attack: asyncio.Task[None]) -> None:
        """Return when the attack has killed, or has ended without: it could not be handed in."""
        killed = asyncio.create_task(self._killed.acquire())
        await asyncio.wait((attack, killed), return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()

    @asynccontextmanager
    async def _neighbours(self) -> AsyncIterator[list[Verdict]]:
        """Hand in normal submissions while the block runs; yields the list that gets a verdict for each kind, in the end."""
        stopping = asyncio.Event()
        verdicts: list[Verdict] = []
        task = asyncio.create_task(self._normal(stopping))
        try:
            yield verdicts
            stopping.set()
            changed, seconds = await task
            for neighbour in NEIGHBOURS:
                found = tuple(changed[neighbour.name])
                count, took = len(seconds[neighbour.name]), max(seconds[neighbour.name], default=0.0)
                as_ever = count - len(changed[neighbour.name])
                words = (f"{neighbour.ends}, {number} of {count}" for number in (count, as_ever))
                verdicts.append(Verdict(f"beside: {neighbour.name}", *words, took, found))
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _normal(self, stopping: asyncio.Event) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
        changed: dict[str, list[str]] = {neighbour.name: [] for neighbour in NEIGHBOURS}
        seconds: dict[str, list[float]] = {neighbour.name: [] for neighbour in NEIGHBOURS}
        for count, neighbour in enumerate(cycle(NEIGHBOURS)):
            if stopping.is_set() and count >= len(NEIGHBOURS):
                break
            began = time.monotonic()
            if said := await self._neighbour(neighbour):
                changed[neighbour.name].append(said)
            seconds[neighbour.name].append(time.monotonic() - began)
        return changed, seconds

    async def _neighbour(self, neighbour: Neighbour) -> str | None:
        try:
            receipt = await self._client.submit(neighbour.request())
            result = await self._client.result(receipt.id, wait=True, timeout_s=ENDED_S)
        except (CutorError, BusError) as error:
            return f"{neighbour.name}: {error}"
        return neighbour.changed(result)

    async def judged(self, attack: Attack, ended: asyncio.Event) -> Verdict:
        """Hand in one attack, wait for its end, and judge it."""
        began = time.monotonic()
        try:
            results, found = await self._handed_in(attack)
        except (CutorError, BusError, InvalidRequest, StackFailed) as error:
            results, found = [], [str(error)]
        finally:
            ended.set()
        seconds = time.monotonic() - began
        results = [await self._cleaned(result) for result in results]
        for result in results:
            found += differences(attack, result)
        found += repeated(attack, results)
        word = "; ".join(dict.fromkeys(got(attack, result) for result in results)) or "not ended"
        if attack.refused is not None and not found:
            word = "refused"
        return Verdict(attack.name, expected(attack), word, seconds, tuple(dict.fromkeys(found)))

    async def _handed_in(self, attack: Attack) -> tuple[list[Result], list[str]]:
        """Return the results of an attack's submissions, and what was not as it must be on the way there."""
        if attack.refused is not None:
            return await self._refused(attack, attack.refused)
        if attack.duplicates:
            return await self._duplicates(attack)
        if attack.crowd:
            return await self._in_a_crowd(attack)
        if attack.beside:
            return list(await asyncio.gather(*(self._once(attack) for _ in range(attack.submissions)))), []
        return [await self._once(attack) for _ in range(attack.submissions)], []

    async def _once(self, attack: Attack) -> Result:
        receipt = await self._client.submit(request_of(attack, secrets.token_hex(8)))
        if attack.cancel is not None:
            await self._seen(receipt.id, attack.cancel)
            await asyncio.sleep(attack.after_ms / 1000)
            await self._client.cancel(receipt.id)
        if attack.kill is not None:
            await self._kill(receipt.id, attack.kill, attack.after_ms / 1000)
        return await self._ended(receipt.id)

    async def _kill(self, identity: str, kill: Kill, after_s: float) -> None:
        try:
            await self._seen(identity, kill.at)
            await asyncio.sleep(after_s)
            end = time.monotonic() + THERE_S
            while not await asyncio.to_thread(self._stack.kill, kill.process, identity):
                if time.monotonic() > end:
                    raise StackFailed(f"there is no process {kill.process} to kill")
                await asyncio.sleep(0.1)
        finally:
            self._killed.release()

    async def _refused(self, attack: Attack, wanted: str) -> tuple[list[Result], list[str]]:
        found = []
        try:
            await self._client.submit(request_of(attack, secrets.token_hex(8)))
            found.append("the client took it")
        except InvalidRequest as error:
            if wanted not in str(error):
                found.append(f"refused, but for another reason: {error}")
        if not attack.unchecked:
            return [], found
        state = await self._client.journal.submit(unchecked(request_from(request_of(attack, secrets.token_hex(8)))))
        result = await self._ended(state.address.id)
        if result.outcome != "REJECTED" or wanted not in (result.message or ""):
            found.append(f"past the client: {result.outcome} ({result.message}); must be REJECTED ({wanted})")
        return [], found

    async def _duplicates(self, attack: Attack) -> tuple[list[Result], list[str]]:
        identity, request = secrets.token_hex(8), request_of(attack, secrets.token_hex(8))
        receipts = await asyncio.gather(*(self._client.submit(request, id=identity) for _ in range(attack.duplicates)))
        result = await self._ended(identity)
        submitted = [update async for update in self._client.watch(identity) if update.kind == "submitted"]
        found = [] if len(submitted) == 1 else [f"{len(submitted)} submissions were made"]
        return [result], found + [f"another id: {receipt.id}" for receipt in receipts if receipt.id != identity]

    async def _in_a_crowd(self, attack: Attack) -> tuple[list[Result], list[str]]:
        wanted = [NEIGHBOURS[0]] * min(attack.crowd, self._crowd)
        result, said = await asyncio.gather(self._once(attack), asyncio.gather(*map(self._neighbour, wanted)))
        return [result], [line for line in said if line is not None]

    async def _seen(self, identity: str, event: str) -> None:
        """Return once an event is in the log: its kind, and how what it says begins."""
        kind, _, what = event.partition(" ")
        async for update in self._client.watch(identity):
            if update.kind == kind and update.what.startswith(what):
                return

    async def _ended(self, identity: str) -> Result:
        return await self._client.result(identity, wait=True, timeout_s=ENDED_S)

    async def _cleaned(self, result: Result) -> Result:
        """Return the result once its submission was cleaned; one that is not after some patience lacks that."""
        end = time.monotonic() + CLEANED_S
        while result.cleaned_at is None and time.monotonic() < end:
            await asyncio.sleep(0.1)
            result = await self._client.result(result.id)
        return result


def unchecked(request: Request) -> ValidRequest:
    """Return what a producer that checks nothing would append."""
    cases: list[dict[str, Any]] = [msgspec.structs.asdict(case) for case in request.test_cases]
    return ValidRequest(
        address=Address(request.tenant, secrets.token_hex(8)),
        files={file.name: file.content.encode() for file in request.files},
        environment_files=request.environment_files,
        cache=request.cache,
        limits=request.limits,
        test_cases=tuple(
            ValidTestCase(name=case["name"], input=(case["input"] or "").encode(), args=case["args"], expected_output=None)
            for case in cases
        ),
        compare=request.compare,
        stop_on_failure=request.stop_on_failure,
        labels=request.labels,
    )
