"""Limits of any size in JSON: each is refused as an ordinary one over the maximum is, with field, value, maximum and unit."""

from __future__ import annotations

import json

import pytest

from cutor.model.errors import InvalidRequest
from cutor.model.limits import Policy
from cutor.model.request import parse_request, request_from
from cutor.model.request_checks import validate

OVER = "more than the maximum of 120000 milliseconds"
UNDER = "it must be from 1 to 120000 milliseconds"
FILES = json.dumps([{"name": "shell.nix", "content": ""}, {"name": "cutor-run.sh", "content": ""}])


def refusal(limits: str, more: str = "") -> str:
    """Return why a request with these limits is refused, whether it is read or checked."""
    document = f'{{"limits": {limits}, "files": {FILES}, "test_cases": [{{}}]{more}}}'
    with pytest.raises(InvalidRequest) as refused:
        validate(parse_request(document.encode()), Policy(), "made-up")
    return str(refused.value)


def of_wall_time(number: str) -> str:
    return refusal(f'{{"run": {{"wall_time_ms": {number}}}}}').removeprefix("limits.run.wall_time_ms is ")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("120001", "120001"),
        ("9" * 40, "9" * 40),
        ("1" + "0" * 40, "a number of 133 bits"),
        ("1" + "0" * 3000, "a number of 9966 bits"),
        ("1e400", "a number of 1329 bits"),
        ("1.5E+400", "a number of 1330 bits"),
        ("9" * 400 + ".5", "a number of 1329 bits"),
        ("0." + "0" * 600 + "1e1001", "a number of 1329 bits"),
        ("1" + "0" * 400 + "e0", "a number of 1329 bits"),
        ("9" * 700 + "e-300", "a number of 1329 bits"),
        ("9" * 4300, "a number of more than 10000 bits"),
        ("9" * 4301, "a number of more than 10000 bits"),
        ("9" * 1_000_000, "a number of more than 10000 bits"),
        ("1e4000", "a number of more than 10000 bits"),
        ("1e999999999999999999999", "a number of more than 10000 bits"),
        ("1e" + "9" * 5000, "a number of more than 10000 bits"),
    ],
    ids=lambda text: text[:30],
)
def test_a_limit_over_the_maximum_is_refused_with_it_however_large(number: str, value: str) -> None:
    assert of_wall_time(number) == f"{value}: {OVER}"
    negative = f"-{value}" if value.isdigit() else value.replace("a number", "a negative number")
    assert of_wall_time(f"-{number}") == f"{negative}: {UNDER}"


@pytest.mark.parametrize("number", ["1.5", "1e20", "1e308", "1e-999", "0e999999999", "1" * 400 + "e-300"])
def test_a_number_that_is_a_float_is_refused_as_one(number: str) -> None:
    assert of_wall_time(number) == "request: limits.run.wall_time_ms: Expected `int | null`, got `float`"


HUGE = '"wall_time_ms": 1e400'


@pytest.mark.parametrize(
    ("limits", "more", "said"),
    [
        (f'{{"run": {{{HUGE}, "wish": 1e400}}}}', "", "request: limits.run: Object contains unknown field `wish`"),
        (f'{{"walk": {{{HUGE}}}}}', "", "request: limits: Object contains unknown field `walk`"),
        (f'{{"run": {{{HUGE}, {HUGE}}}}}', "", "request: the key 'wall_time_ms' is twice in one object"),
        (f'{{"run": {{{HUGE}}}}}', ', "limits": {}', "request: the key 'limits' is twice in one object"),
        (f'{{"run": {{{HUGE}, "processes": "5"}}}}', "", "request: limits.run.processes: Expected `int | null`, got `str`"),
        (f'{{"run": {{{HUGE}, "processes": [1e400]}}}}', "", "request: limits.run.processes: Expected `int | null`"),
        (f'{{"run": {{{HUGE}}}, "compile": 5}}', "", "request: limits.compile: Expected `object`, got `int`"),
        (f'{{"run": {{{HUGE}}}}}', ', "id": 5', "request: id: Expected `str | null`, got `int`"),
        (f'{{"run": {{{HUGE}}}}}', ', "id": "\\x"', "request: JSON is malformed: "),
        (f'{{"run": {{{HUGE}}}}}', "}", "request: JSON is malformed: "),
        ("{}", ', "id": 1e400', "request: id: Number out of range"),
        ("1e400", "", "request: limits: Number out of range"),
    ],
)
def test_what_else_is_wrong_is_named_where_it_is(limits: str, more: str, said: str) -> None:
    assert refusal(limits, more).startswith(said)


def test_what_python_says_of_the_same_number_is_the_same() -> None:
    for number in (10**400, -(10**400), 10**5000):
        document = {"limits": {"run": {"wall_time_ms": number}}, "files": json.loads(FILES), "test_cases": [{}]}
        with pytest.raises(InvalidRequest) as refused:
            validate(request_from(document), Policy(), "made-up")
        text = f"{'-' * (number < 0)}1{'0' * (5000 if number > 10**400 else 400)}"
        assert str(refused.value).removeprefix("limits.run.wall_time_ms is ") == of_wall_time(text)
