"""Random histories of submissions: plausible ones that get far, anything in between, garbage, and what comes twice."""

from __future__ import annotations

import itertools

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
    Role,
    Signal,
    Stage,
    StoredFile,
    StoredRequest,
    StoredTestCase,
    Submitted,
    kind_of,
)
from cutor.model.limits import DEFAULT_LIMITS, STAGE_KINDS
from cutor.model.state import Stamp, evolve, initial
from cutor.model.subjects import Address, event_subject
from tests.unit.views import Written

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
stage_kinds = st.sampled_from(STAGE_KINDS)
some_stages = st.lists(stages, max_size=2).map(tuple)
interrupted = st.just(UNSET) | st.builds(Interrupted, stage=stage_kinds, index=st.integers(-1, 3), stages=some_stages)
cleaners = st.sampled_from(["worker", "sweep", "takeover"])
OF_TYPE: dict[type[Event], st.SearchStrategy[Event]] = {
    Submitted: submitted,
    Leased: st.builds(Leased, lease=leases),
    CacheBuilt: st.builds(CacheBuilt, lease=leases, environment=environments, stage=stages),
    Compiled: st.builds(Compiled, lease=leases, stage=stages),
    Ran: st.builds(Ran, lease=leases, index=st.integers(0, 3), stages=some_stages),
    Finished: st.builds(Finished, lease=leases, outcome=outcomes, dependencies=st.none() | stages, message=st.none() | texts),
    Cancelled: st.builds(Cancelled, reason=st.none() | texts),
    Rejected: st.builds(Rejected, lease=leases, message=texts),
    Parked: st.builds(Parked, role=roles, message=texts, stage=st.none() | stage_kinds),
    CacheLost: st.builds(CacheLost, lease=leases, key=texts, missing=texts),
    Cleaned: st.builds(Cleaned, worker=st.sampled_from(["w", "v"]) | texts, by=cleaners, interrupted=interrupted),
}
"""Every type of event is drawn: what SQL makes of one that is not would be held against nothing."""
anything: st.SearchStrategy[Event] = st.one_of(*OF_TYPE.values())


NOWHERE = Address("default", "drawn")
ANY_MOVE = "bbrrccpaaaalfxxdkstttn"
FITTING: dict[tuple[str, bool], str] = {
    ("SUBMITTED", False): "b",
    ("SUBMITTED", True): "ccccb",
    ("DEPENDENCIES_INSTALLED", False): "r",
    ("DEPENDENCIES_INSTALLED", True): "ppaaarlf",
    ("COMPILED", True): "aaarlff",
}
"""For a status, and whether the newest lease is of its role, moves that count there; after the end, `AT_LAST`."""
AT_LAST = "tttns"


class Plausible:
    """Draws histories that get far: three of four events are some that count, so that late states are reached too."""

    def __init__(self, draw: st.DrawFn, first: Submitted) -> None:
        self.draw = draw
        self.stages = ["dependencies", "compile" if first.request.files else "run"]
        self.state = initial(NOWHERE, first, Stamp(1, 1))

    def next(self) -> Event:
        event = self.happen(self.draw(st.sampled_from(ANY_MOVE if self.draw(st.integers(0, 3)) == 3 else self.fitting())))
        stamp = Stamp(self.state.last_sequence + 1, self.state.last_ns + 1)
        self.state = evolve(self.state, event, stamp)
        return event

    def fitting(self) -> str:
        role = "builder" if self.state.environment is None else "runner"
        leased = self.state.lease is not None and self.state.lease.role == role
        return FITTING.get((self.state.status, leased), AT_LAST)

    def happen(self, move: str) -> Event:
        if move in "br":
            return self.lease_of("builder" if move == "b" else "runner")
        if self.state.lease is None or move == "s":
            return self.draw(anything)
        if move == "t":
            return self.told(self.state.lease)
        return self.draw(self.under_lease(move, self.state.lease))

    def lease_of(self, role: Role) -> Leased:
        token = self.draw(st.sampled_from(["a", "b"]))
        worker = self.draw(st.sampled_from(["w", "v"]))
        return Leased(lease=Lease(role=role, worker=worker, token=token, number=self.state.attempts.of(role) + 1))

    def told(self, lease: Lease) -> Cleaned:
        """Return what the worker of a lease may say once it is cancelled: mostly what comes next."""
        if lease.role == "builder" or self.draw(st.booleans()):
            stage, index, told = self.stages[lease.role == "runner"], 0, (self.draw(stages),)
        else:
            stage, index, told = "run", len(self.state.runs), self.draw(some_stages)
        part = Interrupted(stage=stage, index=index, stages=told)  # type: ignore[arg-type]
        return Cleaned(worker=lease.worker, by="worker", interrupted=part)

    def under_lease(self, move: str, lease: Lease) -> st.SearchStrategy[Event]:
        this = st.just(lease)
        if move == "a":
            return st.just(Ran(lease=lease, index=len(self.state.runs), stages=self.draw(some_stages)))
        choices: dict[str, st.SearchStrategy[Event]] = {
            "c": st.builds(CacheBuilt, lease=this, environment=environments, stage=stages),
            "p": st.builds(Compiled, lease=this, stage=stages),
            "l": st.builds(CacheLost, lease=this, key=texts, missing=texts),
            "f": st.builds(Finished, lease=this, outcome=outcomes, dependencies=st.none() | stages, message=st.none() | texts),
            "x": st.builds(Cancelled, reason=texts),
            "d": st.builds(Rejected, lease=this, message=texts),
            "k": OF_TYPE[Parked],
            "n": st.builds(Cleaned, worker=texts, by=st.just("sweep")),
        }
        return choices[move]


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    first = draw(submitted)
    plausible = Plausible(draw, first)
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

ids = itertools.count()


@st.composite
def streams(draw: st.DrawFn, *, after: int = 0, submissions: tuple[int, int] = (1, 3)) -> list[tuple[Address, Written]]:
    """Return messages of some new submissions, numbered behind a sequence: interleaved, some garbage, some twice."""
    histories_of = {Address("default", f"s{next(ids)}"): draw(histories()) for _ in range(draw(st.integers(*submissions)))}
    waiting = {address: [(kind_of(event), encode(event)) for event in events] for address, events in histories_of.items()}
    messages: list[tuple[Address, Written]] = []
    while any(waiting.values()):
        address = draw(st.sampled_from([address for address, bodies in waiting.items() if bodies]))
        garbage = st.tuples(st.sampled_from(KINDS_OF_GARBAGE), st.sampled_from(GARBAGE))
        kind, body = draw(garbage) if draw(st.integers(0, 19)) == 19 else waiting[address].pop(0)
        for _ in range(2 if draw(st.integers(0, 19)) == 19 else 1):
            sequence = after + len(messages) + 1
            messages.append((address, Written(sequence, event_subject(address, kind), body)))
    return messages
