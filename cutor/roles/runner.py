"""The runner: from ``cache-built`` to ``finished``.

Consumes ``cache-built``. Appends ``leased``, ``compiled`` (where there is a compile script), ``ran`` for every one or more test
cases, ``finished``; ``cache-lost`` where the environment is not in the store, and no binary cache gives it; ``cleaned`` after
an end. It may crash anywhere: another lease starts again from the compile stage, and what this one appended counts no more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError, EngineFailure, SessionFault
from cutor.containers.facts import Facts
from cutor.containers.host_config import Resources
from cutor.jail.inside.closure import LOOK_BYTES
from cutor.jail.job import EnvironmentMissing, RunnerJob
from cutor.jail.memory import first_memory_bytes
from cutor.jail.room import OWN_TASKS
from cutor.jail.session import WorkerSession
from cutor.journal.environments import Known
from cutor.journal.journal import Journal
from cutor.model.budget import WallTimeBudget
from cutor.model.environments import NONE_STOOD, EnvironmentBuilt
from cutor.model.events import CacheLost, Compiled, Finished, Role, Stage
from cutor.model.limits import Limit, StageKind, resolve_all
from cutor.model.outcome import StageOutcome, submission_outcome
from cutor.model.request import COMPILE_SCRIPT, ValidRequest
from cutor.model.stages import judge, judge_interrupted
from cutor.process.context import RoleContext
from cutor.roles.fetching import Fetching
from cutor.roles.image import check_image
from cutor.roles.loop import serve
from cutor.roles.open_files import allow_files_of
from cutor.roles.private import PrivateEnvironments, releasing
from cutor.roles.results import Results
from cutor.roles.runner_containers import MadeAheadFailed, RunnerContainer, RunnerContainers
from cutor.roles.standing import Standing
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff, StepFault
from cutor.roles.sweep import NOTHING, Stuck, Swept, check_engine, sweeping
from cutor.roles.uids import Uids
from cutor.roles.uses import Use, Uses
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)

STANDS_STILL_S: Final = 5.0
"""How long a container that was made ahead has for taking a submission (1 ms), before another one is started."""


async def run_runner(context: RoleContext) -> None:
    """Serve as a runner until the context says stop."""
    allow_files_of(context.config.runner.uids)
    async with (
        Engine.connect(context.config.docker.host) as engine,
        Facts.of(engine) as facts,
        sweeping(engine, context.instance, "runner", context.data) as swept,
    ):
        private = PrivateEnvironments(context.data, "runner", context.worker, releasing(engine, context, "runner"))
        step = RunStep(context, engine, private, swept, facts)
        async with step.fetching.following():
            await serve(context, step, context.config.runner.slots, swept, beside=step.serving)


@dataclass(frozen=True)
class Work:
    """What a run needs, loaded and decoded."""

    request: ValidRequest
    environment: EnvironmentBuilt
    variables: tuple[tuple[bytes, bytes], ...]
    limits: dict[StageKind, Limit]

    def hand_over(self) -> RunnerJob:
        """Return what the container is given."""
        environment = self.environment
        return RunnerJob(self.request.files, self.variables, environment.programs, environment.closure)

    @property
    def first_stage(self) -> StageKind:
        """The stage that comes first."""
        return "compile" if COMPILE_SCRIPT in self.request.files else "run"

    @property
    def first_limit(self) -> Limit:
        """Limits of the stage that comes first: the container is made with them."""
        return self.limits[self.first_stage]


class RunStep:
    """Compiles and runs one submission at a time and slot, each in a container of its own."""

    role: Role = "runner"
    looks = False

    def __init__(
        self,
        context: RoleContext,
        engine: Engine,
        private: PrivateEnvironments,
        swept: Swept = NOTHING,
        facts: Facts | None = None,
    ) -> None:
        self._context = context
        self._engine = engine
        self._facts = facts or Facts(engine)
        self._private = private
        settings = context.config.runner
        self._uids = Uids(settings.uid_base, settings.uids)
        for one in swept.stuck:
            if one.uid is not None:
                self._uids.withhold(one.uid)
                one.removal.add_done_callback(partial(self._let_go, one))
        self.fetching = Fetching(engine, context.config.nix, context.instance, context.data)
        self.standing = Standing()
        self._uses = Uses(engine, context)
        self._containers = RunnerContainers(
            engine, context, self._uids, usual_resources(context.config.policy().limits.run.default)
        )

    @asynccontextmanager
    async def serving(self, journal: Journal) -> AsyncIterator[None]:
        """Do what a runner does beside its steps: keep containers ready and marks, and follow environments."""
        async with (
            self._private.following(journal),
            self.standing.following(journal),
            self._uses.keeping(),
            self._containers.keeping(),
        ):
            yield

    def _let_go(self, stuck: Stuck, _removal: asyncio.Future[None]) -> None:
        if stuck.gone and stuck.uid is not None:
            self._uids.give_free(stuck.uid)

    async def check(self) -> None:
        """Make sure of what no submission brings: an engine that answers, the image, a uid. Raises `WorkerUnable`."""
        await check_engine(self._engine, self._facts)
        await check_image(self._facts, self._context.config.docker.image)
        await self._uids.reserve()

    async def approach(self, arrival: Arrival, /) -> LeasedWork | PutOff:
        """Return the work: no run waits for another, but for room, or for the cache, where its environment found none.

        Many may wait for that; those that need neither have slots between them.
        """
        environment, lease = arrival.state.environment, arrival.state.lease
        if environment is not None:
            if not await self.fetching.may_begin(environment.key, lease):
                return "crowded"
            self._uses.foresee(environment.key)
        return self.work

    async def work(self, leased: LeasedStep) -> None:
        """See the module."""
        with self._uses.of(_key(leased)) as use:
            known = await self._environment(leased)
            if known is not None:
                await self._work_in(leased, known, use)

    async def _work_in(self, leased: LeasedStep, known: Known, use: Use) -> None:
        """Do the work in an environment, which is marked as used."""
        use.alone = isinstance(known.built.private_to, str)
        work = await self._load(leased, known.built)
        name = None if work.first_stage == "compile" else work.request.test_cases[0].name
        leased.at(work.first_stage, judge_interrupted(None, work.first_limit, name=name))
        try:
            async with self._container(leased, work, use) as session:
                await self._stages(leased, work, session)
        except EnvironmentMissing as error:
            await self._report_lost(leased, error.path, known.sequence)
        except ContainerError as error:
            raise StepFault(str(error)) from error

    async def _environment(self, leased: LeasedStep) -> Known | None:
        """Return the submission's environment; where the log knows it no more, report that and return None."""
        known = await self.standing.find(leased.journal.bus, _key(leased), anew=leased.state.environment_losses > 0)
        if known is None:
            await self._report_lost(leased, "removed from the environments", NONE_STOOD)
        return known

    @staticmethod
    async def _report_lost(leased: LeasedStep, missing: str, sequence: int) -> None:
        """Say that what the ``env-built`` at a sequence promises is not there: only a newer one counts for this submission."""
        await leased.report(CacheLost(lease=leased.lease, key=_key(leased), missing=missing, environment_sequence=sequence))

    async def _load(self, leased: LeasedStep, environment: EnvironmentBuilt) -> Work:
        contents = leased.journal.contents
        request = await contents.load_request(leased.state.address, leased.state.request)
        limits = resolve_all(request.limits, leased.policy.limits)
        variables = await self.standing.variables(leased.journal, environment)
        return Work(request=request, environment=environment, variables=variables, limits=limits)

    @asynccontextmanager
    async def _container(self, leased: LeasedStep, work: Work, use: Use) -> AsyncIterator[WorkerSession]:
        """Lend a container that holds the submission, once no collection is in the way; it is given back in any case.

        Where it misses a part of the environment, that is fetched from the cache, if there is one, and another one is taken.
        """
        await use.stands()
        asked_at = time.monotonic()
        try:
            container = await self._handed_over(leased, work)
        except EnvironmentMissing as missed:
            await self._fetch(leased, work.environment, missed, asked_at)
            container = await self._handed_over(leased, work)
        whole = False
        try:
            yield container.session
            whole = True
        finally:
            await to_the_end(self._containers.give_back(container, whole=whole))

    async def _fetch(
        self, leased: LeasedStep, environment: EnvironmentBuilt, missed: EnvironmentMissing, asked_at: float
    ) -> None:
        """Fetch what this host's store misses; what is not to be kept goes from it with the submission's end."""
        if not isinstance(environment.private_to, str):
            await self.fetching.fetch(environment, missed, asked_at)
            return
        with self._private.making(environment.key, leased.state.address):
            await self.fetching.fetch(environment, missed, asked_at)
            self._private.stands(environment.key)

    async def _handed_over(self, leased: LeasedStep, work: Work) -> RunnerContainer:
        """Hand the submission over to a container. Whatever goes wrong, none is left with it.

        One that was made ahead may have died since it was looked at: then one is started in its place.
        """
        try:
            return await self._hand_over(leased, work, await self._containers.lend(first_resources(work)))
        except MadeAheadFailed as error:
            log.warning("%s: another container is started: %s", leased.state.address, error)
            return await self._hand_over(leased, work, await self._containers.start(first_resources(work)))

    async def _hand_over(self, leased: LeasedStep, work: Work, container: RunnerContainer) -> RunnerContainer:
        log.info("%s: in container %s", leased.state.address, container.name)
        try:
            async with asyncio.timeout(STANDS_STILL_S if container.made_ahead else None):
                await container.session.ready()
                await container.session.hand_over(work.hand_over())
        except BaseException as error:
            await to_the_end(self._containers.give_back(container))
            if container.made_ahead and isinstance(error, SessionFault | EngineFailure | TimeoutError):
                raise MadeAheadFailed(str(error) or f"{container.name} took nothing in {STANDS_STILL_S:.0f} s") from error
            raise
        return container

    async def _stages(self, leased: LeasedStep, work: Work, session: WorkerSession) -> None:
        """Compile, run every test case, finish. Raises `SessionFault` and `LeaseLost`."""
        budget = WallTimeBudget(leased.policy.bounds.submission_wall_time_ms)
        if COMPILE_SCRIPT in work.request.files:
            compiled, budget = await self._compile(leased, work, session, budget)
            if compiled.outcome != "OK":
                await leased.report(Finished(lease=leased.lease, outcome="COMPILE_ERROR"))
                return
        async with Results(leased) as results:
            outcomes = await self._test_cases(work, session, results, budget)
        await leased.report(Finished(lease=leased.lease, outcome=submission_outcome(outcomes)))

    async def _test_cases(
        self, work: Work, session: WorkerSession, results: Results, budget: WallTimeBudget
    ) -> list[StageOutcome]:
        """Run the test cases until one fails that is to stop the others, or the submission's time is up."""
        outcomes: list[StageOutcome] = []
        for index in range(len(work.request.test_cases)):
            began = time.monotonic()
            try:
                stage = await self._run(work, session, index, budget)
            except asyncio.CancelledError:
                results.interrupt(self._interrupted_run(work, session, index, budget))
                raise
            budget = budget.after(stage, _ms_since(began))
            outcomes.append(stage.outcome)
            await results.add(stage)
            if stage.outcome != "OK" and (work.request.stop_on_failure or not budget.left_ms):
                break
        return outcomes

    async def _compile(
        self, leased: LeasedStep, work: Work, session: WorkerSession, budget: WallTimeBudget
    ) -> tuple[Stage, WallTimeBudget]:
        """Return the compile stage, and what it leaves of the submission's time: waiting for the log is none of it."""
        own = work.limits["compile"]
        limit = budget.limit(own)
        began = time.monotonic()
        try:
            report = await session.run_compile(limit)
        except asyncio.CancelledError:
            leased.at("compile", budget.explained(judge_interrupted(session.interrupted, limit), own))
            raise
        took_ms = _ms_since(began)
        stage = budget.explained(judge(report, limit), own)
        if stage.outcome == "XX":
            raise StepFault(stage.message or "the compile stage could not be judged")
        leased.at("compile", stage)
        (stored,) = await leased.journal.contents.spill_stages([stage])
        await leased.report(Compiled(lease=leased.lease, stage=stored))
        return stage, budget.after(stage, took_ms)

    async def _run(self, work: Work, session: WorkerSession, index: int, budget: WallTimeBudget) -> Stage:
        case, own = work.request.test_cases[index], work.limits["run"]
        limit = budget.limit(own)
        more = index + 1 < len(work.request.test_cases)
        report = await session.run_test(index, args=case.args, stdin=case.input, limit=limit, more=more)
        expected, compare = case.expected_output, work.request.compare
        judged = judge(report, limit, name=case.name, expected_output=expected, compare=compare)
        stage = budget.explained(judged, own)
        if stage.outcome == "XX":
            raise StepFault(stage.message or f"test case {index} could not be judged")
        return stage

    def _interrupted_run(self, work: Work, session: WorkerSession, index: int, budget: WallTimeBudget) -> Stage:
        """Return what there is to tell of the test case that a cancel stopped, or kept from beginning."""
        case, own = work.request.test_cases[index], work.limits["run"]
        judged = judge_interrupted(
            session.interrupted,
            budget.limit(own),
            name=case.name,
            expected_output=case.expected_output,
            compare=work.request.compare,
        )
        return budget.explained(judged, own)


def _key(leased: LeasedStep) -> str:
    assert leased.state.environment is not None, "a runner's step begins after cache-built"
    return leased.state.environment.key


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def usual_resources(limit: Limit) -> Resources:
    """Return what a container is best made with for a run under a limit, before any submission is there."""
    return Resources(memory_bytes=first_memory_bytes(limit, {}, 0, 0), processes=limit.processes + OWN_TASKS)


def first_resources(work: Work) -> Resources:
    """Return what a container is made with: what its first stage may take, so that it need not be changed before."""
    limit, stdin = work.first_limit, 0 if COMPILE_SCRIPT in work.request.files else len(work.request.test_cases[0].input)
    variables_bytes = sum(len(name) + len(value) + 2 for name, value in work.variables)
    closure_bytes = sum(len(path) + 1 + LOOK_BYTES for path in work.environment.closure)
    memory_bytes = first_memory_bytes(limit, work.request.files, variables_bytes + closure_bytes, stdin)
    return Resources(memory_bytes=memory_bytes, processes=limit.processes + OWN_TASKS)
