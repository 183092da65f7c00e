"""Which submissions the fold in SQL decides all at once, and that every life which differs a little is decided as by `evolve`.

Hundreds, each the shortest way with one thing changed, are folded at once in SQL, and by `evolve` in Python: both leave the
same rows. Cut into batches anywhere, too, so that a life goes on from what an earlier batch left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from cutor.model.events import CacheLost, Cancelled, Cleaned, Compiled, Event, Finished, Interrupted, Parked, Rejected
from cutor.model.subjects import Address
from tests.unit.histories import BUILT, COMPILING, OK, cache_built, finished, lease, leased, ran
from tests.unit.views import Views, Written, written

SUBMITTED = msgspec.structs.replace(BUILT[0], request=COMPILING)
COMPILED = Compiled(lease=lease("runner"), stage=OK)
CLEANED = Cleaned(worker="w", by="worker")
LOST = CacheLost(lease=lease("runner"), key="k1", missing="m")
LIFE = (SUBMITTED, *BUILT[1:], leased("runner"), COMPILED, ran(0, "OK"), ran(1, "WA"), finished("WRONG_ANSWER"), CLEANED)
ENDS = (
    finished(role="builder"),
    Finished(lease=lease("builder"), outcome="DEPENDENCY_ERROR", dependencies=OK),
    Cancelled(reason="enough"),
    Rejected(lease=lease("builder"), message="no"),
    Rejected(lease=lease("runner"), message="no"),
    Parked(role="runner", message="odd", stage="compile"),
)
OTHERS = (
    *ENDS,
    *(leased(role, number, token) for role in ("builder", "runner") for number in (1, 2) for token in "tu"),  # type: ignore[arg-type]
    cache_built(2),
    msgspec.structs.replace(COMPILED, lease=lease("runner", 1, "u")),
    msgspec.structs.replace(COMPILED, lease=lease("builder")),
    ran(0, "OK", "OK"),
    ran(0),
    ran(2, "OK"),
    ran(1, "OK", number=2),
    msgspec.structs.replace(ran(1, "OK"), lease=lease("builder")),
    msgspec.structs.replace(ran(1, "OK"), lease=msgspec.structs.replace(lease("runner"), number=2)),
    LOST,
    Cleaned(worker="w", by="worker", interrupted=Interrupted(stage="run", index=1, stages=(OK,))),
)
TABLES = ("events", "stages", "folds.submissions", "folds.requests", "folds.builds", "folds.ends")


def variations() -> Iterator[tuple[Event, ...]]:
    """Yield lives with one thing changed: an event left out, twice, elsewhere, or another one before or in the place of one."""
    yield (*LIFE[:4], LOST, leased("builder", 2), cache_built(2), finished(), CLEANED)  # of a lease that was the newest before
    yield LIFE
    for at, event in enumerate(LIFE):
        rest = LIFE[:at] + LIFE[at + 1 :]
        yield rest
        yield from ((*rest[:to], event, *rest[to:]) for to in range(len(LIFE)) if to != at)
        yield from ((*LIFE[:to], event, *LIFE[to:]) for to in range(len(LIFE) + 1))
        yield LIFE[:at]
        for other in OTHERS:
            yield (*LIFE[:at], other, *LIFE[at:])
            yield (*LIFE[:at], other, *LIFE[at + 1 :])
            yield (*LIFE[:at], other, CLEANED)


def interleaved(lives: Sequence[tuple[Event, ...]], overlap: int) -> list[Written]:
    """Return the messages of lives, of which so many are under way at one time, all at the same step."""
    waiting = ((Address("default", f"s{number}"), events) for number, events in enumerate(lives))
    messages: list[Written] = []
    while some := list(itertools.islice(waiting, overlap)):
        for step in range(max(len(events) for _, events in some)):
            for address, events in some:
                if step < len(events):
                    messages.append(written(len(messages) + 1, address, events[step]))
    return messages


def folded(path: Path, messages: Sequence[Written], batch: int, *, small: bool) -> dict[str, list[tuple[object, ...]]]:
    path.mkdir()
    views = Views(path)
    with closing(views.store):
        views.store.small = len(messages) if small else 0
        views.apply(messages, batch=batch)
        return {table: views.query(f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES}


@pytest.fixture(scope="module")
def messages() -> list[Written]:
    lives = list(variations())
    return interleaved(lives, len(lives))


@pytest.fixture(scope="module")
def by_evolve(tmp_path_factory: pytest.TempPathFactory, messages: list[Written]) -> dict[str, list[tuple[object, ...]]]:
    return folded(tmp_path_factory.mktemp("views") / "small", messages, 2000, small=True)


@pytest.mark.parametrize("batches", [1, 2, 5, 25])
def test_a_life_that_differs_a_little_is_decided_as_evolve_does(
    tmp_path: Path, messages: list[Written], by_evolve: dict[str, list[tuple[object, ...]]], batches: int
) -> None:
    in_sql = folded(tmp_path / "sql", messages, -(-len(messages) // batches), small=False)
    for table in TABLES:
        assert in_sql[table] == by_evolve[table], table


@pytest.mark.parametrize("batch", [100_000, 37])
def test_orderly_lives_are_decided_all_at_once(tmp_path: Path, batch: int) -> None:
    """Whole, or from where an earlier batch left them: none of these is left to the reduction."""
    cancelled, unbuilt = (*LIFE[:3], Cancelled(reason=None), CLEANED), (*LIFE[:2], ENDS[1], CLEANED)
    messages = interleaved([LIFE, cancelled, unbuilt, LIFE[:1], LIFE[:5] + LIFE[7:]] * 10, 7)
    views = Views(tmp_path)
    with closing(views.store):
        views.store.small = 0
        for start in range(0, len(messages), batch):
            views.apply(messages[start : start + batch])
            assert views.query("SELECT id FROM lives WHERE NOT is_orderly") == []
