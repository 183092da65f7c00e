"""The fold in SQL says of any history what the pure fold says: `evolve`, then `result`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cutor.model.events import Submitted
from cutor.model.messages import Message, Unreadable, read_message
from cutor.model.result import result
from cutor.model.state import Folding, Stamp, fold
from cutor.model.subjects import Address, fence
from tests.property.submission_histories import streams
from tests.unit.views import Views, Written, assert_equal


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    views = Views(tmp_path_factory.mktemp("views"))
    yield views
    views.store.close()


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
    messages = data.draw(streams(after=views.sequence))
    views.sequence += len(messages)
    views.apply([message for _, message in messages], batch=data.draw(st.integers(1, 12)))
    for address in {owner for owner, _ in messages}:
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
