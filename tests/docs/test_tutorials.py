"""The tutorials are followed to the letter, each by a new user with a stack of his own, and print what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_a_program_of_a_tutorial_is_a_file_that_is_run() -> None:
    programs = {path.read_text() for path in (ROOT / "examples").glob("*/*.py")}
    assert [one.text for page in TUTORIALS for one in fences(page) if one.kind == "python" and one.text not in programs] == []


def test_there_are_tutorials() -> None:
    assert {page.stem for page in SESSIONS} >= {"first-submission", "online-judge", "recorded"}
