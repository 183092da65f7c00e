"""Names and ids of a re-judging."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutor.model.errors import InvalidRequest
from cutor.model.rejudgement import Rejudged, check_name, count, labelled, name_of_now, outcomes, rejudged_id
from cutor.model.subjects import SUBMISSION_ID

ids = st.from_regex(SUBMISSION_ID, fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9_-]{1,24}", fullmatch=True)


def test_an_id_says_what_was_judged_again_and_by_what() -> None:
    assert rejudged_id("6f1c2a", "new-tests") == "6f1c2a-rejudge-new-tests"
    assert rejudged_id("a" * 64, "x" * 24) == "a" * 18 + "-ffe054fe7ae0-rejudge-" + "x" * 24


@given(ids, ids, names)
def test_different_submissions_have_different_ids_that_are_ids(one: str, other: str, name: str) -> None:
    assert SUBMISSION_ID.fullmatch(rejudged_id(one, name))
    assert (one == other) == (rejudged_id(one, name) == rejudged_id(other, name))


def test_long_ids_that_begin_alike_are_kept_apart() -> None:
    assert rejudged_id("a" * 63 + "b", "n") != rejudged_id("a" * 63 + "c", "n")


@pytest.mark.parametrize("name", ["", "x" * 25, "a b", "a.b", "a'b", "a>b", "\u0660", "a\n"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_name(name)


def test_a_name_of_its_own_is_made_of_the_time() -> None:
    assert check_name(name_of_now(1_795_739_469_035_387_183)) == "20261127-003109"


def test_the_label_takes_the_place_of_that_of_an_earlier_re_judging() -> None:
    assert labelled({"a": "b", "rejudge": "first"}, "second") == {"a": "b", "rejudge": "second"}


def test_counts() -> None:
    done = [Rejudged(id=str(n), tenant="t", action="planned", outcome="OK", submission="x") for n in range(2)]
    done.append(Rejudged(id="2", tenant="t", action="refused", outcome="RUN_ERROR"))
    assert count(done) == {"planned": 2, "refused": 1}
    assert outcomes(done) == {"OK": 2}
    assert not done[0].changed
