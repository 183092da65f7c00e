"""Pages that are made from code are those of today's code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_generated_pages_are_current() -> None:
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python docs/generate.py`: {done.stdout}{done.stderr}"


def test_every_outcome_stands_in_the_reference() -> None:
    from cutor.model.outcome import STAGE_OUTCOMES

    page = (ROOT / "docs/reference/request.md").read_text()
    missing = [name for name, text in STAGE_OUTCOMES.items() if f"| `{name}` | {text}" not in page]
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_is_linked_to_is_there(name: str) -> None:
    page = (ROOT / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link and not link.startswith("#")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_map_holds_every_part() -> None:
    """Each package and module of cutor, and each folder and file beside it that somebody would look for."""
    page = (ROOT / "CONTRIBUTING.md").read_text().partition("## A map")[2].partition("\n## ")[0]
    named = {link.removesuffix("/") for link in re.findall(r"\]\(([^)]+)\)", page)}
    parts = {
        f"cutor/{path.name}" for path in (ROOT / "cutor").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    parts -= {"cutor/__init__.py", "cutor/__main__.py"}
    assert named == parts | {"deploy", "docs", "examples", "streams.yaml", "tests"}


def test_make_docs_runs_both_generators() -> None:
    rules = (ROOT / "Makefile").read_text().partition("\ndocs:")[2].partition("\n\n")[0]
    assert "-m cutor.cli.reference" in rules
    assert "docs/generate.py" in rules
