"""What a commit costs by the size of its batch, folded by `evolve` and in SQL: `python -m tests.bench.fold`.

Whole lives of submissions (`lives`) without a server, both ways in turn, each into a file of its own. Medians; CPU time is that
of this process, all its threads. Or: `make bench-fold`. Then what each statement of the fold costs in batches of a rebuild.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from cutor.bus.bulk.columns import Columns
from cutor.model.subjects import EVENTS
from cutor.projections import schema
from cutor.projections.folds.batches import batch_of
from cutor.projections.folds.row_groups import ROW_GROUP
from cutor.projections.store import Store
from tests.bench.lives import lives

BATCHES: Final = {1: 60, 10: 30, 100: 15, 1000: 5, 5000: 3}
"""For every size of a batch, how many are measured."""
LARGE: Final = ((0, ROW_GROUP, 4), (16_000, 8_000, 6))
"""What each test case prints, the events of a batch, and how many batches, where statements are measured one by one."""


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


class Measured:
    """A connection that notes the CPU time of what goes through it, by statement."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.spent_s: dict[str, float] = defaultdict(float)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Note what the block takes."""
        began = time.process_time()
        yield
        self.spent_s[name] += time.process_time() - began

    def execute(self, statement: Any, *parameters: Any) -> Any:
        """Run a statement, as a connection does."""
        with self.noting(statement if isinstance(statement, str) else _bare(statement.query)):
            return self._connection.execute(statement, *parameters)

    def commit(self) -> None:
        """Commit, as a connection does."""
        with self.noting("the commit"):
            self._connection.commit()


def measure_statements(directory: Path, output_bytes: int, size: int, count: int) -> None:
    """Measure each statement over batches of one size, and print a table."""
    made, kept = lives(size * count, output_bytes), []
    with closing(Store.open(directory / f"statements-{output_bytes}.duckdb", logged=False)) as store:
        measured = Measured(store._connection)
        store._connection = measured  # type: ignore[assignment]  # it does all that one does
        while some := list(itertools.islice(made, size)):
            kept.append(sum(len(message.body) for message in some))
            batch = batch_of(EVENTS, Columns.of(some))
            store.apply_batch(EVENTS, batch)
            with measured.noting("checkpoints"):
                store.work_in()
        with measured.noting("checkpoints"):
            store.work_all_in()
    print(f"\n{count} batches of {size:,} events of {sum(kept) / (size * count):,.0f} bytes\n")
    print("| statement | µs of CPU an event |\n|---|---|")
    statements = {sql: sql.split("\n", 1)[0] for sql in (_bare(of.sql) for of in schema.fold_statements(EVENTS))}
    names = statements | {"the commit": "the commit", "checkpoints": "checkpoints"}
    for sql, name in names.items():
        print(f"| {name} | {measured.spent_s[sql] / (size * count) * 1e6:.2f} |")
    print(f"| **all** | **{sum(measured.spent_s.values()) / (size * count) * 1e6:.2f}** |", flush=True)


def _bare(sql: str) -> str:
    """Return a statement without the comments before it."""
    return "\n".join(itertools.dropwhile(lambda line: line.startswith("--") or not line.strip(), sql.strip().splitlines()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as name:
        measure(Path(name))
        for shape in LARGE:
            measure_statements(Path(name), *shape)
