"""The page on set-up: what a machine has already is left alone. What takes it away: test_howto_install.py."""

from __future__ import annotations

import os

from tests.docs.snippets import HOW_TO, run, snippets


def test_a_second_set_up_finds_everything(nix_set_up: None) -> None:
    done = run(snippets(HOW_TO / "set-up.md", "sh")[0].text, dict(os.environ))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "set-up is complete" in done.stdout + done.stderr
    assert "make purge" in done.stdout, "it is among the targets"
