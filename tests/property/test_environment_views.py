"""The view of environments says of any history what the pure fold says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cutor.model.codec import encode
from cutor.model.environments import (
    Environment,
    EnvironmentBuilding,
    EnvironmentBuilt,
    EnvironmentEvent,
    EnvironmentPinned,
    EnvironmentRemoved,
    EnvironmentUnpinned,
    fold_environment,
)
from cutor.model.events import CacheBuilt, EnvironmentRef
from cutor.model.messages import Unreadable, read_environment
from cutor.model.subjects import ENVIRONMENTS, Address, environment_subject
from tests.unit.histories import OK, SUBMITTED, lease, leased
from tests.unit.test_environments import BUILT
from tests.unit.views import Views, Written

COLUMNS = (
    "derivation, closure_paths, closure_bytes, worker, builds, pinned, private, private_to, removed, removal_reason, "
    "uses, hits, last_used_at IS NOT NULL"
)
GARBAGE = (b"", b"\xff", b"{}", b'{"kind":"env-pinned"}', b'{"kind":"env-removed","key":"other","reason":"r"}')
keys = itertools.count()
texts = st.sampled_from(["", "a", "'\"", "nul \0", "\U0001f600"])


def events(key: str, pins: st.SearchStrategy[int]) -> st.SearchStrategy[EnvironmentEvent]:
    this = st.just(key)
    built = st.builds(
        lambda derivation, closure, worker, private: msgspec.structs.replace(
            BUILT,
            key=key,
            derivation=derivation,
            closure=closure,
            closure_bytes=len(closure),
            worker=worker,
            private_to=private,
        ),
        texts,
        st.lists(texts, max_size=2).map(tuple),
        texts,
        st.sampled_from([msgspec.UNSET, "default/s1"]),
    )
    return st.one_of(
        built,
        st.builds(EnvironmentBuilding, key=this, tenant=texts, id=texts, lease_token=texts, worker=texts),
        st.builds(EnvironmentRemoved, key=this, reason=texts),
        st.builds(EnvironmentPinned, key=this, passing=st.sampled_from([msgspec.UNSET, False, True])),
        st.builds(EnvironmentUnpinned, key=this),
        st.builds(EnvironmentUnpinned, key=this, pin_sequence=pins),
    )


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    views = Views(tmp_path_factory.mktemp("environments"))
    yield views
    views.store.close()


sequences = itertools.count(1)


@pytest.mark.timeout(900)
@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_the_view_of_environments_equals_the_fold(views: Views, data: st.DataObject) -> None:
    """Several keys at once, garbage among their events, and submissions that use them, in batches of any size."""
    names = [f"key{next(keys)}" for _ in range(data.draw(st.integers(1, 3)))]
    messages: list[Written] = []
    for _ in range(data.draw(st.integers(0, 12))):
        key = data.draw(st.sampled_from(names))
        garbage, sequence = data.draw(st.integers(0, 9)) == 9, next(sequences)
        pins = st.integers(-6, 2).map(sequence.__add__)  # of this key or another's, what is no pin, what comes only later
        body = data.draw(st.sampled_from(GARBAGE)) if garbage else encode(data.draw(events(key, pins)))
        messages.append(Written(sequence, environment_subject(key), body))
    views.apply(messages, stream=ENVIRONMENTS, batch=data.draw(st.integers(1, 6)))
    uses = {key: data.draw(st.lists(st.booleans(), max_size=2)) for key in names}
    for key, hits in uses.items():
        use(views, key, hits)
    for key in names:
        check(views, key, [message for message in messages if message.subject == environment_subject(key)], uses[key])


def use(views: Views, key: str, hits: list[bool]) -> None:
    for hit in hits:
        reference = EnvironmentRef(key=key, derivation="of the use", hit=hit)
        built = CacheBuilt(lease=lease("builder"), environment=reference, stage=OK)
        views.happen(SUBMITTED, leased("builder"), built, address=Address("default", f"s{next(keys)}"))


def check(views: Views, key: str, messages: list[Written], hits: list[bool]) -> None:
    read = [read_environment(message.subject, message.body) for message in messages]
    history = [None if isinstance(event, Unreadable) else event for event in read]
    environment = fold_environment(key, [(event, message.sequence) for event, message in zip(history, messages, strict=True)])
    found = views.query(f"SELECT {COLUMNS} FROM environments WHERE key = $1", key)
    assert found == expected(environment, [event for event in history if event is not None], hits)


def expected(environment: Environment, history: list[EnvironmentEvent], hits: list[bool]) -> list[tuple[object, ...]]:
    """Return the row of an environment: of what was built last, whether it stands, is pinned, and how it was used."""
    builds = [event for event in history if isinstance(event, EnvironmentBuilt)]
    if not hits and all(isinstance(event, EnvironmentBuilding) for event in history):
        return []
    last = builds[-1] if builds else None
    private = last.private_to if last is not None and isinstance(last.private_to, str) else None
    known: tuple[object, ...] = (None,) * 4
    if last is not None:
        known = (last.derivation, len(last.closure), last.closure_bytes, last.worker)
    elif hits:
        known = ("of the use", None, None, None)
    removals = [event for event in history if isinstance(event, EnvironmentRemoved)]
    removed = environment.built is None and bool(removals)
    used = (len(hits), sum(hits), bool(hits))
    reason = removals[-1].reason if removed else None
    return [(*known, len(builds), environment.pinned, private is not None, private, removed, reason, *used)]
