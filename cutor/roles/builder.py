"""The builder: from ``submitted`` to ``cache-built``, or to the end of a submission whose environment cannot be built.

Consumes ``submitted`` and ``cache-lost``. Of an environment that is not known it appends ``env-building``, unless another one
builds it (`claims`). Then ``leased``, and ``cache-built``; or ``rejected`` for a request that the stack's policy refuses; or
``finished`` for a build that failed; ``cleaned`` after an end. In front of ``cache-built`` comes ``env-built``, where it built;
what is not to be kept goes with ``env-removed`` after ``cleaned`` (`private`). Doing it twice builds the same environment under
the same key, and only the holder of the newest lease can append: it may crash anywhere.

What needs no build needs no slot, and what waits has no lease: so hits go on while every slot builds, and nothing that only
waited counts as an attempt.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import msgspec

from cutor.bus import horizon
from cutor.bus.errors import BodyCorrupt, BodyMissing
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.containers.facts import Facts
from cutor.containers.host_config import NO_NETWORK
from cutor.journal.build_progress import telling
from cutor.journal.environments import Environments, Known
from cutor.journal.journal import Journal
from cutor.model.environments import EnvironmentBuilt, pack_variables
from cutor.model.errors import InvalidRequest
from cutor.model.events import CacheBuilt, EnvironmentRef, Finished, Rejected, Role, Stage
from cutor.model.limits import Limit, Policy, resolve
from cutor.model.request import SHELL_NIX, ValidRequest, digest
from cutor.model.request_checks import check
from cutor.model.stages import judge, judge_interrupted
from cutor.model.state import Submission
from cutor.nix.key import EnvironmentInputs, environment_key, private_key
from cutor.nix.report import Built
from cutor.nix.session import BuildSession, NoRoomLeft
from cutor.process.context import RoleContext
from cutor.roles.claims import Claim, Tell, Turn, alone
from cutor.roles.image import check_image
from cutor.roles.loop import serve
from cutor.roles.own_addresses import own_addresses
from cutor.roles.owners import Owners
from cutor.roles.private import PrivateEnvironments, releasing
from cutor.roles.publishing import NotPublished, Publishing
from cutor.roles.room import StoreRoom
from cutor.roles.standing import Standing
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff, StepFault, WorkerUnable
from cutor.roles.sweep import check_engine, sweeping

log = logging.getLogger(__name__)

WAITED: Final = "another submission built the environment meanwhile"
"""Message of a stage that waited."""
REMEMBERED: Final = 10_000
"""Submissions that were put off last, of which `Remembered` is kept: they are not read again while there is no place."""


async def run_builder(context: RoleContext) -> None:
    """Serve as a builder until the context says stop."""
    async with (
        Engine.connect(context.config.docker.host) as engine,
        Facts.of(engine) as facts,
        sweeping(engine, context.instance, "builder", context.data) as swept,
    ):
        private = PrivateEnvironments(context.data, "builder", context.worker, releasing(engine, context, "builder"))
        step = BuildStep(context, engine, private, facts)
        async with step.publishing.following():
            await serve(context, step, context.config.builder.slots, swept, beside=step.serving)


class Wanted(NamedTuple):
    """The environment that a submission wants, and within what; ``began_s``: since when, by the monotonic clock.

    Nothing of the request's contents: many wait in a builder, and each may have sent as much as a request may hold.
    """

    key: str
    cache: bool
    limit: Limit
    began_s: float


class Remembered(NamedTuple):
    """What is known of a submission that was put off: the key of its environment, and whether it shares builds of that."""

    key: str
    cache: bool


class BuildStep:
    """Builds the environment of one submission at a time and slot."""

    role: Role = "builder"
    looks = True

    def __init__(self, context: RoleContext, engine: Engine, private: PrivateEnvironments, facts: Facts | None = None) -> None:
        self._context = context
        self._engine = engine
        self._facts = facts or Facts(engine)
        self._private = private
        self._settings = context.config.nix
        self.publishing = Publishing(engine, context.config.nix, context.instance, context.data)
        self._room = StoreRoom(engine, context.config.nix, context.instance, context.data, "builder")
        self.standing = Standing()
        self._owners = Owners()
        self._put_off: dict[int, Remembered] = {}

    @asynccontextmanager
    async def serving(self, journal: Journal) -> AsyncIterator[None]:
        """Do what a builder does beside its steps: follow environments, its own and all others."""
        async with self._private.following(journal), self.standing.following(journal):
            yield

    async def check(self) -> None:
        """Make sure of what no submission brings: an engine that is there, and the image. Raises `WorkerUnable`.

        Whether it answers, too, is asked before a build: what stands needs nothing of it.
        """
        if not self._facts.hears_its_end:
            await check_engine(self._engine, self._facts)
        await check_image(self._facts, self._settings.image)

    async def approach(self, arrival: Arrival, /) -> LeasedWork | PutOff:
        """Look what the environment needs; wait for who builds it, or for a slot to build it in."""
        sequence = arrival.state.step_sequence
        known = self._put_off.get(sequence)
        try:
            if known is not None and (again := await self._put_off_again(arrival, known)) is not None:
                return again
            self._put_off.pop(sequence, None)
            return await self._look(arrival)
        except WorkerUnable as error:
            log.warning("%s: it cannot be built now: %s; it is tried again", arrival.state.address, error)
            return "later"

    async def _put_off_again(self, arrival: Arrival, known: Remembered) -> PutOff | None:
        """Return how who was put off is so once more, for which its request is not read; null where it is to be looked at."""
        claim, state = Claim(arrival, known.key, self._owners), arrival.state
        async with self._telling(arrival) as tell:
            again = await claim.put_off_again(arrival.place, shares=known.cache, tell=tell, may_build=self._may_build)
        if again is not None:
            return again
        if state.environment_losses == 0 or not self.publishing.holds_back(state.lease) or await claim.standing() is not None:
            return None
        return await claim.held_back()

    @staticmethod
    def _telling(arrival: Arrival) -> AbstractAsyncContextManager[Tell]:
        """Tell whoever looks on what is waited for before a lease."""
        return telling(arrival.journal.bus, arrival.state.address, arrival.state.attempts.builder + 1)

    async def _look(self, arrival: Arrival) -> LeasedWork | PutOff:
        """As `approach`, for what has to be read: of what is put off the key is remembered."""
        try:
            wanted = await self._wanted(arrival)
        except InvalidRequest as error:
            return partial(_reject, str(error))
        except (BodyMissing, BodyCorrupt) as error:
            return partial(_fail, str(error))
        except ContainerError as error:
            log.warning("%s: what its environment is cannot be seen: %s; it is tried again", arrival.state.address, error)
            return "later"
        claim = Claim(arrival, wanted.key, self._owners)
        found = await self._standing(claim, arrival, wanted.key) or await self._turn(arrival, claim, cache=wanted.cache)
        if isinstance(found, Known):
            return partial(self._use, wanted, found, claim.waited_s)
        if found in ("later", "crowded"):
            self._put_off[arrival.state.step_sequence] = Remembered(wanted.key, wanted.cache)
            if len(self._put_off) > REMEMBERED:
                del self._put_off[next(iter(self._put_off))]
        if found != "mine":
            return found
        return partial(self._build if wanted.cache else self._build_for_itself, wanted)

    async def _turn(self, arrival: Arrival, claim: Claim, *, cache: bool) -> Known | Turn:
        """Wait for the environment, or for the turn to build it; with ``cache`` false for nobody else's build."""
        async with self._telling(arrival) as tell:
            if cache:
                return await claim.settle(arrival.place, self._context.worker, tell=tell, may_build=self._may_build)
            return await alone(arrival, tell=tell, may_build=self._may_build)

    async def _may_build(self) -> bool:
        """Return whether this host has room for a build. Raises `WorkerUnable` where its engine does not answer."""
        await check_engine(self._engine, self._facts)
        return await self._room.suffices()

    async def _standing(self, claim: Claim, arrival: Arrival, key: str) -> Known | PutOff | None:
        """Return the environment where it stands; what a runner missed is built only for a cache that may take it, if any."""
        state = arrival.state
        if state.environment_losses == 0:
            return await self.standing.find(arrival.journal.bus, key)
        known = await claim.standing()
        if known is None and not self.publishing.may_try(state.lease):
            return await claim.held_back()
        return known

    async def _wanted(self, arrival: Arrival) -> Wanted:
        """Return what a submission wants. Raises what `_checked_request` raises, and `ContainerError`."""
        request = await _checked_request(arrival.journal, arrival.policy, arrival.state)
        began = time.monotonic()
        limit = resolve("dependencies", request.limits.dependencies, arrival.policy.limits.dependencies)
        return Wanted(await self._key(_files(request)), request.cache, limit, began)

    async def _use(self, wanted: Wanted, known: Known, waited_s: float, leased: LeasedStep) -> None:
        """Report what stands."""
        stage = _hit_stage(time.monotonic() - wanted.began_s - waited_s, wanted.limit, waited=waited_s > 0)
        leased.at("dependencies", judge_interrupted(None, wanted.limit))
        await self._report_built(leased, known.built, stage, hit=True)

    async def _key(self, files: Mapping[str, bytes]) -> str:
        """Return the environment's key. Image and package set are those of now: ``cutor setup`` may have changed them.

        Raises `ContainerError`.
        """
        image, packages = await asyncio.gather(
            self._facts.image_labels(self._settings.image), self._facts.volume_labels(self._settings.packages_volume)
        )
        return environment_key(
            EnvironmentInputs(
                files=files,
                settings=self._settings,
                packages_digest=(packages or {}).get("cutor.packages", ""),
                nix_version=image.get("cutor.nix-version", ""),
                nix_configuration=image.get("cutor.nix-configuration", ""),
            )
        )

    async def _build_for_itself(self, wanted: Wanted, leased: LeasedStep) -> None:
        """Build what goes with the submission's end (``cache: false``), under a key of its own; it is noted first."""
        key = private_key(wanted.key, leased.lease.token)
        with self._private.making(key, leased.state.address):
            await self._build(wanted._replace(key=key), leased, private=True)

    async def _build(self, wanted: Wanted, leased: LeasedStep, *, private: bool = False) -> None:
        """Build in a child container; report ``cache-built``, or the end. Raises `StepFault`."""
        limit = wanted.limit
        leased.at("dependencies", judge_interrupted(None, limit))
        session = BuildSession(
            self._engine,
            self._settings,
            instance=self._context.instance,
            submission=str(leased.state.address),
            data=self._context.data,
            refused=await self._refused(leased.journal),
        )
        try:
            async with session, telling(leased.journal.bus, leased.state.address, leased.lease.number) as tell:
                files = _files(await _checked_request(leased.journal, leased.policy, leased.state))
                report = await session.build(wanted.key, files, limit, tell)
        except asyncio.CancelledError:
            leased.at("dependencies", judge_interrupted(session.interrupted, limit))
            raise
        except ContainerError as error:
            if isinstance(error, NoRoomLeft):
                self._room.ran_out()
            raise StepFault(str(error)) from error
        stage = judge(report.report, limit)
        if private and isinstance(report, Built):
            self._private.stands(wanted.key)
        if isinstance(report, Built) and stage.outcome == "OK":
            built = await self._record(leased, wanted.key, report, private=private)
            await self._report_built(leased, built, stage, hit=False)
            return
        if stage.outcome == "XX":
            raise StepFault(stage.message or "the build reported nothing")
        await self._report_failed(leased, stage, None if isinstance(report, Built) else report.message)

    async def _refused(self, journal: Journal) -> tuple[str, ...]:
        """Return what a build must not reach, should it have a network: asked for anew, names and networks change."""
        if self._settings.network == NO_NETWORK:
            return ()
        return await own_addresses(self._context.server, journal.bus.link.announced)

    async def _record(self, leased: LeasedStep, key: str, built: Built, *, private: bool) -> EnvironmentBuilt:
        """Publish the environment for other hosts, then append ``env-built``: runners and later submissions find it.

        Raises `StepFault` where a runner missed it, and the cache does not take it: to promise it again would lose it again.
        """
        journal = leased.journal
        environment = built.environment
        missed = leased.state.environment_losses > 0
        if self.publishing.takes_time(missed=missed):
            leased.place.finish()
        try:
            await self.publishing.publish(environment, kept=not private, missed=missed)
        except NotPublished as error:
            raise StepFault(str(error)) from error
        event = EnvironmentBuilt(
            key=key,
            derivation=environment.derivation,
            closure=environment.closure,
            closure_bytes=environment.closure_bytes,
            variables=await journal.contents.pack(pack_variables(environment.variables)),
            programs=environment.programs,
            worker=self._context.worker,
            private_to=str(leased.state.address) if private else msgspec.UNSET,
        )
        await Environments(journal.bus).append_built(event)
        return event

    async def _report_built(self, leased: LeasedStep, built: EnvironmentBuilt, stage: Stage, *, hit: bool) -> None:
        reference = EnvironmentRef(key=built.key, derivation=built.derivation, hit=hit)
        (stage,) = await leased.journal.contents.spill_stages([stage])
        await leased.report(CacheBuilt(lease=leased.lease, environment=reference, stage=stage))

    async def _report_failed(self, leased: LeasedStep, stage: Stage, message: str | None) -> None:
        """End the submission: the stage holds Nix's output, the message its error in short."""
        (stage,) = await leased.journal.contents.spill_stages([stage])
        stage = msgspec.structs.replace(stage, message=message or stage.message)
        await leased.report(Finished(lease=leased.lease, outcome="DEPENDENCY_ERROR", dependencies=stage, message=stage.message))


async def _checked_request(journal: Journal, policy: Policy, state: Submission) -> ValidRequest:
    """Return the request if the stack accepts it, else raise `InvalidRequest`. A client that checked gets here unharmed.

    Raises `BodyMissing` for contents that are not there, where bodies expire.
    """
    if state.fault is not None:
        raise InvalidRequest(f"the first event of the submission cannot be read: {state.fault}")
    try:
        request = await journal.contents.load_request(state.address, state.request, policy.bounds)
    except InvalidRequest as error:
        if isinstance(error.__cause__, BodyMissing) and (await horizon.told(journal.bus)).horizon.until:
            raise error.__cause__ from None  # it may have gone when it was referred to anew: an archiver puts it back
        raise
    check(request, policy)
    if digest(request) != state.digest:
        raise InvalidRequest("the digest in the event is not that of its request")
    return request


async def _reject(reason: str, leased: LeasedStep) -> None:
    """End a submission that the stack does not accept."""
    await leased.report(Rejected(lease=leased.lease, message=reason))


async def _fail(reason: str, _leased: LeasedStep) -> None:
    """Let a lease count for what cannot be looked at: such tries are bounded."""
    raise StepFault(reason)


def _files(request: ValidRequest) -> dict[str, bytes]:
    """Return what decides the environment: ``shell.nix`` and what it imports, by name."""
    return {name: request.files[name] for name in sorted({SHELL_NIX, *request.environment_files})}


def _hit_stage(seconds: float, limit: Limit, *, waited: bool) -> Stage:
    """Return the stage of an environment that was there: nothing ran, so there is neither exit code nor CPU time.

    Its time is that of the look, without what was waited for another submission.
    """
    message = WAITED if waited else "the environment was there already"
    return Stage(outcome="OK", wall_time_ms=round(seconds * 1000), limits=limit, message=message)
