"""The builder: from ``submitted`` to ``cache-built``, or to the end of a submission whose environment cannot be built.

Consumes ``submitted`` and ``cache-lost``. Appends ``leased``, then ``cache-built``; or ``rejected`` for a request that the
stack's policy refuses; or ``finished`` for a build that failed; ``cleaned`` after an end. Doing it twice builds the same
environment under the same key, and only the holder of the newest lease can append: it may crash anywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.environments import Environments
from cutor.journal import Journal
from cutor.model.environments import EnvironmentBuilt, pack_variables
from cutor.model.errors import InvalidRequest
from cutor.model.events import CacheBuilt, EnvironmentRef, Finished, Rejected, Role, Stage
from cutor.model.limits import Limit, resolve
from cutor.model.request import SHELL_NIX, ValidRequest, check, digest
from cutor.model.stages import judge, judge_interrupted
from cutor.nix.key import EnvironmentInputs, environment_key, private_key
from cutor.nix.report import Built
from cutor.nix.session import BuildSession
from cutor.roles.context import RoleContext
from cutor.roles.image import check_image
from cutor.roles.job import Job, StepFault
from cutor.roles.loop import serve
from cutor.roles.sweep import check_engine, sweeping


async def run_builder(context: RoleContext) -> None:
    """Serve as a builder until the context says stop."""
    async with (
        Engine.connect(context.config.docker.host) as engine,
        sweeping(engine, context.instance, "builder") as swept,
    ):
        await serve(context, BuildStep(context, engine), context.config.builder.slots, swept)


class BuildStep:
    """Builds the environment of one submission at a time and slot."""

    role: Role = "builder"

    def __init__(self, context: RoleContext, engine: Engine) -> None:
        self._context = context
        self._engine = engine
        self._settings = context.config.nix

    async def check(self) -> None:
        """Make sure of what no submission brings: an engine that answers, and the image. Raises `WorkerUnable`."""
        await check_engine(self._engine)
        await check_image(self._engine, self._settings.image)

    async def work(self, job: Job) -> None:
        """See the module."""
        request = await self._checked_request(job)
        if request is None:
            return
        files = {name: request.files[name] for name in sorted({SHELL_NIX, *request.environment_files})}
        started = time.monotonic()
        key = await self._key(files)
        known = await Environments(job.journal.bus).find(key)
        limit = resolve("dependencies", request.limits.dependencies, job.policy.limits.dependencies)
        job.at("dependencies", judge_interrupted(None, limit))
        if known is not None and job.state.environment_losses == 0:
            await self._report_built(job, known, self._hit_stage(started, limit), hit=True)
            return
        await self._build(job, key if request.cache else private_key(key, str(job.state.address)), files, limit)

    async def _key(self, files: Mapping[str, bytes]) -> str:
        """Return the environment's key. Image and package set are asked for each time: ``make setup`` may have changed them."""
        try:
            image, packages = await asyncio.gather(
                self._engine.image_labels(self._settings.image), self._engine.volume_labels(self._settings.packages_volume)
            )
        except ContainerError as error:
            raise StepFault(str(error)) from error
        return environment_key(
            EnvironmentInputs(
                files=files,
                settings=self._settings,
                packages_digest=(packages or {}).get("cutor.packages", ""),
                nix_version=image.get("cutor.nix-version", ""),
            )
        )

    async def _checked_request(self, job: Job) -> ValidRequest | None:
        """Return the request if the stack accepts it; else end the submission. A client that checked gets here unharmed."""
        try:
            if job.state.fault is not None:
                raise InvalidRequest(f"the first event of the submission cannot be read: {job.state.fault}")
            request = await job.journal.contents.load_request(job.state.address, job.state.request, job.policy.bounds)
            check(request, job.policy)
            if digest(request) != job.state.digest:
                raise InvalidRequest("the digest in the event is not that of its request")
        except InvalidRequest as error:
            await job.report(Rejected(lease=job.lease, message=str(error)))
            return None
        return request

    async def _build(self, job: Job, key: str, files: Mapping[str, bytes], limit: Limit) -> None:
        """Build in a child container; report ``cache-built``, or the end. Raises `StepFault`."""
        session = BuildSession(
            self._engine,
            self._settings,
            instance=self._context.instance,
            submission=str(job.state.address),
            data=self._context.data,
        )
        try:
            async with session:
                report = await session.build(key, files, limit)
        except asyncio.CancelledError:
            job.at("dependencies", judge_interrupted(session.interrupted, limit))
            raise
        except ContainerError as error:
            raise StepFault(str(error)) from error
        stage = judge(report.report, limit)
        if isinstance(report, Built) and stage.outcome == "OK":
            await self._report_built(job, await self._record(job.journal, key, report), stage, hit=False)
            return
        if stage.outcome == "XX":
            raise StepFault(stage.message or "the build reported nothing")
        await self._report_failed(job, stage, None if isinstance(report, Built) else report.message)

    async def _record(self, journal: Journal, key: str, built: Built) -> EnvironmentBuilt:
        """Append ``env-built``, so that runners and later submissions find the environment."""
        environment = built.environment
        event = EnvironmentBuilt(
            key=key,
            derivation=environment.derivation,
            closure=environment.closure,
            closure_bytes=environment.closure_bytes,
            variables=await journal.contents.pack(pack_variables(environment.variables)),
            programs=environment.programs,
            worker=self._context.worker,
        )
        await Environments(journal.bus).append_built(event)
        return event

    async def _report_built(self, job: Job, built: EnvironmentBuilt, stage: Stage, *, hit: bool) -> None:
        reference = EnvironmentRef(key=built.key, derivation=built.derivation, hit=hit)
        (stage,) = await job.journal.contents.spill_stages([stage])
        await job.report(CacheBuilt(lease=job.lease, environment=reference, stage=stage))

    async def _report_failed(self, job: Job, stage: Stage, message: str | None) -> None:
        """End the submission: the stage holds Nix's output, the message its error in short."""
        (stage,) = await job.journal.contents.spill_stages([stage])
        stage = msgspec.structs.replace(stage, message=message or stage.message)
        await job.report(Finished(lease=job.lease, outcome="DEPENDENCY_ERROR", dependencies=stage, message=stage.message))

    @staticmethod
    def _hit_stage(started: float, limit: Limit) -> Stage:
        """Return the stage of an environment that was there: nothing ran, so there is neither exit code nor CPU time."""
        wall_time_ms = round((time.monotonic() - started) * 1000)
        message = "the environment was there already"
        return Stage(outcome="OK", wall_time_ms=wall_time_ms, limits=limit, message=message)
