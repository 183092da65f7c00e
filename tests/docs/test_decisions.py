"""The list of decisions has every page, in order, and says of every number without a page that there is none."""

from __future__ import annotations

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs/decisions"
PAGE = (DECISIONS / "README.md").read_text()
LISTED = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (?:\w+ \| )?\S.* \|$", PAGE, re.MULTILINE)


def test_the_list_has_every_page_in_order() -> None:
    assert [name for _, name in LISTED] == sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))


def test_a_number_is_that_of_its_page() -> None:
    heads = {number: (DECISIONS / name).read_text().partition("\n")[0] for number, name in LISTED}
    assert [number for number, head in heads.items() if not head.startswith(f"# {number}: ")] == []
    assert all(name.startswith(f"{number}-") for number, name in LISTED)


def test_numbers_without_a_page_are_named() -> None:
    """Up to this page's own day: later numbers may have been given to whoever is still writing."""
    [said] = re.findall(r"^There is no page (.*), and never was", PAGE, re.MULTILINE)
    assert {int(number) for number in re.findall(r"\d{4}", said)} == set(range(1, 62)) - {int(number) for number, _ in LISTED}
