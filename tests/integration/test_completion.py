"""Completion in the shells that are here: each reads its script, and completes what is typed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.docs.snippets import ROOT
from tests.live_stack import surroundings

PATIENCE_S = 120.0
ESCAPES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
SHELLS = ("bash", "zsh", "fish")
TYPED = [("str", "streams"), ("up --det", "--detach"), ("projections re", "rebuild"), ("submit exam", "examples/")]


def environment(home: Path) -> dict[str, str]:
    path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    return surroundings(home) | {"HOME": str(home), "PATH": path, "TERM": "xterm"}


def script(shell: str, home: Path) -> str:
    command = ["cutor", "completion", shell]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, check=True).stdout


def here(shell: str) -> str:
    """Return the program, or skip: no shell but bash is needed by anything else."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not here: `apt install {shell}`")
    return program


def test_a_description_goes_on_behind_a_comma(tmp_path: Path) -> None:
    """What is completed has none; a description may. click's script for fish ends it there."""
    assert 'string split --max 1 "," $completion' in script("fish", tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_of_its_shell(shell: str, tmp_path: Path) -> None:
    program = here(shell)
    option = "--no-execute" if shell == "fish" else "-n"
    done = subprocess.run([program, option], input=script(shell, tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("typed", "completed"), TYPED)
def test_fish_completes(typed: str, completed: str, tmp_path: Path) -> None:
    text = f"{script('fish', tmp_path)}\ncomplete --do-complete 'cutor {typed}'\n"
    done = subprocess.run(
        [here("fish"), "--no-config"],
        input=text,
        env=environment(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert completed in [line.partition("\t")[0] for line in done.stdout.splitlines()]


def test_zsh_completes(tmp_path: Path) -> None:
    """At a terminal, as somebody types: only there zsh completes."""
    program = here("zsh")
    (tmp_path / "_cutor").write_text(script("zsh", tmp_path))
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execve(program, ["zsh", "-f", "-i"], environment(tmp_path))
    try:
        tell(terminal, f"autoload -U compinit; compinit -u -D; source {tmp_path}/_cutor; echo rea''dy\n", "ready")
        for typed, completed in TYPED:
            tell(terminal, f"\x15cutor {typed}\t", completed)
        tell(terminal, "\x15echo en''ded; exit\n", "ended")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def tell(terminal: int, text: str, expected: str) -> None:
    """Type something, and wait for what the shell shows of it."""
    os.write(terminal, text.encode())
    shown, end = "", time.monotonic() + PATIENCE_S
    while expected not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown = ESCAPES.sub("", shown + os.read(terminal, 65536).decode(errors="replace"))
