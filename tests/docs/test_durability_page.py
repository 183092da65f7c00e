"""The page on durability says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from cutor.bus.backup_manifest import ORDER
from cutor.bus.server_file import DEFAULT_SYNC
from cutor.cli.main import COMMANDS
from cutor.stack.settings import ServerSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/durability.md").read_text()


def test_the_order_of_a_backup_is_that_of_the_code() -> None:
    said = re.search(r"each \*before\* those that it refers to: ([A-Z,\s]+)\.", PAGE)
    assert said is not None
    assert re.split(r",\s+", said[1]) == list(ORDER)


def test_the_default_is_that_of_the_code() -> None:
    assert ServerSettings().sync_interval == DEFAULT_SYNC == "2m"
    assert "| what fails | embedded or single, `2m` |" in PAGE


def test_what_it_tells_to_run_is_there() -> None:
    said = {words[0] for words in (found.split() for found in re.findall(r"`cutor ([a-z][^`]*)`", PAGE))}
    assert {"up", "doctor", "status", "streams"} <= said
    assert said <= set(COMMANDS)


def test_its_files_are_there() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / "docs/explanation" / link).exists()] == []
    assert all((ROOT / name).exists() for name in re.findall(r"`(tests/[a-z_/]+\.py)`", PAGE))
