"""How a submission comes by an environment that others may need at the same time: one builds, the others wait.

Consumes the events under the environment's key and those of the submission that has claimed it. Appends ``env-building`` under
the key's fence: of several who would build, one has the claim. What becomes of a claim is decided by the log alone
(`cutor.model.claims`), so who has one may crash anywhere: those who wait go on once its lease is another's, or it has ended.

All of it comes before the lease, which follows the claim: a lease counts, and waiting must cost none. Who waits has no slot
either, and keeps its delivery: a cancel, another worker's lease and a shutdown end its wait like any work. It looks whenever
something happens under the key, and every second: what happened to the owner is in another stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from cutor.bus.errors import BusError
from cutor.bus.subscription import overhearing
from cutor.errors import CutorError
from cutor.journal.environments import Environments, Known
from cutor.model.claims import BuildAction, Owner, decide_build, held_s, owner_of, replaced
from cutor.model.environments import NONE_STOOD, Environment, EnvironmentBuilding
from cutor.model.errors import InvalidRequest
from cutor.model.subjects import Address, check_address, environment_subject
from cutor.roles.owners import Owners
from cutor.roles.places import Place
from cutor.roles.step import Arrival, PutOff

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
"""How often a claim that waits is looked at anew, where no notice came."""
NOTICED_S: Final = 0.05
"""How long after a notice the stream is looked at once more: it may pass before the stream has stored what it tells of."""
TELL_EVERY_S: Final = 30.0
"""Who looks on later is told, too."""
WAITS: Final = b"another submission builds the same environment: this one waits for it\n"
QUEUES: Final = b"this builder is busy with other environments: this one waits for its turn\n"
NO_ROOM: Final = b"waiting: the builder's host has no room for builds, until `cutor gc` or somebody else makes some on it\n"
"""What who looks on is told where Nix has nothing to say."""

Tell = Callable[[bytes], None]

Turn = Literal["mine"] | PutOff
"""What becomes of who would build: it has a slot, and may; or it is put off."""


def _nobody(_told: bytes) -> None:
    """Nobody looks on."""


async def _anything() -> bool:
    """Nothing is in the way of a build."""
    return True


class Claim:
    """One submission's way to the environment of a key."""

    def __init__(self, arrival: Arrival, key: str, owners: Owners | None = None) -> None:
        """The submission would build under the lease whose token has arrived with it, and which it has yet to take.

        ``owners``: those that this process knows.
        """
        journal, state = arrival.journal, arrival.state
        self._journal = journal
        self._unread = state if arrival.unread else None
        self._tenants = arrival.policy.tenants
        self._key = key
        self._address = state.address
        self._since = state.step_sequence
        self._token = arrival.token
        self._number = state.attempts.builder + 1
        self._sequence = state.last_sequence
        self._environments = Environments(journal.bus)
        self._environment = Environment(key=key)
        self._owners = owners or Owners()
        self._missed = state.environment_losses > 0
        self._judged: set[str] = set()
        self._saw_failure = False
        self._after = NONE_STOOD if state.environment_losses == 0 else state.lost_sequence
        self._queue = Queue(self._address, held_s(arrival.place.passed_on))

    @property
    def waited_s(self) -> float:
        """How long it waited for others."""
        return self._queue.waited_s

    async def standing(self) -> Known | None:
        """Return the environment where it stands already, and is not the one whose paths were missed: one read."""
        known = await self._environments.find(self._key)
        if self._after is None:  # lost, as was told before it was told which: what is known by now does not count
            self._after = NONE_STOOD if known is None else known.sequence
        return known if known is not None and known.sequence > self._after else None

    async def settle(
        self,
        place: Place,
        worker: str,
        *,
        tell: Tell = _nobody,
        may_build: Callable[[], Awaitable[bool]] = _anything,
    ) -> Known | Turn:
        """Return the environment as soon as it stands; else whether this submission is to build it: it has a slot then.

        ``tell`` is given what is waited for, in words; ``may_build`` is asked whether this host has room.
        """
        if not await self._is_due():
            return "pass on"
        queue = self._queue
        queue.tell = tell
        async with overhearing(self._journal.bus.link, environment_subject(self._key), lambda _: queue.notice()):
            while (action := await self.decide()) != "use":
                if action == "wait":
                    if not place.may_wait:
                        return "crowded"
                    await queue.wait(place)
                elif not await may_build():
                    return queue.put_off(waited_for=self._owns)
                elif not place.has_slot:
                    place.waited_for = self._owns
                    turn = await queue.slot(place)
                    if turn == "crowded" or turn == "pass on":  # noqa: PLR1714 - narrows the type
                        return turn
                elif action == "build" or await self._claimed(worker):
                    return "mine"
        place.go_on()
        assert self._environment.built is not None, "so it was decided"
        return Known(self._environment.built, self._environment.built_sequence)

    async def _is_due(self) -> bool:
        """Read what stands behind the event, where nobody has; return whether it still calls for this step: a claim counts."""
        if self._unread is None:
            return True
        state = await self._journal.newer(self._unread)
        self._unread, self._number, self._sequence = None, state.attempts.builder + 1, state.last_sequence
        return not state.ended and state.step_sequence == self._since

    @property
    def _owns(self) -> bool:
        """Whether the newest claim is this submission's, of this delivery or one before: others may wait for it."""
        claim = self._environment.building
        return claim is not None and claim.owner == self._address

    async def held_back(self) -> PutOff:
        """Put it off for a time in which a lease would be spent in vain; whom others wait for comes again soon."""
        self._environment = await self._environments.state(self._key, self._environment)
        return "later" if self._owns else "crowded"

    async def put_off_again(
        self, place: Place, *, shares: bool, tell: Tell, may_build: Callable[[], Awaitable[bool]]
    ) -> PutOff | None:
        """Return how it is put off once more, as far as one look tells, without any wait; null where there is more to see.

        Who ``shares`` no builds (``cache: false``) waits for a slot alone, whoever builds the same.
        """
        if shares:
            action = await self.decide()
            if action in ("use", "wait"):
                return "crowded" if action == "wait" and not place.may_wait else None
            place.waited_for = self._owns
        may_want = place.may_want
        if (may_want and await may_build()) or (not shares and await self.standing() is not None):
            return None
        self._queue.tell = tell
        return self._queue.put_off(waited_for=self._owns) if may_want else "crowded"

    async def decide(self) -> BuildAction:
        """Look into the log, and return what this submission does now."""
        environment = self._environment = await self._environments.state(self._key, self._environment)
        claim, token = environment.building, self._token
        owner = None if claim is None or claim.lease_token == token else await self._owner_of(claim)
        self._saw_failure |= owner == "failed" or (owner == "alive" and await self._looks_back())
        after, failed = self._after or NONE_STOOD, self._saw_failure
        return decide_build(environment, owner, token=token, after=after, saw_failure=failed)

    async def _looks_back(self) -> bool:
        """See whether the owner of a former claim has failed since this submission came; each is looked at once."""
        for claim in replaced(self._environment, since=self._since):
            if claim.lease_token not in self._judged:
                if await self._owner_of(claim) == "failed":
                    return True
                self._judged.add(claim.lease_token)
        return False

    async def _owner_of(self, claim: EnvironmentBuilding) -> Owner:
        try:
            address = check_address(claim.tenant, claim.id)
        except InvalidRequest as error:
            log.warning("the claim on %s is nobody's: %s", claim.key, error)
            return "dead"
        if address == self._address:
            return "dead"  # who asks has its delivery: nobody works under its former lease, which may still be the newest
        if address.tenant not in self._tenants:
            return "dead"  # nobody is given its deliveries any more, and whatever it waits for would never come
        try:
            owner = await self._owners.state(self._journal, address)
        except (BusError, CutorError):
            raise
        except Exception:
            log.exception("%s: its history cannot be read, so nobody waits for its build of %s", address, claim.key)
            return "dead"
        return owner_of(claim, owner, since=self._since, missed=self._missed)

    async def _claimed(self, worker: str) -> bool:
        """Append the claim, unless another message came first."""
        event = EnvironmentBuilding(
            key=self._key,
            **self._address._asdict(),
            lease_token=self._token,
            worker=worker,
            lease_number=self._number,
            submission_sequence=self._sequence,
        )
        claimed = await self._environments.claim(self._environment, event)
        self._environment = self._environment if claimed is None else claimed
        return claimed is not None


class Queue:
    """One submission among those that wait in a builder: for another one's build, or for a slot."""

    def __init__(self, address: Address, held_s: float) -> None:
        """``held_s``: how long a slot is waited for before the delivery is passed on: another builder may have one."""
        self._address = address
        self._held_s = held_s
        self._changed = asyncio.Event()
        self._noticed = False
        self._until_s: float | None = None
        self._told = b""
        self._told_at = float("-inf")
        self.tell: Tell = _nobody
        self.waited_s = 0.0

    def notice(self) -> None:
        """Look again."""
        self._changed.set()

    async def wait(self, place: Place) -> None:
        """Wait, without a slot, until something may have changed."""
        self._say(WAITS)
        self._until_s = None
        place.leave()
        await self._pause(NOTICED_S if self._noticed else LOOK_EVERY_S)

    async def slot(self, place: Place) -> Turn | None:
        """Wait for a slot; null where something else may have changed meanwhile."""
        if not place.may_want:
            return "crowded"
        if place.want(self.notice):
            return "mine"
        self._say(QUEUES)
        now = time.monotonic()
        self._until_s = now + self._held_s if self._until_s is None else self._until_s
        if now >= self._until_s:
            place.pass_on()
            return "pass on"
        await self._pause(NOTICED_S if self._noticed else self._until_s - now)
        return "mine" if place.has_slot else None

    def put_off(self, *, waited_for: bool = False) -> PutOff:
        """Leave it for a time when this host has room. Each delivery tells that anew; the log has it once (`StoreRoom`).

        Who is ``waited_for`` comes again soon, however many there are.
        """
        self.tell(NO_ROOM)
        return "later" if waited_for else "crowded"

    def _say(self, waits_for: bytes) -> None:
        """Tell who looks on what is waited for, and tell them again now and then."""
        now = time.monotonic()
        if waits_for != self._told:
            log.info("%s: %s", self._address, waits_for.decode().strip())
        if waits_for != self._told or now - self._told_at >= TELL_EVERY_S:
            self._told, self._told_at = waits_for, now
            self.tell(waits_for)

    async def _pause(self, seconds: float) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            self._noticed = False
        else:
            self._noticed = True
            self._changed.clear()
        self.waited_s += time.monotonic() - began


async def alone(arrival: Arrival, *, tell: Tell = _nobody, may_build: Callable[[], Awaitable[bool]] = _anything) -> Turn:
    """Wait for a slot to build what nobody else needs; as `Claim.settle`."""
    queue, turn = Queue(arrival.state.address, held_s(arrival.place.passed_on)), None
    queue.tell = tell
    while turn is None:
        turn = await queue.slot(arrival.place) if await may_build() else queue.put_off()
    return turn
