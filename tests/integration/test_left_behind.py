"""A run of tests whose stacks leave a container fails, and says which."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child_image import IMAGE
from tests.conftest import LEFT_BEHIND
from tests.containers import left_in

ROOT = Path(__file__).parents[2]
LEAVES = f"""
import subprocess

def test_leaves(tmp_path):
    command = ["docker", "create", "--label", f"cutor.data={{tmp_path}}/data", "{IMAGE}", "true"]
    subprocess.run(command, check=True, capture_output=True)

def test_leaves_none():
    pass
"""


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    base = tmp_path / "base"
    yield base
    for line in left_in(base):
        subprocess.run(["docker", "rm", line.split()[0]], check=True, capture_output=True)


@pytest.mark.parametrize(("processes", "leaves"), [(0, True), (2, True), (0, False)])
def test_a_run_that_leaves_a_container_fails(tmp_path: Path, base: Path, processes: int, leaves: bool) -> None:
    (tmp_path / "test_some.py").write_text(LEAVES)
    chosen = [] if leaves else ["-k", "none"]
    command = ["-m", "pytest", "-p", "tests.conftest", f"--numprocesses={processes}", f"--basetemp={base}", *chosen]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == (LEFT_BEHIND if leaves else 0), done.stdout
    assert done.stdout.count("LEFT BEHIND: ") == len(left_in(base)) == int(leaves)
