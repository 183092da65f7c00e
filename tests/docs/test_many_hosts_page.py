"""The page on many hosts gives the chance of parking as it follows from the rule that `decide_step` has."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/how-to/many-hosts.md").read_text()


def chance_of_parking(hosts: int, max_leases: int) -> Fraction:
    """Of a submission with an environment that no host has: builders and runners of all hosts have the same chance each time.

    It is parked when its environment was lost more than `max_leases` times. `having` is how likely it is that so many
    hosts have the environment while the submission has neither run nor been parked.
    """
    having = {1: Fraction(1)}
    for _ in range(max_leases):
        lost = {count: chance * Fraction(hosts - count, hosts) for count, chance in having.items()}
        having = dict.fromkeys(range(1, hosts + 1), Fraction(0))
        for count, chance in lost.items():
            having[count] += chance * Fraction(count, hosts)
            having[min(count + 1, hosts)] += chance * Fraction(hosts - count, hosts)
    return sum((chance * Fraction(hosts - count, hosts) for count, chance in having.items()), Fraction(0))


def rows() -> list[tuple[int, int, str]]:
    """Every number of the table: hosts, `max_leases`, and what the page says in percent."""
    found = re.findall(r"^\| (\d+) \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", PAGE, re.MULTILINE)
    return [(int(hosts), leases, said) for hosts, *percents in found for leases, said in zip((3, 8, 16), percents, strict=True)]


def test_two_hosts_are_as_easy_as_they_look() -> None:
    assert chance_of_parking(1, 3) == 0
    assert chance_of_parking(2, 3) == Fraction(1, 128)
    assert chance_of_parking(2, 4) == Fraction(1, 512)


def test_the_table_is_there() -> None:
    assert len(rows()) == 15


@pytest.mark.parametrize(("hosts", "max_leases", "said"), rows())
def test_the_table_says_what_follows(hosts: int, max_leases: int, said: str) -> None:
    digits = len(said.partition(".")[2])
    assert f"{100 * float(chance_of_parking(hosts, max_leases)):.{digits}f}" == said
