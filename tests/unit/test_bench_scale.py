"""`make bench-scale`: its histories are cutor's own, and a run that was kept says what it said."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from cutor.bus.message import Stored
from cutor.model.codec import encode
from cutor.model.content import pack
from cutor.model.environments import EnvironmentBuilt
from cutor.model.events import CacheBuilt, Cleaned, EnvironmentRef, Event, Lease, Submitted, kind_of
from cutor.model.messages import read_environment, read_message
from cutor.model.state import Folding, Stamp
from cutor.model.subjects import Address, event_subject, parse_event_subject
from tests.bench import kept
from tests.bench.performance.figures import Memory
from tests.bench.scale import figures, tables
from tests.bench.scale.__main__ import LEAST, POINTS, points_of, together
from tests.bench.scale.figures import FORMAT, Command, Cost, Fair, Pair, Run, Step
from tests.bench.scale.histories import SHELL, Model
from tests.bench.stacks import Unexpected
from tests.unit.histories import OK, REQUEST, RUNNING, finished, ran
from tests.unit.test_environments import BUILT

KEYS = [f"{number:064x}" for number in range(1, 4)]


def model() -> Model:
    shell = msgspec.structs.replace(REQUEST.files[0], content=pack(SHELL.format(0).encode()))
    request = msgspec.structs.replace(REQUEST, files=(shell, *REQUEST.files[1:]))
    reference = EnvironmentRef(key=KEYS[0], derivation="/nix/store/x.drv", hit=True)
    leases = [msgspec.structs.replace(event.lease, token=f"{role:016x}") for role, event in ((7, RUNNING[1]), (8, RUNNING[3]))]  # type: ignore[union-attr]
    builder, runner = leases

    def under(event: Event, lease: Lease) -> Event:
        return msgspec.structs.replace(event, lease=lease)  # type: ignore[type-var]

    events: list[Event] = [
        Submitted(request=request, digest="d"),
        under(RUNNING[1], builder),
        CacheBuilt(lease=builder, environment=reference, stage=OK),
        under(RUNNING[3], runner),
        under(ran(0, "OK", "OK"), runner),
        under(finished("OK"), runner),
        Cleaned(worker="w", by="worker"),
    ]
    stored = [
        Stored("EVENTS", number, event_subject(Address("default", "s"), kind_of(event)), number, None, {}, encode(event))
        for number, event in enumerate(events, 1)
    ]
    built = msgspec.structs.replace(BUILT, key=KEYS[0])
    return Model.of(stored, built, encode(built))


def test_every_history_is_that_of_a_submission_which_ended_well_in_its_environment() -> None:
    made = list(model().submissions(0, 250, KEYS))
    assert [one.sequence for one in made] == list(range(1, 7 * 250 + 1))
    folds: dict[Address, Folding] = {}
    for one in made:
        subject = parse_event_subject(one.subject)
        assert subject is not None
        folding = folds.setdefault(subject.address, Folding(subject.address))
        folding.take(read_message(one.subject, one.body), Stamp(one.sequence, one.time_ns))
    states = [folding.state for folding in folds.values()]
    assert len(states) == 250
    assert all(state is not None and state.outcome == "OK" and state.cleaned_ns and not state.strays for state in states)
    environments = [state.environment.key for state in states if state is not None and state.environment is not None]
    assert environments == [KEYS[number % 3] for number in range(250)]
    assert len({state.lease.token for state in states if state is not None and state.lease is not None}) == 250
    requests = [event for one in made if isinstance(event := read_message(one.subject, one.body), Submitted)]
    shells = [pack(SHELL.format(number).encode()) for number in (0, 1, 2, 0)]
    assert [one.request.files[0].content for one in requests[:4]] == shells


def test_environments_are_the_same_paths_under_other_keys() -> None:
    events = [read_environment(one.subject, one.body) for one in model().environments(KEYS)]
    assert all(isinstance(event, EnvironmentBuilt) for event in events)
    assert [event.key for event in events if isinstance(event, EnvironmentBuilt)] == KEYS
    assert all(msgspec.structs.replace(one, key="") == msgspec.structs.replace(two, key="") for one, two in pairwise(events))  # type: ignore[type-var]


def cost(submissions: int, times: float) -> Cost:
    return Cost(
        submissions=submissions,
        environments=1,
        lives=3,
        steps=[Step("all of it", 40.0 * times, 90.0 * times)],
        contained=[],
        cpu_ms={"builder": 6.0 * times},
        starts={"cutor up": 3.0 * times},
        commands=[Command("status ID", 40.0 * times)],
        memory=[Memory("builder", 1, 50.0, 34.0)],
        stream_bytes=1 << 20,
        views_bytes=1 << 20,
        filled_s=1.0,
    )


RUN = Run(
    format=FORMAT,
    origin={"revision": "abc"},
    pairs=[Pair(cost(100, 1), cost(1_000, 1.5))],
    fair=[Fair("in containers", 10_000, 9_000, Step("all of it", 700.0, 900.0))],
)


def test_a_run_is_kept_and_shown_with_ratios() -> None:
    read = figures.decode(kept.encode(RUN))
    assert read == RUN
    shown = tables.whole(together([read, read]))
    assert "| all of it, 99 of 100                |     90.0 |  135 (x 1.50) |  135 (x 1.50) |" in shown
    assert "10,000" in shown


@pytest.mark.parametrize("raw", [b"", b"{}", kept.encode(RUN).replace(b'"format": 1', b'"format": 99')])
def test_what_no_run_has_kept_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"kept|format"):
        figures.decode(raw)


def test_points() -> None:
    assert points_of(["100000x1", "10x1000"]) == [(100_000, 1), (10, 1_000)]
    assert LEAST not in POINTS
    for word in ("100", "x", "1x0", "1x1001", "ax1"):
        with pytest.raises(Unexpected):
            points_of([word])
