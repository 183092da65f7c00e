"""Every bound of a request: what is at it is taken, one more is refused with field, value and bound in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest

from cutor.model.errors import InvalidRequest
from cutor.model.limits import Bounds, Policy
from cutor.model.request import request_from, size_bytes
from cutor.model.request_checks import validate

SOURCES: Final = {"shell.nix": "{ }: { }", "cutor-run.sh": "true"}
ID: Final = "0123456789abcdef"


def document(files: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    listed = [{"name": name, "content": content} for name, content in (SOURCES | (files or {})).items()]
    return {"files": listed, "test_cases": [{}]} | more


def case(**fields: Any) -> dict[str, Any]:
    return document(test_cases=[{}, fields])


REST_BYTES: Final = sum(map(len, [*SOURCES, *SOURCES.values(), "more"]))


class Bounded(NamedTuple):
    """A request of a given number of something, the bound on it in these tests, and what the refusal of one more says."""

    request: Callable[[int], dict[str, Any]]
    bound: int
    refusal: str


BOUNDED: Final = {
    "request_bytes": Bounded(
        lambda number: document({"more": "x" * (number - REST_BYTES)}),
        100,
        "request: 101 bytes of contents, names, arguments and labels are more than the maximum of 100 bytes",
    ),
    "files": Bounded(
        lambda number: document({f"f{n}": "" for n in range(number - 2)}), 5, "files: 6 are more than the maximum of 5 files"
    ),
    "file_name_bytes": Bounded(
        lambda number: document({"d/" + "x" * (number - 2): ""}), 20, "has 21 bytes; the maximum is 20 bytes"
    ),
    "test_cases": Bounded(
        lambda number: document(test_cases=[{}] * number), 3, "test_cases: 4 are more than the maximum of 3 test cases"
    ),
    "test_case_name_bytes": Bounded(
        lambda number: case(name="é" * (number // 2) + "x" * (number % 2)),
        10,
        "test_cases[1].name: 11 bytes are more than the maximum of 10 bytes",
    ),
    "args": Bounded(
        lambda number: case(args=[""] * number), 4, "test_cases[1].args: 5 are more than the maximum of 4 arguments"
    ),
    "arg_bytes": Bounded(
        lambda number: case(args=["x" * 3, "x" * (number - 5)]),  # each with the byte that ends it
        9,
        "test_cases[1].args: together 10 bytes, more than the maximum of 9 bytes",
    ),
    "labels": Bounded(
        lambda number: document(labels={f"l{n}": "" for n in range(number)}),
        2,
        "labels: 3 are more than the maximum of 2 labels",
    ),
    "label_bytes": Bounded(
        lambda number: document(labels={"key": "x" * (number - 3)}),
        8,
        "labels.key: key and value are 9 bytes, more than the maximum of 8 bytes",
    ),
}
"""By the name of the bound. The bound on wall time is no matter of a request: `test_budget` looks at it."""


def test_no_bound_is_left_out() -> None:
    assert {*BOUNDED, "submission_wall_time_ms"} == set(Bounds.__struct_fields__)


@pytest.mark.parametrize("name", BOUNDED)
def test_at_the_bound_is_taken(name: str) -> None:
    wanted, bound, _ = BOUNDED[name]
    validate(request_from(wanted(bound)), Policy(bounds=Bounds(**{name: bound})), ID)


@pytest.mark.parametrize("name", BOUNDED)
def test_one_over_is_refused_with_field_value_and_bound_in_one_line(name: str) -> None:
    wanted, bound, refusal = BOUNDED[name]
    with pytest.raises(InvalidRequest) as caught:
        validate(request_from(wanted(bound + 1)), Policy(bounds=Bounds(**{name: bound})), ID)
    assert refusal in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BOUNDED)
def test_one_over_is_taken_where_the_bound_is_one_more(name: str) -> None:
    """So it is this bound that refuses, and the numbers of the table are those of its requests."""
    wanted, bound, _ = BOUNDED[name]
    validate(request_from(wanted(bound + 1)), Policy(bounds=Bounds(**{name: bound + 1})), ID)


def test_the_size_of_a_request_is_all_that_somebody_wrote() -> None:
    texts = {"labels": {"k": "vv"}, "environment_files": ["shell.nix"]}
    cases = [{"name": "é", "input": "in", "args": ["a"], "expected_output": "out"}]
    valid = validate(request_from(document(test_cases=cases, **texts)), Policy(), ID)
    assert size_bytes(valid) == REST_BYTES - len("more") + 3 + len("shell.nix") + 2 + 2 + 1 + 3
