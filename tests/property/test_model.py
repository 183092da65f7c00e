"""Properties of the core: any history folds, one end counts, decisions and folds agree, codecs round-trip."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from cutor.model.codec import EventError, decode, encode
from cutor.model.content import pack, unpack
from cutor.model.decide import Clean, Park, TakeLease, decide_cancel, decide_cleaned, decide_step, holds
from cutor.model.environments import pack_variables, unpack_variables
from cutor.model.errors import InvalidRequest
from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Finished,
    Lease,
    Leased,
    Parked,
    Ran,
    Rejected,
    Stage,
)
from cutor.model.limits import Policy
from cutor.model.outcome import StageReport, classify
from cutor.model.request import parse_request, validate
from cutor.model.result import result
from cutor.model.spill import EVENT_INLINE_BYTES, spilled
from cutor.model.state import Stamp, Submission, evolve, fold, initial
from tests.unit.histories import ADDRESS, ENVIRONMENT, OK, SUBMITTED

roles = st.sampled_from(["builder", "runner"])
leases = st.builds(Lease, role=roles, worker=st.just("w"), token=st.sampled_from(["a", "b"]), number=st.integers(0, 3))
stages = st.builds(Stage, outcome=st.sampled_from(["OK", "WA", "RE"]))
events: st.SearchStrategy[Event] = st.one_of(
    st.just(SUBMITTED),
    st.builds(Leased, lease=leases),
    st.builds(CacheBuilt, lease=leases, environment=st.just(ENVIRONMENT), stage=stages),
    st.builds(Compiled, lease=leases, stage=stages),
    st.builds(Ran, lease=leases, index=st.integers(0, 2), stages=st.tuples(stages)),
    st.builds(Finished, lease=leases, outcome=st.sampled_from(["OK", "RUN_ERROR"])),
    st.just(Cancelled()),
    st.builds(Rejected, lease=leases, message=st.just("no")),
    st.builds(Parked, role=roles, message=st.just("no")),
    st.builds(CacheLost, lease=leases, key=st.just("k"), missing=st.just("p")),
    st.just(Cleaned(worker="w", by="worker")),
)
histories = st.lists(events, max_size=25)


def folded(history: list[Event]) -> Submission | None:
    return fold(ADDRESS, [(event, Stamp(n, n)) for n, event in enumerate(history, 1)])


@given(histories)
def test_any_history_folds_and_has_a_result(history: list[Event]) -> None:
    state = folded([SUBMITTED, *history])
    assert state is not None
    assert state.last_sequence == len(history) + 1
    document = result(state)
    assert (document.finished_at is not None) == state.ended
    if state.ended:
        assert len(document.run) >= len(state.request.test_cases)


@given(histories, events)
def test_the_end_is_final(history: list[Event], late: Event) -> None:
    state = folded([SUBMITTED, *history])
    assert state is not None
    if state.ended:
        after = evolve(state, late, Stamp(99, 99))
        assert (after.status, after.outcome, after.runs, after.finished_ns) == (
            state.status,
            state.outcome,
            state.runs,
            state.finished_ns,
        )


@given(histories)
def test_appending_everything_twice_changes_nothing_but_the_strays(history: list[Event]) -> None:
    """Message ids make that impossible; were it possible, only a lease taken twice in a row could count twice."""
    once = folded([SUBMITTED, *history])
    twice = folded([SUBMITTED, *(event for event in history for _ in range(2))])
    assert once is not None
    assert twice is not None
    assert (once.status, once.outcome, once.attempts) == (twice.status, twice.outcome, twice.attempts)


moves = st.lists(
    st.tuples(st.sampled_from(["deliver", "work", "fail", "lose", "cancel", "stray"]), roles, st.booleans()), max_size=40
)


class World:
    """Two roles that act on one submission by their decisions alone, and may crash after any append."""

    def __init__(self) -> None:
        self.log: list[Event] = [SUBMITTED]
        self.held: list[Lease] = []

    @property
    def state(self) -> Submission:
        state = folded(self.log)
        assert state is not None
        return state

    def deliver(self, role: str) -> None:
        match decide_step(self.state, role, worker="w", token=f"t{len(self.log)}", max_leases=2):  # type: ignore[arg-type]
            case TakeLease(event=event):
                self.log.append(event)
                self.held.append(event.lease)
            case Park(event=event) | Clean(event=event):
                self.log.append(event)

    def work(self, lease: Lease, *, fail: bool) -> None:
        """Append what a worker under a lease appends next, if the lease holds."""
        if not holds(self.state, lease):
            return
        if lease.role == "builder":
            built = CacheBuilt(lease=lease, environment=ENVIRONMENT, stage=OK)
            self.log.append(Finished(lease=lease, outcome="DEPENDENCY_ERROR") if fail else built)
        elif len(self.state.runs) < 2:
            self.log.append(Ran(lease=lease, index=len(self.state.runs), stages=(OK,)))
        else:
            self.log.append(Finished(lease=lease, outcome="RUN_ERROR" if fail else "OK"))

    def move(self, what: str, role: str, fail: bool) -> None:
        if what == "deliver":
            self.deliver(role)
        elif what == "cancel":
            self.log += [event for event in [decide_cancel(self.state, None)] if event]
        elif what == "stray":
            self.log.append(Compiled(lease=Lease(role="runner", worker="x", token="x", number=9), stage=OK))
        elif self.held and what == "lose" and role == "runner":
            lease = self.held[-1]
            if lease.role == "runner" and holds(self.state, lease):
                self.log.append(CacheLost(lease=lease, key="k", missing="p"))
        elif self.held:
            self.work(self.held[-1], fail=fail)


@settings(max_examples=300)
@given(moves)
def test_whatever_happens_there_is_one_end_and_it_is_reached(history: list[tuple[str, str, bool]]) -> None:
    world = World()
    for what, role, fail in history:
        world.move(what, role, fail)
    for _ in range(40):  # from here on nothing crashes: every delivery is attended to
        for role in ("builder", "runner"):
            world.deliver(role)
            for _ in range(4):  # cache-built; or two test cases and the end
                if world.held:
                    world.work(world.held[-1], fail=False)
            cleaned = decide_cleaned(world.state, "w")
            world.log += [cleaned] if cleaned else []
    state = world.state
    assert state.ended
    assert state.cleaned_ns is not None
    ends = [event for event in world.log if isinstance(event, Finished | Cancelled | Parked | Rejected)]
    assert len(ends) == 1
    assert [event for event in world.log if isinstance(event, Cleaned)] == [
        Cleaned(worker="w", by=e.by) for e in world.log if isinstance(e, Cleaned)
    ][:1]


@given(events)
def test_events_round_trip(event: Event) -> None:
    assert decode(encode(event)) == event


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_an_event_error(body: bytes) -> None:
    try:
        decode(body)
    except EventError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=300))
def test_contents_round_trip(data: bytes) -> None:
    assert unpack(pack(data)) == data


names = st.binary(min_size=1, max_size=8).filter(lambda name: b"=" not in name and b"\0" not in name)
values = st.binary(max_size=20).filter(lambda value: b"\0" not in value)


@given(st.lists(st.tuples(names, values)).map(tuple))
def test_variables_round_trip(variables: tuple[tuple[bytes, bytes], ...]) -> None:
    assert unpack_variables(pack_variables(variables)) == variables


@given(st.lists(st.integers(0, 300_000), max_size=60))
def test_what_stays_in_an_event_is_small(sizes: list[int]) -> None:
    apart = spilled(sizes)
    inline = [size for position, size in enumerate(sizes) if position not in apart]
    assert sum(inline) <= EVENT_INLINE_BYTES
    assert all(size <= 64 << 10 for size in inline)
    if sum(sizes) <= EVENT_INLINE_BYTES:
        assert all(sizes[position] > 64 << 10 for position in apart)


reports = st.builds(
    StageReport,
    exit_code=st.none() | st.integers(0, 255),
    signal_number=st.none() | st.integers(1, 64),
    killed_by=st.sampled_from([None, "wall_time", "cpu_time", "stdout", "stderr", "cancel"]),
    oom_kills=st.integers(0, 2),
    fault=st.sampled_from([None, "x"]),
)


@given(reports, st.binary(max_size=20))
def test_outcomes_come_from_facts_not_from_text(report: StageReport, text: bytes) -> None:
    import msgspec

    assert classify(report) == classify(msgspec.structs.replace(report, stderr=text, stdout=text))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
FIELDS = ["id", "tenant", "files", "environment_files", "cache", "limits", "test_cases", "compare", "stop_on_failure", "labels"]
GOOD = {"files": [{"name": n, "content": ""} for n in ("shell.nix", "cutor-run.sh")], "test_cases": [{}]}


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from([*FIELDS, "extra"]), json_values, max_size=4))
def test_generated_requests_are_accepted_or_refused_in_one_line(changes: dict[str, object]) -> None:
    try:
        validate(parse_request(json.dumps(GOOD | changes).encode()), Policy(), "made-up")
    except InvalidRequest as error:
        assert str(error)
        assert "\n" not in str(error)


def test_a_first_event_starts_a_submission() -> None:
    assert initial(ADDRESS, SUBMITTED, Stamp(1, 1)) == folded([SUBMITTED])
