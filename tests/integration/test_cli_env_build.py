"""`cutor env build` and `env test` on a real stack: what they build, keep, print, and how they end."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.containers.engine import Engine
from cutor.journal.environments import Environments
from cutor.nix.settings import NixSettings
from tests.bare_stack import User, one_line
from tests.live_stack import EXAMPLES, Stack
from tests.stores import run_in_store

SHELL = """
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  packages = [
    pkgs.lua5_4
    (pkgs.runCommand "own" { } "mkdir -p $out/bin; printf '#!/bin/sh\\necho %s' > $out/bin/own; chmod +x $out/bin/own")
  ];
  inherit (import ./versions.nix) TOKEN;
  shellHook = ''export LINES_OF_TWO="one
  two"'';
}
"""


def course(directory: Path, token: str) -> Path:
    """Make a directory of a course: its environment imports a file, and nobody has it yet."""
    directory.mkdir()
    (directory / "shell.nix").write_text(SHELL.replace("%s", token))
    (directory / "versions.nix").write_text(f'{{ TOKEN = "{token}"; }}')
    (directory / "cutor-run.sh").write_text("echo $TOKEN; own")
    (directory / "submission.toml").write_text('environment_files = ["versions.nix"]\n')
    return directory


def document(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Return the one document that a command printed."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def plain(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def test_what_was_built_ahead_is_there_for_submissions(stack: Stack, tmp_path: Path) -> None:
    token = secrets.token_hex(4)
    directory = course(tmp_path / "course", token)
    settings = directory / "submission.toml"
    settings.write_text(f"{settings.read_text()}labels = {{ course = {token!r} }}\n")
    done = stack.cutor("env", "build", str(directory), "--pin", "--json")
    built = document(done)
    assert (done.returncode, built["outcome"], built["hit"]) == (0, "OK", False), done.stderr
    assert built["result"]["labels"] == {"course": token, "cutor": "env-build"}
    listed = json.loads(stack.cutor("env", "list", "--json").stdout)
    assert [one["given"]["labels"] for one in listed if one["key"] == built["key"]] == [built["result"]["labels"]]
    assert built["id"].startswith("env-build-")
    async with Bus.connect(stack.server, name="test") as bus:
        state = await Environments(bus).state(built["key"])
    assert state.pinned
    assert state.built is not None
    assert (built["closure_bytes"], built["closure_paths"]) == (state.built.closure_bytes, len(state.built.closure))
    result = stack.result(str(directory))
    assert result["environment"] == {"key": built["key"], "derivation": built["derivation"], "hit": True}
    assert result["run"][0]["stdout"]["data"] == f"{token}\n{token}\n"


def test_a_shell_nix_alone_names_what_it_imports(stack: Stack, tmp_path: Path) -> None:
    directory = course(tmp_path / "course", secrets.token_hex(4))
    (directory / "submission.toml").unlink()
    shell = str(directory / "shell.nix")
    without = stack.cutor("env", "build", shell)
    assert without.returncode == 1
    assert "DEPENDENCY_ERROR" in without.stdout.decode()
    assert "versions.nix" in without.stdout.decode()
    done = stack.cutor("env", "build", shell, "--environment-file", "versions.nix")
    assert done.returncode == 0, done.stdout
    words = [line.split()[0] for line in done.stdout.decode().splitlines()]
    assert words == ["environment", "derivation", "size", "built", "submission"]
    assert "\nbuilt       yes in " in done.stdout.decode()
    again = stack.cutor("env", "build", shell, "--environment-file", "versions.nix").stdout.decode()
    assert "\nbuilt       no, the environment was there already\n" in again


def test_trying_one_prints_what_it_gives_and_keeps_nothing(stack: Stack, tmp_path: Path) -> None:
    token = secrets.token_hex(4)
    directory = course(tmp_path / "course", token)
    done = stack.cutor("env", "test", str(directory), "--json")
    tried = document(done)
    assert (done.returncode, tried["outcome"], tried["hit"]) == (0, "OK", False), done.stderr
    report = tried["report"]
    assert report["whole"]
    assert report["variables"]["TOKEN"] == token
    assert report["variables"]["LINES_OF_TWO"] == "one\n  two"
    assert report["versions"]["lua"].startswith("Lua 5.4")
    assert [place["programs"] for place in report["path"] if place["package"] == "own"] == [["own"]]
    assert report["path"][0]["package"].startswith("bash-"), "PATH is in its order"
    assert not document(stack.cutor("env", "build", str(directory), "--json"))["hit"], "nothing was kept of it"


def test_people_read_it_as_tables(stack: Stack) -> None:
    done = stack.cutor("env", "test", str(EXAMPLES / "shell-hook"))
    shown = done.stdout.decode()
    assert done.returncode == 0, shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["bash", "GNU", "bash,", "version"] in [line[:4] for line in lines]
    assert ["POEM", "first", "line\\n", "second", "line,"] in [line[:5] for line in lines], "a line each, whatever is in it"
    assert any(line[:1] and line[0].startswith("coreutils-") and line[-1] == "more" for line in lines)
    everything = stack.cutor("env", "test", str(EXAMPLES / "shell-hook"), "--all").stdout.decode()
    assert " sha256sum" in everything
    assert " sha256sum" not in shown


def test_one_that_cannot_be_built_is_exit_code_1_with_the_reason(stack: Stack) -> None:
    for command in ("build", "test"):
        done = stack.cutor("env", command, str(EXAMPLES / "broken-shell"))
        assert done.returncode == 1
        assert "attribute 'no-such-package' missing" in done.stdout.decode()
        told = document(stack.cutor("env", command, str(EXAMPLES / "broken-shell"), "--json"))
        assert "key" not in told
        assert told["result"]["outcome"] == "DEPENDENCY_ERROR"


CHANGING = """
{ pkgs ? import <nixpkgs> { } }:
let made = pkgs.runCommand "made-@-${toString builtins.currentTime}" { } "mkdir $out"; in
pkgs.mkShell { TOKEN = "@"; MADE = made; }
"""
FAILING = """
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell { TOKEN = if builtins.currentTime > UNTIL then throw "too late" else "@"; }
"""
SLOW = """
{ pkgs ? import <nixpkgs> { } }:
let made = pkgs.runCommand "slow-@-${toString builtins.currentTime}" { }
  "mkdir $out; [ $(date +%s) -le UNTIL ] || sleep 300"; in
pkgs.mkShell { TOKEN = "@"; MADE = made; }
"""


async def roots_of(settings: NixSettings, key: str, name: str) -> list[str]:
    """Return what the store keeps for a key, of paths that are named so."""
    async with Engine.connect() as engine:
        listed = await run_in_store(engine, f"ls /nix/var/nix/gcroots/cutor/{key}", settings)
    return [root for root in listed.split() if name in root]


def test_refreshing_builds_anew_what_leads_elsewhere_by_now(stack: Stack, tmp_path: Path, nix_settings: NixSettings) -> None:
    token = secrets.token_hex(4)
    shell = tmp_path / "shell.nix"
    shell.write_text(CHANGING.replace("@", token))
    first = document(stack.cutor("env", "build", str(shell), "--json"))
    time.sleep(1.1)
    assert document(stack.cutor("env", "build", str(shell), "--json"))["derivation"] == first["derivation"], "a hit"
    done = stack.cutor("env", "refresh", first["key"][:10], "--json")
    second = document(done)
    assert (done.returncode, second["hit"]) == (0, False), done.stderr
    was = {"key": first["key"], "derivation": first["derivation"]}
    assert second["before"] == was | {"stands": False, "held": None}
    assert second["key"] == first["key"]
    assert second["derivation"] != first["derivation"]
    assert len(asyncio.run(roots_of(nix_settings, first["key"], f"made-{token}"))) == 1, "what it was is kept no more"
    assert document(stack.cutor("env", "build", str(shell), "--json"))["derivation"] == second["derivation"]


def built_in_time(stack: Stack, shell: Path, text: str) -> dict[str, Any]:
    """Build what can be built only until a time, soon where the machine allows that; it is over when this returns.

    What was too late for it is cancelled: else it would have its slot for minutes, and the next one none.
    """
    for margin_s in (4, 10, 30, 90, 180):
        until_s = int(time.time()) + margin_s
        shell.write_text(text.replace("@", secrets.token_hex(4)).replace("UNTIL", str(until_s)))
        done = stack.cutor("env", "build", str(shell), "--json", "--timeout", str(margin_s))
        if done.returncode == 0 and time.time() < until_s:
            while time.time() < until_s + 1.5:
                time.sleep(0.1)
            return document(done)
        for left in set(re.findall(r"env-build-[0-9a-f]+", done.stderr.decode())):
            stack.cutor("cancel", left)  # or it has ended meanwhile
    raise AssertionError(done)


def test_a_refresh_that_fails_or_is_not_waited_for_leaves_what_there_was(stack: Stack, tmp_path: Path) -> None:
    shell = tmp_path / "shell.nix"
    first = built_in_time(stack, shell, FAILING)
    done = stack.cutor("env", "refresh", first["key"], "--json")
    failed = document(done)
    assert (done.returncode, failed["result"]["outcome"]) == (1, "DEPENDENCY_ERROR"), done.stderr
    was = {"key": first["key"], "derivation": first["derivation"]}
    assert failed["before"] == was | {"stands": True, "held": None}
    again = document(stack.cutor("env", "build", str(shell), "--json"))
    assert (again["outcome"], again["hit"], again["derivation"]) == ("OK", True, first["derivation"])
    said = one_line(plain(stack.cutor("env", "refresh", first["key"], "--timeout", "0")), 4)
    assert cancelled(stack, said) == "CANCELLED"
    assert f"{first['key'][:12]} is what it was: submissions are given that" in said
    again = document(stack.cutor("env", "build", str(shell), "--json"))
    assert (again["outcome"], again["hit"]) == ("OK", True)


async def is_being_built(stack: Stack, key: str) -> bool:
    async with Bus.connect(stack.server, name="test") as bus:
        return (await Environments(bus).state(key)).building is not None


def cancelled(stack: Stack, said: str) -> str:
    """Return how the submission ended of which a refresh says that it is cancelled."""
    (submission_id,) = re.findall(r"(env-refresh-[0-9a-f]+) is cancelled; ", said)
    updates = [json.loads(line) for line in stack.cutor("watch", submission_id, "--json").stdout.splitlines()]
    assert "built" not in {update["kind"] for update in updates}, "it was not given the old one either"
    return str(updates[-1]["status"])


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_refresh_that_is_interrupted_says_what_stands_and_builds_no_more(
    stack: Stack, tmp_path: Path, ending: signal.Signals
) -> None:
    shell = tmp_path / "shell.nix"
    first = built_in_time(stack, shell, SLOW)
    command = [sys.executable, "-m", "cutor", "env", "refresh", first["key"]]
    with subprocess.Popen(
        command, env=stack.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as waiting:
        deadline = time.monotonic() + 180
        while not asyncio.run(is_being_built(stack, first["key"])):
            assert time.monotonic() < deadline
        waiting.send_signal(ending)
        assert waiting.wait(180) == 130
        assert waiting.stderr is not None
        said = waiting.stderr.read()
    assert cancelled(stack, said) == "CANCELLED"
    assert f"; {first['key'][:12]} is what it was: submissions are given that\n" in said
    again = document(stack.cutor("env", "build", str(shell), "--json"))
    assert (again["hit"], again["derivation"]) == (True, first["derivation"])


def test_refreshing_says_where_nothing_changed_and_what_it_cannot_refresh(stack: Stack, tmp_path: Path) -> None:
    directory = course(tmp_path / "course", secrets.token_hex(4))
    key = document(stack.cutor("env", "build", str(directory), "--json"))["key"]
    done = stack.cutor("env", "refresh", key)
    assert done.returncode == 0, done.stderr
    assert "\nbefore      the same derivation\n" in done.stdout.decode()
    said = one_line(plain(stack.cutor("env", "refresh", key, "--tenant", "nobody")), 2)
    assert "tenant 'nobody' is not declared; this stack has: default" in said
    assert stack.cutor("env", "refresh", key, "--tenant", "default").returncode == 0
    assert "no key of an environment" in one_line(plain(stack.cutor("env", "refresh", "xyz")), 2)
    assert "no environment has a key" in one_line(plain(stack.cutor("env", "refresh", "0" * 20)), 2)
    (directory / "versions.nix").write_text('{ TOKEN = "of one alone"; }')
    private = document(stack.cutor("env", "test", str(directory), "--json"))
    said = one_line(plain(stack.cutor("env", "refresh", private["key"])), 2)
    assert f"is of default/{private['id']} alone" in said


def test_bad_input_is_one_line(stack: Stack, tmp_path: Path) -> None:
    for arguments, said in (
        ([str(tmp_path)], "shell.nix: there is no such file"),
        ([str(tmp_path / "nowhere" / "shell.nix")], "no such file or directory"),
        ([""], "the path is empty"),
        ([str(EXAMPLES / "c-primes"), "--environment-file", "../x"], "has the segment '..'"),
        ([str(EXAMPLES / "c-primes"), "--tenant", "nobody"], "tenant"),
    ):
        for command in ("build", "test"):
            assert said in one_line(plain(stack.cutor("env", command, *arguments)), 2)


def test_waiting_too_long_and_ctrl_c_leave_it_going_on(bare: User) -> None:
    """On a stack without builders, where it goes on for ever."""
    source = str(EXAMPLES / "c-primes")
    done = bare.cutor("env", "build", source, "--timeout", "0.3")
    assert "has not ended within 0.3 s; it goes on: `cutor watch env-build-" in one_line(done, 4)
    command = [sys.executable, "-m", "cutor", "env", "test", source]
    with subprocess.Popen(command, env=bare.stack.environment, stderr=subprocess.PIPE, text=True) as waiting:
        deadline = time.monotonic() + 180
        while "env-test-" not in bare.cutor("events", "--last", "5").stdout:
            assert time.monotonic() < deadline
        time.sleep(3)  # for the server's answer, of which nobody else hears, to have come to it on a busy machine
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(180) == 130
        assert waiting.stderr is not None
        assert " goes on: `cutor watch env-test-" in waiting.stderr.read()
