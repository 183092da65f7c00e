"""The page on environments of one's own: each is built, tried and used, and the packages that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.snippets import HOW_TO, run, script_of
from tests.live_stack import Stack

PAGE = HOW_TO / "own-environment.md"


def test_its_environments_are_tried_used_and_built_ahead(stack: Stack, tmp_path: Path) -> None:
    done = run(f"cd '{tmp_path}'\n{script_of(PAGE)}", stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    for said in ("lua-5.4", "introduction, second year", "mean-1.0/lib", "words.txt"):
        assert said in done.stdout, (said, done.stdout)
    assert len(re.findall(r"^default/\w+ OK$", done.stdout, re.MULTILINE)) == 2, done.stdout
    assert done.stdout.count("pinned      yes") == 2, done.stdout


def test_every_package_that_it_names_is_there(stack: Stack, tmp_path: Path) -> None:
    table = PAGE.read_text().partition("| for | packages |")[2].partition("\n\n")[0]
    names = re.findall(r"`(\w+)`", table)
    assert len(names) >= 14
    (tmp_path / "shell.nix").write_text(
        f"{{ pkgs ? import <nixpkgs> {{ }} }}: with pkgs; mkShell {{ packages = [ {' '.join(names)} ]; }}"
    )
    done = run(f"cutor env test '{tmp_path}'", stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    for said in ("Python 3.11", "(Debian 12", "Lua 5.4", "v18."):
        assert said in done.stdout, (said, done.stdout)


def test_a_package_that_is_not_there_is_told_of_as_the_page_shows(stack: Stack) -> None:
    [shown] = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = run("cutor env test examples/broken-shell || test $? = 1", stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert shown in done.stdout + done.stderr
