"""The page on limits says what the code does: its numbers are the built-in ones, its lines those of doctor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cutor.cli.checks.limits import WALL_FACTOR, Machine, check_limits
from cutor.cli.limits_table import LIMIT_WORDS, shown_limits, value_text
from cutor.config import LIMIT_CEILINGS, Config
from cutor.containers.host_config import RunnerStorage
from cutor.jail.inside.layout import TMP_INODES
from cutor.model.limits import BOUND_CEILINGS, DEFAULT_LIMITS, HANDED_TEXT_BYTES, STAGE_KINDS, UNITS, Bounds, Policy
from cutor.model.request_checks import ARG_BYTES

PAGE = (Path(__file__).parents[2] / "docs/explanation/limits.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of a table by those of its first column; ``heading`` is how the table begins."""
    table = PAGE[PAGE.index(heading) :].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {first: rest for first, *rest in cells}


@pytest.mark.parametrize("name", [name for name in UNITS if name != "stderr_bytes"])
def test_a_default_in_the_page_is_the_built_in_one(name: str) -> None:
    word = "stdout, stderr" if name == "stdout_bytes" else LIMIT_WORDS[name]
    said = [cell.removesuffix(" each") for cell in rows("| | dependencies | compile | run | why |")[word][:3]]
    assert said == [value_text(name, getattr(getattr(DEFAULT_LIMITS, kind).default, name)) for kind in STAGE_KINDS]


def test_its_table_of_lines_is_what_doctor_prints() -> None:
    found = check_limits(shown_limits("configuration", Policy()), Config(), Machine(cpus=1, memory_bytes=1))
    assert [word.strip("`") for word in rows("| line | warns where |")] == [finding.what for finding in found]


def test_its_other_numbers_are_those_of_the_code() -> None:
    assert WALL_FACTOR == 2
    assert "**Wall time should be twice the CPU time at\nleast**" in PAGE
    assert RunnerStorage().box_inodes == TMP_INODES
    numbers = {int(number.replace(",", "")) for number in re.findall(r"\b\d{1,3}(?:,\d{3})+\b", PAGE)}
    assert numbers == {TMP_INODES, LIMIT_CEILINGS["open_files"], ARG_BYTES}
    for name, words in (("request_bytes", "of a request"), ("arg_bytes", "of arguments")):
        assert f"{value_text(name, BOUND_CEILINGS[name])} {words}" in PAGE
    assert f"{value_text('_bytes', HANDED_TEXT_BYTES)} as JSON" in PAGE
    assert f"{LIMIT_CEILINGS['processes'] // 1_000_000} million processes" in PAGE
    assert f"`bounds.submission_wall_time_ms`, {value_text('_ms', Bounds().submission_wall_time_ms)}:" in PAGE
