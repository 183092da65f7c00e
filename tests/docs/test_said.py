"""What a how-to says that cutor says, in its table of what to do when something fails, cutor says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.snippets import PAGES, ROOT

HEADING = "| what is said | what to do |\n|---|---|\n"
TABLES = {page: text.partition(HEADING)[2].partition("\n\n")[0] for page in PAGES if HEADING in (text := page.read_text())}
OF_OTHERS = {
    "No matching distribution found",  # pip
    "certificate verify failed",  # pip
    "variable reference for 'CUTOR_NATS_PASSWORD' … can not be found",  # nats-server
}
NAMES = {"cutor doctor"}
"""Commands, which say something else."""


def text_of_sources() -> str:
    """Return all that cutor may say: strings that go on in the next line of the source are one."""
    sources = [*(ROOT / "cutor").rglob("*.py"), *(ROOT / "deploy").glob("*.py")]
    text = "\n".join(source.read_text() for source in sources)
    return re.sub(r'"\n\s*f?"', "", text)


SOURCES = text_of_sources()


def test_the_tables_are_found() -> None:
    assert {page.stem for page in TABLES} >= {"own-nats", "set-up"}


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.stem)
def test_what_is_said_is_said(page: Path) -> None:
    rows = TABLES[page].splitlines()
    said = {one for row in rows for one in re.findall(r"`([^`]+)`", row.split(" | ")[0])} - OF_OTHERS - NAMES
    assert len(said) >= len(rows) - len(OF_OTHERS)
    parts = {part.strip() for one in said for part in one.split("…") if part.strip()}
    assert [part for part in sorted(parts) if part not in SOURCES] == []
