"""What set-up says while a program runs for long."""

import re
import sys
from pathlib import Path

import pytest

from cutor.setup.console import run, told
from deploy.environment import LOCK, Progress

PINS = b"a==1 \\\n    --hash=sha256:0\nb-c==2 \\\n    --hash=sha256:1\n"
WAITING = """
import os, sys, time
print("Collecting a", flush=True)
while os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("end")
"""


def test_progress_is_read_from_what_pip_prints() -> None:
    progress = Progress(PINS)
    assert str(progress) == "preparing"
    progress.hear(b"Collecting a==1 (from -r requirements.lock (line 1))\n")
    progress.hear(b"  Downloading a-1-py3-none-any.whl (1 kB)\n")
    assert str(progress) == "fetching package 1 of 2"
    progress.hear(b"Installing collected packages: b-c, a\n")
    assert str(progress) == "installing 2 packages"


def test_the_packages_of_the_lock_file_are_counted() -> None:
    progress = Progress(LOCK.read_bytes())
    progress.hear(b"Collecting x\n")
    assert int(str(progress).split()[-1]) > 20


async def test_lines_are_heard_while_the_program_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program ends only once its first line was heard: whoever hears it at the end waits for ever."""
    heard: list[bytes] = []
    waits = tmp_path / "waits"
    waits.touch()

    def hear(line: bytes) -> None:
        heard.append(line)
        waits.unlink(missing_ok=True)

    with told(lambda: f"heard {len(heard)}", every_s=0.001):
        assert await run([sys.executable, "-c", WAITING, waits], hear=hear) == b"Collecting a\nend\n"
    assert heard == [b"Collecting a\n", b"end\n"]
    assert re.search(r"s\]   heard [01] \.\.\. \d+ s\n", capsys.readouterr().out)
