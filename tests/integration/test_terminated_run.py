"""A test run that SIGTERM ends, as `timeout` does, ends its fixtures: what they started would go on in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST = """
import pathlib, time, pytest
HERE = pathlib.Path(__file__).parent

@pytest.fixture
def held():
    yield
    (HERE / "ended").touch()

def test_long(held):
    (HERE / "begun").touch()
    time.sleep(600)
"""


def test_sigterm_ends_the_fixtures_once(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_configure\n")
    (tmp_path / "test_long.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 180
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=180)[0]
    finally:
        run.kill()
    assert run.returncode == 2, said  # pytest's own code of an interrupted run
    assert (tmp_path / "ended").exists()
