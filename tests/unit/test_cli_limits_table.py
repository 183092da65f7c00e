"""Limits as doctor prints them: every limit, every stage, every bound, in units that people read."""

from __future__ import annotations

import json

import msgspec
import pytest
from rich.console import Console

from cutor.cli.checks.findings import ok
from cutor.cli.limits_table import BOUND_WORDS, LIMIT_WORDS, bound_rows, limit_rows, print_limits, shown_limits, value_text
from cutor.model.limits import DEFAULT_LIMITS, STAGE_KINDS, UNITS, Bounds, Policy
from cutor.model.units import span


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(0, "0 ms"), (1, "1 ms"), (999, "999 ms"), (1000, "1 s"), (1500, "1500 ms"), (90_000, "90 s"), (120_000, "2 min")],
)
def test_a_time_is_in_the_largest_unit_that_is_exact(milliseconds: int, said: str) -> None:
    assert span(milliseconds) == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("cpu_time_ms", 5000, "5 s"), ("memory_bytes", 256 << 20, "256 MiB"), ("open_files", 4096, "4096"), ("args", 1, "1")],
)
def test_a_value_has_the_unit_of_its_name(name: str, value: int, said: str) -> None:
    assert value_text(name, value) == said


def test_no_bound_is_left_out() -> None:
    assert tuple(BOUND_WORDS) == Bounds.__struct_fields__


def test_a_limit_is_default_and_maximum_of_each_stage() -> None:
    rows = {row[0]: row[1:] for row in limit_rows(DEFAULT_LIMITS)}
    assert rows["wall time"] == ["2 min / 10 min", "1 min / 5 min", "10 s / 2 min"]
    assert rows["memory"] == ["1 GiB / 4 GiB", "512 MiB / 2 GiB", "256 MiB / 2 GiB"]
    assert [*rows] == [*LIMIT_WORDS.values()]
    assert dict(map(tuple, bound_rows(Bounds(files=7))))["files of a request"] == "7"


@pytest.mark.parametrize(("source", "title"), [("stack", "the stack publishes"), ("configuration", "of the configuration")])
def test_both_tables_fit_80_columns_and_say_whose_they_are(source: str, title: str) -> None:
    out = Console(width=80, record=True, markup=False)
    print_limits(out, shown_limits(source, Policy()))  # type: ignore[arg-type]
    lines = out.export_text().splitlines()
    assert title in lines[1]
    rows = [line for line in lines if line.startswith((*LIMIT_WORDS.values(), *BOUND_WORDS.values()))]
    assert len(rows) == len(UNITS) + len(Bounds.__struct_fields__), "a row that was folded would be two"


def test_in_json_they_are_the_exact_numbers_in_the_one_finding_that_is_about_them() -> None:
    policy = Policy(bounds=Bounds(labels=3))
    document = json.loads(msgspec.json.encode([ok("limits", "…", shown_limits("stack", policy)), ok("other", "…")]))
    shown = document[0]["limits"]
    assert shown["source"] == "stack"
    assert shown["bounds"] == msgspec.to_builtins(policy.bounds)
    assert list(shown["stages"]) == list(STAGE_KINDS)
    assert shown["stages"]["run"]["maximum"]["wall_time_ms"] == 120_000
    assert "limits" not in document[1]
