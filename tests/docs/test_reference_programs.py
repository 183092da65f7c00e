"""Programs of the reference, and of the page on following events, are run as they stand, on a stack of their own."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.snippets import HOW_TO, ROOT, run, script_of, snippets
from tests.live_stack import Stack

FOLLOW = HOW_TO / "follow-events.md"
PYTHON_CLIENT = ROOT / "docs" / "reference" / "python-client.md"


def test_the_program_of_the_python_client(stack: Stack) -> None:
    [program] = snippets(PYTHON_CLIENT, "python")
    done = run('exec python -c "$PROGRAM"', stack.environment | {"PROGRAM": program.text})
    assert re.search(r"^\d+ finished FINISHED\nOK \[\d+, \d+\]\n\Z", done.stdout, re.MULTILINE), (done.stdout, done.stderr)


def test_events_are_followed_without_anything_of_cutor(stack: Stack, tmp_path: Path) -> None:
    follow, outputs = snippets(FOLLOW, "python")
    assert not [line for one in (follow, outputs) for line in one.text.splitlines() if re.match(r"(from|import) cutor", line)]
    (tmp_path / "follow.py").write_text(follow.text)
    (tmp_path / "outputs.py").write_text(outputs.text)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = run(f"cd {tmp_path}\n{script_of(FOLLOW)}", stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert re.search(r"^\d+ 20\d\d-\S+ default/followed OK$", done.stdout, re.MULTILINE), done.stdout
    assert (tmp_path / "large.txt").read_text() == "x" * 200_000 + "\n"
