"""Credits and comparison: every package that cutor needs is named with its licence, and our own figures are those measured."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

from tests.docs.snippets import ROOT

CREDITS = (ROOT / "docs" / "credits.md").read_text()
COMPARISON = (ROOT / "docs" / "explanation" / "comparison.md").read_text()
PERFORMANCE = (ROOT / "docs" / "explanation" / "performance.md").read_text()
FAMILIES = ("Apache", "BSD", "MIT")


def needed() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[<>=]", name)[0].lower() for name in project["dependencies"]}


def credited() -> dict[str, str]:
    """The licence of each package by its name, as the page has them."""
    table = CREDITS.partition("| package | for | licence |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name.strip(): licence for names, _, licence in rows for name in names.split(",")}


def families(package: str) -> set[str]:
    """What a package's metadata say of its licence, in the coarse words of all forms that this takes."""
    metadata = importlib.metadata.metadata(package)
    said = [
        metadata["License-Expression"] or "",
        *[one for one in metadata.get_all("Classifier", []) if one.startswith("License")],
    ]
    text = " ".join(said) if any(said) else metadata["License"]
    return {family for family in FAMILIES if family in text}


def test_every_package_that_is_needed_is_credited_with_its_licence() -> None:
    page = credited()
    assert set(page) == needed()
    for package, licence in page.items():
        assert {family for family in FAMILIES if family in licence} == families(package), package


def test_the_figures_of_the_comparison_are_those_measured() -> None:
    [median] = re.findall(r"p50 \| at most 40 ms \| ([\d.]+)", PERFORMANCE)
    [own] = re.findall(r"cutor's own of that \| at most 15 ms \| ([\d.]+)", PERFORMANCE)
    [rate] = re.findall(r"a container for each \| at least 8 \| ([\d.]+)", PERFORMANCE)
    reused = re.findall(r"^\| cutor, a second \|(.+)\|$", PERFORMANCE, re.MULTILINE)[1]
    best = max(float(cell) for cell in reused.split("|"))
    text = " ".join(COMPARISON.split())
    shown = re.search(r"take (\d+) ms or less, (\d+) of them cutor's own; (\d+) are done [^.]*, (\d+) with containers", text)
    assert shown, "the sentence is another one"
    assert [int(one) for one in shown.groups()] == [round(float(median)), round(float(own)), round(float(rate)), round(best)]


def test_every_source_says_which_commit_was_read() -> None:
    sources = COMPARISON.partition("## Sources")[2]
    for project in ("engineer-man/piston", "judge0/judge0", "Defelo/sandkasten", "criyle/go-judge"):
        assert re.search(rf"`{project}` at `[0-9a-f]{{7}}` \(\d+ \w+ 20\d\d\)", sources), project
