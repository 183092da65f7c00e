"""What another tenant's queue costs who hands in a single submission: its time with none in front, and with ten thousand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from cutor.client.client import Client
from cutor.nix.settings import NixSettings
from tests.bench.lives import publish
from tests.bench.performance.producers import Producer
from tests.bench.scale.figures import Fair, step_of
from tests.bench.scale.histories import TENANT, Model, case_of
from tests.bench.scale.point import Point
from tests.bench.stacks import expect, machine
from tests.stores import write_config

OTHER: Final = "other"
QUEUED: Final = 10_000
BEHIND: Final = 100


@asynccontextmanager
async def two_tenants(directory: Path, store: NixSettings, model: Model, keys: Sequence[str]) -> AsyncIterator[Point]:
    """Give a stack with two tenants of one weight, that serves."""
    with machine(directory) as there:
        with write_config(there.config, store).open("a") as file:
            file.write(f"\n[tenants]\n{TENANT} = 1\n{OTHER} = 1\n")
        point = Point(there, BEHIND, keys[:1])
        await point.fill(model)
        await point.begin()
        yield point


async def fairness(
    directory: Path, store: NixSettings, model: Model, keys: Sequence[str], counts: tuple[int, int], say: Callable[[str], None]
) -> list[Fair]:
    """Measure a single one without a queue and with one in front, by a runner without containers and by a real one."""
    found = []
    for runner, count in zip(("without containers", "in containers"), counts, strict=True):
        async with two_tenants(directory / f"fair-{count}-{runner[:2]}", store, model, keys) as point:
            running: AbstractContextManager[None] = point.real_runner() if runner == "in containers" else point.log_runner()
            with running:
                for queued in (0, QUEUED):
                    say(f"a single submission, {runner}, with {queued:,} of another tenant in front")
                    await publish(point.url, model.queued(queued))
                    found.append(await _measured(point, runner, count, queued))
    return found


async def _measured(point: Point, runner: str, count: int, queued: int) -> Fair:
    """Hand in one after the other while the queue is there."""
    async with Client(point.url) as client:
        producer = Producer(client)
        times = [(await producer.live(case_of(0), OTHER)).took_ms for _ in range(count + 1)][1:]
        info = await client.journal.bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.runner-{TENANT}")
        builds = await client.journal.bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.builder-{TENANT}")
    left = int(info["num_pending"]) + int(builds["num_pending"])
    expect(not queued or left > 0, "the queue was done before the single ones")
    return Fair(runner, queued, left, step_of("all of it", times))
