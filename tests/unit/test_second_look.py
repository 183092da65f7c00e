"""`make test` looks at a few failures again, and at nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_look import MOST

ROOT = Path(__file__).parents[2]
TESTS = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_one(number):
    with Path(f"{{number}}").open("a") as calls:
        calls.write("x")
    assert Path(f"{{number}}").read_text() in {passes}

def test_other():
    with Path("other").open("a") as calls:
        calls.write("x")
"""


@pytest.mark.parametrize(
    ("count", "passes", "status", "calls"),
    [(2, ["xx"], 0, "xx"), (MOST, ["xx"], 0, "xx"), (MOST + 1, ["xx"], 1, "x"), (2, [], 1, "xx")],
    ids=["a race", "the most", "one too many", "a fault"],
)
def test_few_failures_are_looked_at_again(tmp_path: Path, count: int, passes: list[str], status: int, calls: str) -> None:
    (tmp_path / "test_some.py").write_text(TESTS.format(count=count, passes=passes))
    assert run(tmp_path, "pytest", "-q").returncode == 1
    looked = run(tmp_path, "tests.second_look", "1")
    assert looked.returncode == status, looked.stdout
    assert [(tmp_path / f"{number}").read_text() for number in range(count)] == [calls] * count
    assert (tmp_path / "other").read_text() == "x"
    assert ("test_some.py::test_one[0]" in looked.stdout) is (calls == "xx")


@pytest.mark.parametrize("status", [2, 3, 4, 5, 130])
def test_a_run_that_was_no_run_keeps_its_status(tmp_path: Path, status: int) -> None:
    assert run(tmp_path, "tests.second_look", str(status)).returncode == status


def run(directory: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)
