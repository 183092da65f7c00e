"""The tutorials are followed to the letter, each by a new user with a stack of his own, and print what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.record import user
from tests.docs.snippets import TUTORIALS
from tests.docs.transcripts import blocks, differences, play, text_of

SESSIONS = [page for page in TUTORIALS if blocks(text_of(page))]


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    session = blocks(text_of(page))
    found = differences(session, play(session, user(tmp_path)))
    assert not found, "`make record` shows the page as it prints today\n\n" + "\n".join(found)


def test_there_are_tutorials() -> None:
    assert {page.stem for page in SESSIONS} >= {"first-submission", "recorded"}
