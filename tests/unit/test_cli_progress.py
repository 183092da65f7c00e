"""What people read of a submission while it runs, and of an event in a list."""

import pytest

from cutor.client.progress import progress, summarize
from cutor.model.content import pack
from cutor.model.events import (
    EVENT_TYPES,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Interrupted,
    Parked,
    Rejected,
    Stage,
    StoredFile,
    Submitted,
    kind_of,
)
from tests.unit.histories import BUILT, OK, REQUEST, RUNNING, SUBMITTED, after, cache_built, finished, lease, leased, ran

COMPILED_REQUEST = Submitted(
    request=type(REQUEST)(
        files=(*REQUEST.files, StoredFile(name="cutor-compile.sh", content=pack(b"true"))), test_cases=REQUEST.test_cases
    ),
    digest="d2",
)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([SUBMITTED], "waiting for a builder"),
        ([SUBMITTED, leased("builder")], "building the environment"),
        ([*BUILT], "waiting for a runner"),
        ([*RUNNING], "running 1/2"),
        ([*RUNNING, ran(0, "OK")], "running 2/2"),
        ([*RUNNING, ran(0, "OK", "OK")], "running 2/2"),
        ([*RUNNING, ran(0, "OK", "OK"), finished()], "OK"),
        ([COMPILED_REQUEST, leased("builder"), cache_built(), leased("runner")], "compiling"),
        ([*RUNNING, CacheLost(lease=lease("runner"), key="k", missing="gone")], "waiting for a builder"),
        ([SUBMITTED, Cancelled()], "CANCELLED"),
    ],
)
def test_progress(events: list[Event], said: str) -> None:
    assert progress(after(*events)) == said


def test_one_file_and_one_test_case_are_not_several() -> None:
    one = type(REQUEST)(files=REQUEST.files[:1], test_cases=REQUEST.test_cases[:1])
    assert summarize(Submitted(request=one, digest="d")) == "1 file, 1 test case"


STOPPED = Stage(outcome="CANCELLED", wall_time_ms=5)
EVENTS: list[Event] = [
    SUBMITTED,
    leased("builder"),
    cache_built(),
    Compiled(lease=lease("runner"), stage=Stage(outcome="RE", wall_time_ms=12)),
    ran(0, "OK", "WA"),
    finished("WRONG_ANSWER"),
    Cancelled(reason="no more"),
    Rejected(lease=lease("builder"), message="too large"),
    Parked(role="runner", message="3 leases"),
    CacheLost(lease=lease("runner"), key="k" * 64, missing="gone"),
    Cleaned(worker="w", by="worker"),
    Cleaned(worker="w", by="worker", interrupted=Interrupted(stage="run", stages=(OK, STOPPED), index=1)),
    Cleaned(worker="w", by="worker", interrupted=Interrupted(stage="compile", stages=(STOPPED,))),
]
SUMMARIES = [
    "2 files, 2 test cases",
    "builder w, lease 1",
    "environment k1 built, OK",
    "RE in 12 ms",
    "1: OK, 2: WA",
    "WRONG_ANSWER",
    "no more",
    "too large",
    "runner: 3 leases",
    f"environment {'k' * 12} lacks gone",
    "by worker: w",
    "by worker: w, run 2: OK, 3: CANCELLED in 5 ms",
    "by worker: w, compile CANCELLED in 5 ms",
]


@pytest.mark.parametrize(("event", "said"), list(zip(EVENTS, SUMMARIES, strict=True)), ids=[kind_of(event) for event in EVENTS])
def test_summary(event: Event, said: str) -> None:
    assert summarize(event) == said


def test_every_kind_has_a_summary() -> None:
    assert {type(event) for event in EVENTS} == set(EVENT_TYPES)
