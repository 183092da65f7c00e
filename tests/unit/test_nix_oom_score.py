"""Who the OOM killer takes first: a child of a process that may not write its file at every moment of its life."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cutor.nix.inside import daemon

REPOSITORY = Path(daemon.__file__).parents[3]
OF_NOBODY = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from cutor.nix.inside.daemon import goes_before
os.setuid(65534)  # such a process's child is root's until it is in its program
for _ in range(100):
    with subprocess.Popen(["/bin/sleep", "60"], env={}) as child:
        try:
            goes_before(child, 1000)
            with open(f"/proc/{child.pid}/oom_score_adj") as score:
                assert score.read() == "1000\\n"
        finally:
            child.kill()
with subprocess.Popen(["/bin/true"], env={}) as child:
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    goes_before(child, 1000)
print("all of them")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_on_its_way_into_its_program_and_one_that_has_ended_are_no_failures() -> None:
    command = [sys.executable, "-S", "-E", "-c", OF_NOBODY, str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "all of them\n"), done.stderr


def test_a_child_whose_file_stays_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, _text: str) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", closed)
    monkeypatch.setattr(daemon, "SCORE_SECONDS", 0.05)
    began = time.monotonic()
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        try:
            with pytest.raises(PermissionError):
                daemon.goes_before(child, 1000)
        finally:
            child.kill()
    assert time.monotonic() - began < 60
