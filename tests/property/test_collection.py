"""What a plan of a collection promises, on random stores: what is needed stays, sizes are right, no more goes than must."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from cutor.model.catalogue import Entry
from cutor.model.collection import FRESH_S, Plan, Wish, plan, stands

NOW_S = 1_800_000_000
PATHS = 12
KEYS = "abcdef"


class Rooted(NamedTuple):
    key: str
    made_at_s: int
    closure: tuple[int, ...]


class Held(NamedTuple):
    nar_bytes: tuple[int, ...]
    keys: tuple[Rooted, ...]
    others: tuple[int, ...]


class Case(NamedTuple):
    held: Held
    entries: dict[str, Entry]
    in_use: frozenset[str]
    wish: Wish

    @property
    def plan(self) -> Plan:
        return plan(self.held, self.entries, self.in_use, self.wish, NOW_S)


def at(seconds: int) -> str:
    """Return a moment as the views write it."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(sep=" ")


moments = st.integers(NOW_S - 3 * FRESH_S, NOW_S)
closures = st.sets(st.integers(0, PATHS - 1)).map(lambda indices: tuple(sorted(indices)))


@st.composite
def entries(draw: st.DrawFn, key: str) -> Entry:
    built, used, removed = (draw(st.none() | moments.map(at)) for _ in range(3))
    return Entry(
        key=key,
        derivation=None,
        closure_paths=None,
        closure_bytes=None,
        worker=None,
        built_at=built,
        builds=1,
        uses=1,
        hits=0,
        first_used_at=used,
        last_used_at=used,
        removed=built is not None and removed is not None,
        removed_at=removed if built else None,
        removal_reason=None,
        pinned=draw(st.booleans()),
        private_to=draw(st.sampled_from([None, None, "default/a"])),
        waiting=draw(st.sampled_from([0, 0, 1])),
    )


wishes = st.builds(
    Wish,
    older_than_s=st.none() | st.integers(0, 4 * FRESH_S),
    max_bytes=st.none() | st.integers(0, 400),
    everything=st.booleans(),
    unknown=st.booleans(),
)


@st.composite
def cases(draw: st.DrawFn, wishes: st.SearchStrategy[Wish] = wishes) -> Case:
    sizes = tuple(draw(st.lists(st.integers(0, 50), min_size=PATHS, max_size=PATHS)))
    rooted = tuple(Rooted(key, draw(moments), draw(closures)) for key in draw(st.permutations(KEYS)))
    known = {key: draw(entries(key)) for key in draw(st.sets(st.sampled_from(KEYS)))}
    in_use = draw(st.frozensets(st.sampled_from(KEYS), max_size=2))
    return Case(Held(sizes, rooted, draw(closures)), known, in_use, draw(wishes))


def size(case: Case, without: set[str] | frozenset[str] = frozenset()) -> int:
    """Return what roots keep, counted in the plainest way."""
    kept = set(case.held.others).union(*(one.closure for one in case.held.keys if one.key not in without))
    return sum(case.held.nar_bytes[index] for index in kept)


@given(cases())
def test_every_key_has_one_fate(case: Case) -> None:
    made = case.plan
    assert sorted([one.key for one in made.take] + [one.key for one in made.keep]) == sorted(KEYS)


@given(cases())
def test_what_is_in_use_pinned_or_anothers_stays(case: Case) -> None:
    taken = {one.key for one in case.plan.take}
    assert not taken & case.in_use
    for one in case.held.keys:
        entry = case.entries.get(one.key)
        if entry is not None and (entry.pinned or entry.waiting):
            assert one.key not in taken
        if entry is None and not case.wish.unknown:
            assert one.key not in taken


@given(cases())
def test_roots_that_a_build_has_just_made_stay_until_the_log_knows_them(case: Case) -> None:
    taken = {one.key for one in case.plan.take}
    for one in case.held.keys:
        entry = case.entries.get(one.key)
        if (
            not stands(entry)
            and one.made_at_s > NOW_S - FRESH_S
            and (entry is None or at(one.made_at_s) > (entry.removed_at or ""))
        ):
            assert one.key not in taken


@given(cases())
def test_the_sizes_are_those_of_what_goes(case: Case) -> None:
    made = case.plan
    taken = {one.key for one in made.take}
    assert made.store_bytes == sum(case.held.nar_bytes)
    assert made.garbage_bytes == made.store_bytes - size(case)
    assert made.left_bytes == size(case, taken)
    gone: set[str] = set()
    for one in made.take:
        before = size(case, gone)
        gone.add(one.key)
        assert one.frees_bytes == before - size(case, gone)
    assert made.garbage_bytes + sum(one.frees_bytes for one in made.take) == made.frees_bytes


@given(cases())
def test_the_store_fits_or_nothing_that_may_go_would_free_anything(case: Case) -> None:
    made = case.plan
    if case.wish.max_bytes is not None and made.left_bytes > case.wish.max_bytes:
        more = {one.key for one in made.keep if one.because == "not selected"}
        assert size(case, more | {one.key for one in made.take}) == made.left_bytes


@given(cases())
def test_none_goes_for_the_size_that_need_not(case: Case) -> None:
    made = case.plan
    taken = {one.key for one in made.take}
    large = [one.key for one in made.take if one.because == "the store is too large"]
    if large:
        assert case.wish.max_bytes is not None
    if case.wish.max_bytes is not None:
        enough = max(case.wish.max_bytes, made.left_bytes)
        assert all(size(case, taken - {key}) > enough for key in large)


def test_an_environment_that_frees_nothing_stays_also_where_no_environments_are_enough() -> None:
    """Its paths are those of a pinned one; a plan for a size that cannot be had was to take it for 0 bytes."""
    rooted = tuple(Rooted(key, NOW_S - 5 * FRESH_S, closure) for key, closure in (("a", (0,)), ("b", (0,)), ("c", (0, 1))))
    known = {key: entry_of(key, pinned=key == "b") for key in "abc"}
    made = plan(Held((10, 5), rooted, ()), known, (), Wish(max_bytes=1), NOW_S)
    assert [(one.key, one.frees_bytes, one.because) for one in made.take] == [("c", 5, "the store is too large")]
    assert {one.key: one.because for one in made.keep} == {"a": "not selected", "b": "pinned"}
    assert made.left_bytes == 10


def entry_of(key: str, *, pinned: bool) -> Entry:
    """Return an environment that stands and that nothing has touched since it was built."""
    numbers = {"builds": 1, "uses": 0, "hits": 0, "waiting": 0, "removed": False}
    fields = dict.fromkeys(Entry.__struct_fields__) | numbers | {"key": key, "built_at": at(NOW_S - 4 * FRESH_S)}
    return Entry(**fields | {"pinned": pinned})


@given(cases(st.builds(Wish, older_than_s=st.integers(0, 4 * FRESH_S), unknown=st.booleans())))
def test_by_age_go_those_alone_that_are_older(case: Case) -> None:
    assert case.wish.older_than_s is not None
    limit = at(NOW_S - case.wish.older_than_s)
    fates = {one.key: one.because for one in (*case.plan.take, *case.plan.keep)}
    for one in case.held.keys:
        entry = case.entries.get(one.key)
        touched = at(one.made_at_s) if entry is None or entry.touched_at is None else entry.touched_at
        if fates[one.key] == "not touched for long":
            assert touched < limit
        if fates[one.key] == "not selected":
            assert touched >= limit


@given(cases(st.just(Wish())))
def test_without_a_wish_goes_what_the_log_has_given_up_and_nothing_else(case: Case) -> None:
    assert {one.because for one in case.plan.take} <= {"removed before", "its submission has ended"}


@given(cases(st.just(Wish(everything=True, unknown=True))))
def test_all_means_all_that_may_go(case: Case) -> None:
    assert {one.because for one in case.plan.keep} <= {"in use", "pinned", "just built"}


@given(cases(), st.integers(0, 400), st.integers(0, 400))
def test_a_smaller_store_is_asked_for_with_no_smaller_plan(case: Case, one: int, other: int) -> None:
    wish = Wish(older_than_s=case.wish.older_than_s, everything=case.wish.everything, unknown=case.wish.unknown)
    left = []
    for max_bytes in sorted((one, other)):
        sized = Wish(older_than_s=wish.older_than_s, everything=wish.everything, unknown=wish.unknown, max_bytes=max_bytes)
        left.append(plan(case.held, case.entries, case.in_use, sized, NOW_S).left_bytes)
    assert left[0] <= max(left[1], min(one, other))


@given(cases())
def test_the_order_in_which_a_store_lists_its_keys_decides_nothing(case: Case) -> None:
    turned = case.held._replace(keys=tuple(reversed(case.held.keys)))
    assert plan(turned, case.entries, case.in_use, case.wish, NOW_S) == case.plan


@given(cases())
def test_done_twice_there_is_nothing_more_to_take(case: Case) -> None:
    made = case.plan
    taken = {one.key for one in made.take}
    left = case.held._replace(keys=tuple(one for one in case.held.keys if one.key not in taken))
    again = plan(left, case.entries, case.in_use, case.wish, NOW_S)
    assert again.take == ()
    assert again.left_bytes == made.left_bytes
