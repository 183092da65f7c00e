"""What a commit costs by the size of its batch, folded by `evolve` and in SQL: `python -m tests.bench.fold`.

Whole lives of submissions (`lives`) without a server, both ways in turn, each into a file of its own. Medians; CPU time is that
of this process, all its threads. Or: `make bench-fold`.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from cutor.model.subjects import EVENTS
from cutor.projections.store import Store
from tests.bench.lives import lives

BATCHES: Final = {1: 60, 10: 30, 100: 15, 1000: 5, 5000: 3}
"""For every size of a batch, how many are measured."""


def measure(directory: Path) -> None:
    """Measure, and print a table."""
    made = lives(sum(size * count for size, count in BATCHES.items()))
    print("| batch | by evolve, ms of CPU a commit | in SQL | by evolve, µs an event | in SQL |\n|---|---|---|---|---|")
    with closing(Store.open(directory / "small.duckdb")) as small, closing(Store.open(directory / "sql.duckdb")) as in_sql:
        small.small, in_sql.small = max(BATCHES), 0
        for size, count in BATCHES.items():
            spent: tuple[list[float], list[float]] = ([], [])
            for _ in range(count):
                batch = list(itertools.islice(made, size))
                for store, times_s in zip((small, in_sql), spent, strict=True):
                    began = time.process_time()
                    store.apply(EVENTS, batch)
                    times_s.append(time.process_time() - began)
            by_evolve, sql = (statistics.median(times_s) for times_s in spent)
            each = f"{by_evolve / size * 1e6:,.0f} | {sql / size * 1e6:,.0f}"
            print(f"| {size:,} | {by_evolve * 1000:.1f} | {sql * 1000:.1f} | {each} |", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as name:
        measure(Path(name))
