"""What is to be tried, by which attacks, and the reference page of it."""

from __future__ import annotations

import pytest

from tests.attacks.campaign import load_attacks
from tests.attacks.coverage import load_coverage, missing, page

ATTACKS = load_attacks()
ROWS = [row for listing in load_coverage() for row in listing.row]


def test_every_name_of_a_row_is_there() -> None:
    assert [(row.what, name) for row in ROWS for name in row.tried if missing(name, ATTACKS)] == []


def test_every_row_is_tried_and_no_two_are_the_same() -> None:
    assert [row.what for row in ROWS if not row.tried] == []
    assert len({row.what for row in ROWS}) == len(ROWS)


def test_every_attack_is_in_a_row() -> None:
    tried = {name for row in ROWS for name in row.tried}
    assert [attack.name for attack in ATTACKS if attack.name not in tried] == []


@pytest.mark.parametrize(
    ("name", "is_missing"),
    [
        ("kernel/mount.c", False),
        ("kernel/nothing.c", True),
        ("tests/unit/test_attacks_coverage.py", False),
        ("tests/unit/test_nothing.py", True),
    ],
)
def test_what_is_missing_is_found(name: str, is_missing: bool) -> None:
    assert missing(name, ATTACKS) is is_missing


def test_the_page_holds_every_row_and_every_attack_and_no_table_is_broken() -> None:
    lines = page(ATTACKS).splitlines()
    for attack in ATTACKS:
        assert any(line.startswith(f"| [{attack.name}](") and attack.what in line for line in lines), attack.name
    assert all(any(line.startswith(f"| {row.what} |") for line in lines) for row in ROWS)
    assert {line.count("|") for line in lines if line.startswith("| [")} == {4}
