"""The tutorials are followed to the letter, each by a new user with a stack of his own, and print what they show."""

from __future__ import annotations

import asyncio
import runpy
import sys
from collections import Counter
from math import comb
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cutor
from tests.docs.record import user
from tests.docs.snippets import ROOT, TUTORIALS, fences
from tests.docs.transcripts import blocks, differences, play, text_of

SESSIONS = [page for page in TUTORIALS if blocks(text_of(page))]


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    session = blocks(text_of(page))
    found = differences(session, play(session, user(tmp_path)))
    assert not found, "`make record` shows the page as it prints today\n\n" + "\n".join(found)


JUDGE = ROOT / "examples" / "judge" / "judge.py"


def test_the_judge_is_shown_as_it_is_run() -> None:
    [program] = [one.text for page in TUTORIALS for one in fences(page) if page.stem == "online-judge" and one.kind == "python"]
    assert program == JUDGE.read_text()
    assert len(program.splitlines()) <= 50


class Crowd:
    """A client whose submissions take a moment: counts how many there are, and how many are on their way at one time."""

    def __init__(self) -> None:
        self.handed_in = self.on_their_way = self.most_at_once = 0

    async def __aenter__(self) -> Crowd:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        pass

    async def submit(self, request: dict[str, Any]) -> SimpleNamespace:
        assert request["test_cases"]
        self.handed_in += 1
        self.on_their_way += 1
        self.most_at_once = max(self.most_at_once, self.on_their_way)
        await asyncio.sleep(0)
        return SimpleNamespace(id=str(self.handed_in))

    async def result(self, _id: str, *, wait: bool) -> SimpleNamespace:
        assert wait
        await asyncio.sleep(0)
        self.on_their_way -= 1
        return SimpleNamespace(outcome="OK", run=[SimpleNamespace(outcome="OK")])


@pytest.mark.parametrize("name", ["judge/judge.py", "evaluate/evaluate.py"])
def test_a_program_of_a_tutorial_hands_in_a_bounded_number_at_one_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, many, crowd = ROOT / "examples" / name, tmp_path / "candidates.jsonl", Crowd()
    many.write_text('{"model": "m", "problem": "vowels", "sample": 0, "program": ""}\n' * 200)
    arguments = {"judge.py": [str(program.parent / "solutions" / "ada" / "sum.c")] * 200, "evaluate.py": [str(many)]}
    monkeypatch.setattr(sys, "argv", [name, *arguments[program.name]])
    monkeypatch.setattr(cutor, "Client", lambda: crowd)
    runpy.run_path(str(program))
    assert (crowd.handed_in, crowd.on_their_way, crowd.most_at_once) == (200, 0, 16)
    said = capsys.readouterr().out
    assert said.startswith("200 programs in ") if program.name == "evaluate.py" else said.count(" AC\n") == 200


def test_a_program_of_a_tutorial_is_a_file_that_is_run() -> None:
    files = {path.read_text() for path in (ROOT / "examples").glob("*/*.*") if path.suffix in {".py", ".sql"}}
    shown = [one.text for page in TUTORIALS for one in fences(page) if one.kind in {"python", "sql"}]
    assert len(shown) == 3
    assert [text for text in shown if text not in files] == []


EVALUATE = ROOT / "docs" / "tutorial" / "evaluate-programs.md"
OUTCOMES = {"right": "OK", "wrong": "WA", "crash": "RE", "slow": "TLE_CPU", "endless": "TLE_CPU", "loud": "OLE"}


def candidates() -> list[tuple[str, str, str]]:
    """Return model, problem and kind of every candidate of the evaluation."""
    made = runpy.run_path(str(ROOT / "examples" / "evaluate" / "make_candidates.py"))["candidates"]()
    return [(model, problem, kind) for model, problem, _, kind in made]


def shown_rows(words: str) -> list[list[str]]:
    """Return the rows of the table that the page shows below the commands in which these words are."""
    [table] = [block.shown or "" for block in blocks(text_of(EVALUATE)) if words in block.commands]
    return [line.split() for line in table.splitlines()[2:-1]]


def test_the_outcomes_that_the_evaluation_shows_are_those_of_its_candidates() -> None:
    counted = Counter((model, OUTCOMES[kind]) for model, _, kind in candidates())
    assert counted.total() == 100
    assert shown_rows("test_cases.outcome") == [[*who, str(count)] for who, count in sorted(counted.items())]


def test_a_re_judging_gives_the_slow_ones_their_time() -> None:
    after = {"slow": "OK", "endless": "RUN_ERROR"}
    counted = Counter((model, "RUN_ERROR", after[kind]) for model, _, kind in candidates() if kind in after)
    assert shown_rows("FROM rejudgements") == [[*what, str(count)] for what, count in sorted(counted.items())]


def test_pass_at_k_is_the_chance_that_one_of_k_samples_is_right() -> None:
    right = Counter((model, problem) for model, problem, kind in candidates() if kind == "right")
    problems = {problem for _, problem, _ in candidates()}
    rows = []
    for model in ("brook", "river"):
        chances = [[1 - comb(10 - right[model, problem], k) / comb(10, k) for problem in problems] for k in (1, 3)]
        solved = sum(right[model, problem] for problem in problems)
        rows.append([model, "50", str(solved), *(f"{sum(chance) / len(problems):.3f}".rstrip("0") for chance in chances)])
    assert shown_rows("passes.sql") == rows


def test_there_are_tutorials() -> None:
    assert {page.stem for page in SESSIONS} >= {"first-submission", "online-judge", "evaluate-programs", "recorded"}
