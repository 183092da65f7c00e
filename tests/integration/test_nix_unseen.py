"""A build whose init looked at nothing while it ran, as on a busy machine: what it left unfinished goes all the same.

Unfinished is what Nix's database does not know, whatever it looks like: a builder may give its output the time that Nix gives
to what is finished, and Nix does so itself before it looks for what an output must not refer to.
"""

from __future__ import annotations

import secrets
from typing import Final

import pytest

from cutor.model.outcome import classify
from tests.nix_builds import Builds, look_seldom

FINISHED_TIME: Final = 'import os; os.utime(os.environ["out"], (1, 1), follow_symlinks=False)'
BAD_ENDS: Final = {
    "a file": ("{ }", "echo half > $out; exit 1"),
    "a directory that nobody may read": ("{ }", "mkdir $out; echo half > $out/file; chmod 000 $out; exit 1"),
    "a file with the time of what is finished": ("{ }", f"echo half > $out; $python/bin/python3 -c '{FINISHED_TIME}'; exit 1"),
    "what refers to what it must not": ("{ allowedReferences = [ ]; }", "mkdir $out; echo $python > $out/file"),
}  # fmt: skip


@pytest.mark.parametrize("end", BAD_ENDS)
async def test_what_a_failed_build_left_is_gone_though_nobody_saw_it(
    builds: Builds, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    look_seldom(monkeypatch, 3600)
    token = secrets.token_hex(4)
    attributes, script = BAD_ENDS[end]
    text = (
        "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ (pkgs.runCommand \"unseen-" + token
        + '" ({ python = pkgs.python3; } // ' + attributes + ") ''\n" + script + "\n'') ]; }"
    )  # fmt: skip
    failed = await builds.failed(text)
    assert classify(failed.report) == "RE", failed
    assert f"unseen-{token}" in failed.message, failed
    left = await builds.in_store(f"cd /nix/store; shopt -s nullglob; echo *-unseen-{token} *-unseen-{token}.drv.chroot")
    assert left == "\n"
