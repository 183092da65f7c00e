"""Properties of the core: any history folds, one end counts, decisions and folds agree, codecs round-trip."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple, cast

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutor.model.codec import EventError, decode, encode
from cutor.model.content import RequestEncoding, decode_request_text, pack, unpack
from cutor.model.decide import (
    Clean,
    NothingToDo,
    Park,
    TakeLease,
    decide_answer,
    decide_cancel,
    decide_cleaned,
    decide_step,
    holds,
    is_old,
)
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
    Interrupted,
    Lease,
    Leased,
    Parked,
    Ran,
    Rejected,
    Role,
    Stage,
    kind_of,
)
from cutor.model.limits import Policy
from cutor.model.request import parse_request
from cutor.model.request_checks import validate
from cutor.model.result import result
from cutor.model.spill import EVENT_INLINE_BYTES, spilled
from cutor.model.state import Stamp, Submission, evolve, fold, initial, outline
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
    st.builds(
        Cleaned,
        worker=st.sampled_from(["w", "v"]),
        by=st.sampled_from(["worker", "takeover"]),
        interrupted=st.builds(Interrupted, stage=st.sampled_from(["dependencies", "run"]), stages=st.tuples(stages)),
    ),
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
    """But for what `cleaned` may tell, once, of the stages that a cancel interrupted."""
    state = folded([SUBMITTED, *history])
    assert state is not None
    if state.ended:
        after = evolve(state, late, Stamp(99, 99))
        ends = [(one.status, one.outcome, one.finished_ns) for one in (state, after)]
        assert ends[0] == ends[1]
        assert after.runs[: len(state.runs)] == state.runs
        if (after.runs, after.dependencies) != (state.runs, state.dependencies):
            assert (state.status, state.cleaned_ns, kind_of(late), after.told) == ("CANCELLED", None, "cleaned", True)


@given(histories)
def test_appending_everything_twice_changes_nothing_but_the_strays(history: list[Event]) -> None:
    """Message ids make that impossible; were it possible, only a lease taken twice in a row could count twice."""
    once = folded([SUBMITTED, *history])
    twice = folded([SUBMITTED, *(event for event in history for _ in range(2))])
    assert once is not None
    assert twice is not None
    assert (once.status, once.outcome, once.attempts) == (twice.status, twice.outcome, twice.attempts)


moves = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "work", "work", "answer", "crash", "lose", "cancel", "stray", "notice"]),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=40,
)
STEPS = {"submitted": "builder", "cache-lost": "builder", "cache-built": "runner"}


class Held(NamedTuple):
    """A delivery that a worker has: the event it is of, and the lease that was taken under it."""

    sequence: int
    lease: Lease


class World:
    """Workers that act on one submission by their decisions alone, and may crash after any append.

    A delivery stays in ``owed`` until somebody acknowledges that event, whoever: as the server has it.
    """

    def __init__(self) -> None:
        self.log: list[Event] = []
        self.owed: list[tuple[int, Role]] = []
        self.held: list[Held] = []
        self.append(SUBMITTED)

    def append(self, event: Event) -> None:
        self.log.append(event)
        if role := STEPS.get(kind_of(event)):
            self.owed.append((len(self.log), cast("Role", role)))

    @property
    def state(self) -> Submission:
        state = folded(self.log)
        assert state is not None
        return state

    def acknowledge(self, sequence: int) -> None:
        self.owed = [owed for owed in self.owed if owed[0] != sequence]

    def deliver(self, place: int) -> None:
        """Deliver one of the events that nobody has acknowledged: to a new worker, or again."""
        if not self.owed:
            return
        sequence, role = self.owed[place % len(self.owed)]
        decided = decide_step(self.state, role, sequence, worker="w", token=f"t{len(self.log)}", max_leases=2)
        match decided:
            case TakeLease(event=event):
                self.append(event)
                self.held.append(Held(sequence, event.lease))
                return
            case Park(event=event) | Clean(event=event):
                self.append(event)
                self.clean(None)
        self.acknowledge(sequence)

    def clean(self, lease: Lease | None) -> None:
        if cleaned := decide_cleaned(self.state, "w", lease):
            self.append(cleaned)

    def answer(self, held: Held) -> None:
        """A worker is done, for whatever reason; what it says to the server, the log decides."""
        self.held.remove(held)
        self.clean(held.lease)
        if decide_answer(self.state, held.lease) == "done":
            self.acknowledge(held.sequence)

    def work(self, lease: Lease, *, fail: bool) -> None:
        """Append what a worker under a lease appends next, if the lease holds."""
        if not holds(self.state, lease):
            return
        if lease.role == "builder":
            built = CacheBuilt(lease=lease, environment=ENVIRONMENT, stage=OK)
            self.append(Finished(lease=lease, outcome="DEPENDENCY_ERROR") if fail else built)
        elif len(self.state.runs) < 2:
            self.append(Ran(lease=lease, index=len(self.state.runs), stages=(OK,)))
        else:
            self.append(Finished(lease=lease, outcome="RUN_ERROR" if fail else "OK"))

    def move(self, what: str, place: int, fail: bool) -> None:
        held = self.held[place % len(self.held)] if self.held else None
        if what == "deliver":
            self.deliver(place)
        elif what == "cancel":
            for event in [decide_cancel(self.state, None)]:
                if event is not None:
                    self.append(event)
        elif what == "stray":
            self.append(Compiled(lease=Lease(role="runner", worker="x", token="x", number=9), stage=OK))
        elif held is not None:
            self.move_of_worker(what, held, fail)

    def move_of_worker(self, what: str, held: Held, fail: bool) -> None:
        if what == "crash":
            self.held.remove(held)
        elif what == "answer":
            self.answer(held)
        elif what == "lose" and held.lease.role == "runner" and holds(self.state, held.lease):
            self.append(CacheLost(lease=held.lease, key="k", missing="p"))
        elif what == "work":
            self.work(held.lease, fail=fail)


@settings(max_examples=600)
@given(moves)
def test_whatever_happens_there_is_one_end_and_it_is_reached(history: list[tuple[str, int, bool]]) -> None:
    """Nothing but what the server still owes is delivered: an acknowledgement too many, and the end is never reached."""
    world = World()
    for what, place, fail in history:
        world.move(what, place, fail)
    world.held.clear()  # every worker dies; from here on nothing crashes
    for _ in range(60):
        world.deliver(0)
        while world.held:
            held = world.held[0]
            for _ in range(4):  # cache-built; or two test cases and the end
                world.work(held.lease, fail=False)
            world.answer(held)
    state = world.state
    assert state.ended
    assert state.cleaned_ns is not None
    assert world.owed == []
    ends = [event for event in world.log if isinstance(event, Finished | Cancelled | Parked | Rejected)]
    assert len(ends) == 1
    assert len([event for event in world.log if isinstance(event, Cleaned)]) == 1


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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
FIELDS = ["id", "tenant", "files", "environment_files", "cache", "limits", "test_cases", "compare", "stop_on_failure", "labels"]
GOOD = {"files": [{"name": n, "content": ""} for n in ("shell.nix", "cutor-run.sh")], "test_cases": [{}]}


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # tables of text are made once
@given(st.dictionaries(st.sampled_from([*FIELDS, "extra"]), json_values, max_size=4))
def test_generated_requests_are_accepted_or_refused_in_one_line(changes: dict[str, object]) -> None:
    try:
        validate(parse_request(json.dumps(GOOD | changes).encode()), Policy(), "made-up")
    except InvalidRequest as error:
        assert str(error)
        assert "\n" not in str(error)


@given(st.binary(max_size=30), st.data())
def test_bytes_within_a_request_are_accepted_or_refused_in_one_line(noise: bytes, data: st.DataObject) -> None:
    good = json.dumps(GOOD).encode()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    try:
        parse_request(good[:start] + noise + good[end:])
    except InvalidRequest as error:
        assert str(error).startswith("request: ")
        assert "\n" not in str(error)


@settings(max_examples=300)
@given(st.text(alphabet="QRAB0f= \n-_é", max_size=9), st.sampled_from(["base64", "hex"]))
def test_bytes_have_one_text(text: str, encoding: RequestEncoding) -> None:
    """But for the case of hexadecimal digits."""
    try:
        data = decode_request_text("here", encoding, text)
    except InvalidRequest as error:
        assert str(error).startswith(f"here is not valid {encoding}: ")
    else:
        only = base64.b64encode(data).decode() if encoding == "base64" else data.hex()
        assert only == (text if encoding == "base64" else text.lower())


def test_a_first_event_starts_a_submission() -> None:
    assert initial(ADDRESS, SUBMITTED, Stamp(1, 1)) == folded([SUBMITTED])


@given(histories, st.integers(0, 25))
def test_an_outline_tells_which_event_is_due(history: list[Event], after: int) -> None:
    """However early contents and results are left out, and whatever comes behind."""
    whole = known = initial(ADDRESS, SUBMITTED, Stamp(1, 1))
    for sequence, event in enumerate(history, 2):
        stamp = Stamp(sequence, sequence)
        whole, known = evolve(whole, event, stamp), evolve(known if sequence < after else outline(known), event, stamp)
    assert outline(known) == msgspec.structs.replace(outline(whole), strays=known.strays, told=known.told)


@given(histories)
def test_what_is_old_is_due_in_no_log_that_lost_its_tail(history: list[Event]) -> None:
    """Whatever a process folded that the server has forgotten since: what is due in the rest is not told to be old."""
    states = [initial(ADDRESS, SUBMITTED, Stamp(1, 1))]
    for sequence, event in enumerate(history, 2):
        states.append(evolve(states[-1], event, Stamp(sequence, sequence)))
    known = outline(states[-1])
    assert not any(is_old(known, state.step_sequence, state.step_sequence) for state in states)


@given(histories, st.sampled_from(["builder", "runner"]))
def test_what_is_old_once_is_old_for_ever(history: list[Event], role: Role) -> None:
    """And asks for nothing but what the event that is due asks for, too."""
    state, old = initial(ADDRESS, SUBMITTED, Stamp(1, 1)), set[int]()
    for sequence, event in enumerate(history, 2):
        state = evolve(state, event, Stamp(sequence, sequence))
        old |= {earlier for earlier in range(1, sequence + 1) if is_old(state, earlier, earlier)}
        assert state.step_sequence not in old
        if not state.ended:
            decided = [decide_step(state, role, one, worker="w", token="t", max_leases=3) for one in old]
            assert all(isinstance(one, NothingToDo) for one in decided)
