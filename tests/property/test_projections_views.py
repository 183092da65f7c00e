"""The views about attempts, latencies, test cases and the queue say of any history what the states of `evolve` say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cutor.model.events import Leased
from cutor.model.messages import Message, read_message
from cutor.model.result import result
from cutor.model.state import Stamp, fold
from cutor.model.subjects import Address
from tests.property import told_by_evolve
from tests.property.submission_histories import streams
from tests.property.told_by_evolve import Attempt, Change, InProgress, Latencies, changes
from tests.unit.views import Views, Written, same


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    views = Views(tmp_path_factory.mktemp("views"))
    yield views
    views.store.close()


@pytest.mark.timeout(900)
@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_the_views_say_what_the_states_say(views: Views, data: st.DataObject) -> None:
    messages = data.draw(streams(after=views.sequence))
    views.sequence += len(messages)
    views.apply([message for _, message in messages], batch=data.draw(st.integers(1, 40)))
    for address in {owner for owner, _ in messages}:
        own = [message for owner, message in messages if owner == address]
        counted = changes(address, read(own))
        same(found_attempts(views, address), told_by_evolve.attempts(counted))
        same(found_latencies(views, address), told_by_evolve.latencies(counted) if counted else None)
        same(found_in_progress(views, address), told_by_evolve.in_progress(counted))
        same(found_test_cases(views, address), told_test_cases(address, own))
        same(found_strays(views, address), strays_of_attempts(own, counted))


def read(messages: list[Written]) -> list[tuple[Message, Stamp]]:
    return [(read_message(one.subject, one.body), Stamp(one.sequence, one.time_ns)) for one in messages]


def found_attempts(views: Views, address: Address) -> list[Attempt]:
    columns = ", ".join(Attempt._fields)
    sql = f"SELECT {columns} FROM attempts WHERE (tenant, id) = ($1, $2) ORDER BY began_sequence"
    return [Attempt(*row) for row in views.query(sql, *address)]


def found_latencies(views: Views, address: Address) -> Latencies | None:
    columns = ", ".join(Latencies._fields)
    found = views.query(f"SELECT {columns} FROM latencies WHERE (tenant, id) = ($1, $2)", *address)
    return Latencies(*found[0]) if found else None


def found_in_progress(views: Views, address: Address) -> InProgress | None:
    found = views.query(
        "SELECT role, leased, worker, attempt, since_sequence FROM in_progress "
        "JOIN (SELECT time AS since, sequence AS since_sequence FROM events) USING (since) WHERE (tenant, id) = ($1, $2)",
        *address,
    )
    return InProgress(*found[0]) if found else None


def found_test_cases(views: Views, address: Address) -> list[tuple[object, ...]]:
    sql = "SELECT test_case, name, outcome, exit_code, message FROM test_cases WHERE (tenant, id) = ($1, $2) ORDER BY test_case"
    return views.query(sql, *address)


def told_test_cases(address: Address, messages: list[Written]) -> list[tuple[object, ...]]:
    """The request's test cases, each with its stage of the result document, as far as that goes."""
    state = fold(address, read(messages))
    if state is None:
        return []
    stages = [(stage.outcome, stage.exit_code, stage.message) for stage in result(state).run]
    stages += [(None, None, None)] * (len(state.request.test_cases) - len(stages))
    return [
        (place, case.name, *stage) for place, (case, stage) in enumerate(zip(state.request.test_cases, stages, strict=False))
    ]


def found_strays(views: Views, address: Address) -> dict[tuple[str, int], int]:
    sql = "SELECT role, attempt, strays FROM attempts WHERE (tenant, id) = ($1, $2) AND strays > 0"
    return {(role, attempt): strays for role, attempt, strays in views.query(sql, *address)}


def strays_of_attempts(messages: list[Written], counted: list[Change]) -> dict[tuple[str, int], int]:
    """Events that name a lease that was taken, and did not count."""
    sequences = {change.stamp.sequence for change in counted}
    leases = [
        message.lease
        for message, stamp in read(messages)
        if stamp.sequence not in sequences and not isinstance(message, Leased) and hasattr(message, "lease")
    ]
    taken = {(attempt.role, attempt.attempt) for attempt in told_by_evolve.attempts(counted)}
    return {name: count for name, count in Counter((one.role, one.number) for one in leases).items() if name in taken}
