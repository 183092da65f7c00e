"""The page on set-up: what a machine has already is left alone."""

from __future__ import annotations

import os

from tests.docs.snippets import HOW_TO, run, script_of


def test_a_second_set_up_finds_everything(nix_set_up: None) -> None:
    done = run(script_of(HOW_TO / "set-up.md"), dict(os.environ))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "set-up is complete" in done.stdout + done.stderr
    assert "make purge" in done.stdout
