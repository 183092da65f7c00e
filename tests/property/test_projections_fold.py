"""The fold in SQL says of any history what the pure fold says: `evolve`, then `result`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from cutor.model.codec import encode
from cutor.model.content import Content
from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    EnvironmentRef,
    Event,
    Finished,
    Interrupted,
    Lease,
    Leased,
    Output,
    Parked,
    Ran,
    Rejected,
    Signal,
    Stage,
    StoredFile,
    StoredRequest,
    StoredTestCase,
    Submitted,
    kind_of,
)
from cutor.model.limits import DEFAULT_LIMITS
from cutor.model.messages import Message, Unreadable, read_message
from cutor.model.result import result
from cutor.model.state import Folding, Stamp, fold
from cutor.model.subjects import Address, event_subject, fence
from tests.unit.views import Views, Written, assert_equal

texts = st.sampled_from(["", "a", "'\"\\", "nul \0 in it", "line\nline", "e\u0301 \U0001f600", "[null]"])
roles = st.sampled_from(["builder", "runner"])
leases = st.builds(
    Lease, role=roles, worker=st.sampled_from(["w", "v"]), token=st.sampled_from(["a", "b"]), number=st.integers(0, 3)
)
LIMITS = DEFAULT_LIMITS.run.default
STAGES = (
    Stage(outcome="OK", exit_code=0, cpu_time_ms=0, wall_time_ms=1, memory_peak_bytes=2**62, limits=LIMITS),
    Stage(outcome="OK", name="nul \0", stdout=Output(data="\0", bytes_total=2**62, truncated=True)),
    Stage(outcome="RE", exit_code=255, message='it\'s "bad"', stderr=Output(data="x", bytes_total=1)),
    Stage(outcome="SG", signal=Signal(number=11, name="SIGSEGV"), limits=LIMITS),
    Stage(outcome="WA", name=""),
    Stage(outcome="XX", message="\n"),
    Stage(outcome="CANCELLED", wall_time_ms=3, stdout=Output(data="x", bytes_total=1), limits=LIMITS),
)
stages = st.sampled_from(STAGES)
case_names = st.lists(st.none() | texts, max_size=4)
files = st.sampled_from([(), (StoredFile(name="cutor-compile.sh", content=Content()),)])
requests = st.builds(
    lambda files, names, labels: StoredRequest(
        files=files, test_cases=tuple(StoredTestCase(name=name) for name in names), labels=labels
    ),
    files,
    case_names,
    st.dictionaries(texts, texts, max_size=2),
)
environments = st.builds(EnvironmentRef, key=st.sampled_from(["k1", "k2"]), derivation=texts, hit=st.booleans())
outcomes = st.sampled_from(["OK", "RUN_ERROR", "DEPENDENCY_ERROR"])
submitted = st.builds(Submitted, request=requests, digest=texts, caused_by=st.none() | texts, fault=st.just(UNSET))
stage_kinds = st.sampled_from(["dependencies", "compile", "run"])
some_stages = st.lists(stages, max_size=2).map(tuple)
interrupted = st.just(UNSET) | st.builds(Interrupted, stage=stage_kinds, index=st.integers(-1, 3), stages=some_stages)
cleaners = st.sampled_from(["worker", "sweep", "takeover"])
anything: st.SearchStrategy[Event] = st.one_of(
    submitted,
    st.builds(Leased, lease=leases),
    st.builds(CacheBuilt, lease=leases, environment=environments, stage=stages),
    st.builds(Compiled, lease=leases, stage=stages),
    st.builds(Ran, lease=leases, index=st.integers(0, 3), stages=some_stages),
    st.builds(Finished, lease=leases, outcome=outcomes, dependencies=st.none() | stages, message=st.none() | texts),
    st.builds(Cancelled, reason=st.none() | texts),
    st.builds(Rejected, lease=leases, message=texts),
    st.builds(Parked, role=roles, message=texts, stage=st.sampled_from([None, "dependencies", "compile", "run"])),
    st.builds(CacheLost, lease=leases, key=texts, missing=texts),
    st.builds(Cleaned, worker=st.sampled_from(["w", "v"]) | texts, by=cleaners, interrupted=interrupted),
)


class Plausible:
    """Draws histories that get far: each event is mostly one that counts, so that late states are reached too."""

    def __init__(self, draw: st.DrawFn, request: StoredRequest) -> None:
        self.draw = draw
        self.kinds = ["dependencies", "compile" if request.files else "run"]
        self.taken = {"builder": 0, "runner": 0}
        self.lease: Lease | None = None
        self.runs = 0

    def lease_of(self, role: str) -> Leased:
        self.taken[role] += 1
        self.runs = 0 if role == "runner" else self.runs
        token = self.draw(st.sampled_from(["a", "b"]))
        self.lease = Lease(role=role, worker="w", token=token, number=self.taken[role])  # type: ignore[arg-type]
        return Leased(lease=self.lease)

    def next(self) -> Event:
        move = self.draw(st.sampled_from("bbrrccpaaaalfxxdkstttn"))
        if move in "br":
            return self.lease_of("builder" if move == "b" else "runner")
        if self.lease is None or move == "s":
            return self.draw(anything)
        if move == "t":
            return self.told(self.lease)
        return self.draw(self.under_lease(move, self.lease))

    def told(self, lease: Lease) -> Cleaned:
        """Return what the worker of a lease may say once it is cancelled: mostly what comes next."""
        if lease.role == "builder" or self.draw(st.booleans()):
            stage, index, told = self.kinds[lease.role == "runner"], 0, (self.draw(stages),)
        else:
            stage, index, told = "run", self.runs, self.draw(some_stages)
        part = Interrupted(stage=stage, index=index, stages=told)  # type: ignore[arg-type]
        return Cleaned(worker="w", by="worker", interrupted=part)

    def under_lease(self, move: str, lease: Lease) -> st.SearchStrategy[Event]:
        this = st.just(lease)
        if move == "a":
            cases = self.draw(some_stages)
            self.runs += len(cases)
            return st.just(Ran(lease=lease, index=self.runs - len(cases), stages=cases))
        choices: dict[str, st.SearchStrategy[Event]] = {
            "c": st.builds(CacheBuilt, lease=this, environment=environments, stage=stages),
            "p": st.builds(Compiled, lease=this, stage=stages),
            "l": st.builds(CacheLost, lease=this, key=texts, missing=texts),
            "f": st.builds(Finished, lease=this, outcome=outcomes, dependencies=st.none() | stages, message=st.none() | texts),
            "x": st.builds(Cancelled, reason=texts),
            "d": st.builds(Rejected, lease=this, message=texts),
            "k": st.builds(Parked, role=roles, message=texts, stage=st.sampled_from([None, "dependencies", "compile", "run"])),
            "n": st.builds(Cleaned, worker=texts, by=st.just("sweep")),
        }
        return choices[move]


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    first = draw(submitted)
    plausible = Plausible(draw, first.request)
    early = draw(st.lists(anything, max_size=1)) if draw(st.integers(0, 9)) == 9 else []
    return [*early, first, *(plausible.next() for _ in range(draw(st.integers(0, 14))))]


KINDS_OF_GARBAGE = ("submitted", "ran", "cancelled", "note", "deep.cancelled", "deep.submitted")
GARBAGE = (
    b"",
    b"{}",
    b'{"kind":"ran"}',
    b'{"kind":"from-the-future","version":9}',
    b"\xff\xfe",
    b'{"kind":"leased","version":7}',
    b'{"kind":"cancelled"}',
    b'{"kind":"cancelled","unknown":"\xff"}',
    b'{"kind":"finished","lease":{},"outcome":"OK"}',
    b"\xef\xbb\xbf{}",
    b'{"kind":"cancelled","reason":"a","reason":"b"}',
)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    views = Views(tmp_path_factory.mktemp("views"))
    yield views
    views.store.close()


ids = itertools.count()


@pytest.mark.timeout(900)
@settings(
    max_examples=100,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_the_views_equal_the_fold(views: Views, data: st.DataObject) -> None:
    """Several submissions at once, their events interleaved, some bodies garbage, some events twice, in batches of any size."""
    streams = {Address("default", f"s{next(ids)}"): data.draw(histories()) for _ in range(data.draw(st.integers(1, 3)))}
    waiting = {address: [(kind_of(event), encode(event)) for event in events] for address, events in streams.items()}
    messages: list[tuple[Address, Written]] = []
    while any(waiting.values()):
        address = data.draw(st.sampled_from([address for address, bodies in waiting.items() if bodies]))
        garbage = st.tuples(st.sampled_from(KINDS_OF_GARBAGE), st.sampled_from(GARBAGE))
        kind, body = data.draw(garbage) if data.draw(st.integers(0, 19)) == 19 else waiting[address].pop(0)
        for _ in range(2 if data.draw(st.integers(0, 19)) == 19 else 1):
            views.sequence += 1
            messages.append((address, Written(views.sequence, event_subject(address, kind), body)))
    views.apply([message for _, message in messages], batch=data.draw(st.integers(1, 12)))
    for address in streams:
        check(views, address, [message for owner, message in messages if owner == address])


def check(views: Views, address: Address, messages: list[Written]) -> None:
    history = [(read_message(message.subject, message.body), Stamp(message.sequence, message.time_ns)) for message in messages]
    state = fold(address, history)
    assert_equal(
        views,
        None if state is None else result(state),
        address,
        strays=0 if state is None else state.strays,
        last_sequence=messages[-1].sequence,
    )
    found = views.query("SELECT sequence FROM dead_letters WHERE starts_with(subject, $1)", fence(address).removesuffix(">"))
    assert {sequence for (sequence,) in found} == lettered(address, history)


def lettered(address: Address, history: list[tuple[Message, Stamp]]) -> set[int]:
    """Return the messages that get a dead letter: those that cannot be read, and those that the pure fold counts as strays."""
    folding, found = Folding(address), set()
    for message, stamp in history:
        before = folding.state
        state = folding.take(message, stamp)
        stray = state is None or (before is not None and state.strays > before.strays)
        unreadable = isinstance(message, Unreadable) or (isinstance(message, Submitted) and isinstance(message.fault, str))
        if stray or unreadable:
            found.add(stamp.sequence)
    return found
