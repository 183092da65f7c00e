"""The glossary has the words of the code: every event, status, kind of stage, role and stream, and none that is gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from cutor.bus.topology import default_text
from cutor.bus.topology_file import parse
from cutor.metrics.table import EVERY
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import KINDS, TERMINAL_KINDS
from cutor.model.limits import STAGE_KINDS
from cutor.model.state import TERMINAL, Status

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/glossary.md").read_text()


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


class Unused(NamedTuple):
    """A word that the project does not use, the one to use instead, and the files in which it has another meaning."""

    word: str
    instead: str
    excepted: tuple[str, ...] = ()
    plural: str = "(e?s)?"

    def found_in(self, text: str) -> bool:
        return re.search(rf"\b{self.word}{self.plural}\b", text, re.IGNORECASE) is not None


def unused() -> list[Unused]:
    table = PAGE.partition("## Words that are not used")[2]
    rows = re.findall(r"^\| (\w+)( \(singular\))? \| (.+?) \| (.*?)\| .*\|$", table, re.MULTILINE)
    return [
        Unused(word, instead, tuple(re.findall(r"`([^`]+)`", files)), "" if singular else "(e?s)?")
        for word, singular, instead, files in rows
        if word != "not"
    ]


@cache
def texts() -> dict[str, str]:
    """Return what is looked at by its file: pages without their links and commands, and the names that modules define."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    found = {str(path.relative_to(ROOT)): prose(path.read_text()) for path in pages if "decisions" not in path.parts}
    return found | {str(path.relative_to(ROOT)): names(path) for path in (ROOT / "cutor").rglob("*.py")}


def prose(page: str) -> str:
    page = page.partition("## Words that are not used")[0]
    return re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", page, flags=re.DOTALL)


def names(module: Path) -> str:
    """Return the words of every name that a module defines or uses as its own: functions, classes, arguments, variables."""
    tree = ast.walk(ast.parse(module.read_text()))
    found = [module.stem, *(name for node in tree for name in defined(node))]
    return " ".join(word for name in found for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))


def defined(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name):
            yield name
        case ast.arg(arg=name):
            yield name
        case _:
            return


@pytest.mark.parametrize("word", unused(), ids=lambda word: word.word)
def test_a_word_that_is_not_used_is_nowhere(word: Unused) -> None:
    found = {file for file, text in texts().items() if word.found_in(text)}
    ours = {file for file in found if not any(fnmatch(file, pattern) for pattern in word.excepted)}
    assert ours == set(), f"say {word.instead} instead of {word.word}, or except the file in docs/glossary.md"
    idle = {pattern for pattern in word.excepted if not any(fnmatch(file, pattern) for file in found)}
    assert idle == set(), f"nothing there has {word.word}"


def test_there_are_words_that_are_not_used() -> None:
    assert len(unused()) > 15


def test_a_word_is_found_in_prose_and_in_names(tmp_path: Path) -> None:
    module = tmp_path / "some_module.py"
    module.write_text("class SandboxMade:\n    def begin(self, verdict):\n        QUOTA_S = verdict.phase\n")
    said = ["some", "module", "sandbox", "made", "begin", "self", "verdict", "quota", "s", "verdict"]
    assert sorted(names(module).lower().split()) == sorted(said)
    assert Unused("sandbox", "jail").found_in(prose("Two Sandboxes.")) is True
    assert Unused("sandbox", "jail").found_in(prose("`sandbox`, [it](sandbox.md)\n```sh\nsandbox\n```")) is False
