"""Pages that are made from code are those of today's code."""

import subprocess
import sys
from pathlib import Path

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


def test_every_file_of_the_map_is_there() -> None:
    import re

    page = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
