"""What the query service measures, on the projector's side, whose endpoint exposes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from cutor.metrics import table
from cutor.metrics.table import Metric
from cutor.metrics.tally import Observation
from cutor.process.measures import Sampler
from cutor.projections.queries.link import Told

OF_THE_SERVICE: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        *(table.QUESTIONS, table.QUESTION_TIME, table.ANSWER_BYTES),
        *(table.QUERY_COPIES, table.QUERY_COPIED, table.QUERY_COPY_TIME, table.SNAPSHOTS),
    )
}
_SESSION_FIELD: Final = 3
"""Behind the name in ``/proc/PID/stat``; proc(5)."""


def told_observations(told: Told) -> Iterator[Observation]:
    """Yield what the service has told of its own metrics."""
    for name, value, labels in told.observations:
        metric = OF_THE_SERVICE.get(name)
        if metric is not None and len(labels) == len(metric.labels):
            yield Observation(metric, value, labels)


def memory_of_session(leader: int) -> Sampler:
    """Return the sampler of the memory of a session's processes, by the process that leads it."""

    async def sample() -> list[Observation]:
        return [Observation(table.QUERY_MEMORY, float(await asyncio.to_thread(_memory_bytes, leader)))]

    return sample


def _memory_bytes(leader: int) -> int:
    return sum(_own_bytes(process) for process in Path("/proc").iterdir() if process.name.isdigit() and _is_of(process, leader))


def _is_of(process: Path, leader: int) -> bool:
    with suppress(OSError, ValueError, IndexError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[_SESSION_FIELD]) == leader
    return False


def _own_bytes(process: Path) -> int:
    """Return what memory a process has, by shares of what others have, too; 0 of one that has ended."""
    with suppress(OSError, ValueError, IndexError):
        [line] = [line for line in (process / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:")]
        return int(line.split()[1]) << 10
    return 0
