"""The glossary has the words of the code: every event, status, kind of stage, role and stream, and none that is gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from cutor.bus.topology import default_text
from cutor.bus.topology_file import parse
from cutor.metrics.table import EVERY
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import KINDS, TERMINAL_KINDS
from cutor.model.limits import STAGE_KINDS
from cutor.model.state import TERMINAL, Status

PAGE = (Path(__file__).parents[2] / "docs/glossary.md").read_text()


def said(term: str) -> str:
    """Return what the glossary says of a term."""
    [text] = re.findall(rf"^### {re.escape(term)}\n\n(.*?)(?=\n##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def rows(term: str) -> list[str]:
    """Return the words in the first column of a term's tables."""
    return re.findall(r"^\| `([^`]+)` \|", said(term), re.MULTILINE)


def test_events_are_those_of_the_code() -> None:
    tags = [str(event.__struct_config__.tag) for event in get_args(EnvironmentEvent)]
    assert sorted(rows("event")) == sorted([*KINDS, *tags])
    assert set(re.findall(r"`([^`]+)`", said("terminal event"))) == TERMINAL_KINDS | {"cleaned"}


def test_statuses_are_those_of_the_code_with_the_terminal_ones_last() -> None:
    assert sorted(rows("status")) == sorted(get_args(Status))
    assert set(rows("status")[-len(TERMINAL) :]) == TERMINAL
    assert len(TERMINAL) == 4, "the page says the last four"


def test_stages_are_those_of_the_code() -> None:
    assert rows("stage") == list(STAGE_KINDS)


def test_roles_are_those_of_the_code() -> None:
    assert re.findall(r"`([^`]+)`", said("role")) == list(EVERY)
    assert all(said(role) for role in EVERY)


def test_streams_are_those_of_streams_yaml() -> None:
    names = {stream.name for stream in parse(default_text(), ["default"]).streams}
    assert set(re.findall(r"\b[A-Z]{5,}\b", said("stream"))) == names


def test_every_term_is_there_once() -> None:
    terms = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
    assert len(terms) > 90
    assert len(terms) == len(set(terms))
    assert all(said(term).strip() for term in terms)
