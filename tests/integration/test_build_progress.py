"""What Nix prints while an environment is built reaches who waits: on a terminal as text alone, in Python as pieces."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.subscription import Notices
from cutor.client.client import Client, Update
from cutor.journal.build_progress import INTERVAL_S, telling
from cutor.model.build_progress import PIECE_CHARACTERS, BuildProgress, decode_progress
from cutor.model.subjects import Address, progress_subject
from tests.live_stack import Stack
from tests.nats_server import OwnServer
from tests.processes import SLEEP, sleepers, wake

SHELL: Final = """
{ pkgs ? import <nixpkgs> { } }:
builtins.trace "@CODES@traced-@" pkgs.mkShell {
  packages = [ (pkgs.runCommand "told-@" { } "sleep 1; echo first-@; sleep 1; echo last-@; mkdir $out") ];
}
"""
CODES: Final = "\x1b[31m\x1b]0;owned\x07\x1b[2J"
"""A colour, a title for the window, and a clear screen."""


def request(token: str) -> bytes:
    """Return a submission whose environment nobody has, and which prints while it is built."""
    text = SHELL.replace("@CODES@", CODES).replace("@", token)
    files = [{"name": "shell.nix", "content": text}, {"name": "cutor-run.sh", "content": "true"}]
    return json.dumps({"files": files, "test_cases": [{}]}).encode()


def on_terminal(
    stack: Stack, *arguments: str, stdin: bytes, at: bytes = b"", then: Callable[[], None] = lambda: None
) -> tuple[str, int]:
    """Run a command whose stdout and stderr are one terminal; return what it was sent, and the exit code.

    ``then`` is done from the moment on at which that holds what ``at`` says, as often as more comes.
    """
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "cutor", *arguments]
    with subprocess.Popen(command, env=stack.environment, stdin=subprocess.PIPE, stdout=slave, stderr=slave) as process:
        os.close(slave)
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        shown = b""
        try:
            while data := os.read(master, 1 << 16):
                shown += data
                if at in shown:
                    then()
        except OSError:  # EIO: the terminal has no other end any more
            pass
        code = process.wait(120)
    os.close(master)
    return shown.decode(), code


def test_waiting_shows_the_newest_line_of_nix_and_obeys_nothing(stack: Stack) -> None:
    token = secrets.token_hex(4)
    shown, code = on_terminal(stack, "submit", "-", "--wait", stdin=request(token))
    assert code == 0, shown
    assert re.search(rf": building the environment(, \d+ s)?: first-{token}", shown)
    assert f": building 'told-{token}.drv'" in shown, "without the hash, which takes half of a line"
    assert "\x07" not in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown


def test_watching_shows_every_line_of_nix_among_the_events(stack: Stack) -> None:
    token = secrets.token_hex(4)
    waits = request(token).replace(b"sleep 1; echo first", f"{SLEEP}; echo first".encode())
    assert stack.cutor("submit", "-", "--id", token, stdin=waits).returncode == 0
    deadline = time.monotonic() + 180
    while not sleepers(f"name=told-{token}"):
        assert time.monotonic() < deadline, "the builder did not begin"
        time.sleep(0.05)
    shown, code = on_terminal(stack, "watch", token, stdin=b"", at=b"leased", then=lambda: wake(f"name=told-{token}"))
    assert code == 0, shown
    lines = [re.sub(r"\x1b\[[0-9]*[mK]|\r", "", line) for line in shown.splitlines()]
    first, last = lines.index(f"    first-{token}"), lines.index(f"    last-{token}")
    (built,) = (number for number, line in enumerate(lines) if "  cache-built  " in line)
    assert first < last < built
    assert "\x1b[2J" not in shown


FAILS: Final = """
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell { packages = [ (pkgs.runCommand "fails-@" { } "for n in 1 2 3; do echo line-$n-@; sleep 0.5; done; exit 3") ]; }
"""


def test_what_a_terminal_was_shown_of_a_failed_build_is_not_shown_again(stack: Stack, tmp_path: Path) -> None:
    token = secrets.token_hex(4)
    (tmp_path / "shell.nix").write_text(FAILS.replace("@", token))
    shown, code = on_terminal(stack, "env", "build", str(tmp_path), stdin=b"")
    assert code == 1, shown
    for number in (1, 2, 3):
        assert shown.count(f"line-{number}-{token}") == 1, shown
    assert "dependencies: error: Cannot build" in shown
    assert "stderr:" not in shown
    assert "For full logs" not in shown
    assert "-l /nix/store/" not in shown
    done = stack.cutor("env", "build", str(tmp_path))
    printed = done.stdout.decode()
    assert done.returncode == 1
    assert [printed.count(f"line-{number}-{token}") for number in (1, 2, 3)] == [1, 1, 1], printed
    assert "builder failed with exit code 3" in printed
    assert "For full logs" not in printed


def test_what_is_no_terminal_gets_nothing_of_it(stack: Stack) -> None:
    token = secrets.token_hex(4)
    done = stack.cutor("submit", "-", "--wait", "--json", stdin=request(token))
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["outcome"] == "OK"


async def test_what_is_printed_fast_is_told_in_a_few_pieces_that_end_with_the_newest(own_bus: Bus) -> None:
    address = Address("default", "fast")
    heard: list[BuildProgress] = []
    loop = asyncio.get_running_loop()
    async with own_bus.subscribe(progress_subject(address)) as notices:
        listening = asyncio.create_task(_collect(notices, heard))
        began = loop.time()
        async with telling(own_bus, address, 3) as tell:
            for number in range(3000):
                tell(f"line {number:05} {'x' * 100}\n".encode())
                await asyncio.sleep(0)
            await asyncio.sleep(2.5 * INTERVAL_S)
            tell(b"the end\n")
        took_s = loop.time() - began
        async with asyncio.timeout(180):
            while not heard or not heard[-1].text.endswith("the end\n"):
                await asyncio.sleep(0.02)
        listening.cancel()
    assert len(heard) <= took_s / INTERVAL_S + 2
    assert all(one.lease == 3 and len(one.text) <= PIECE_CHARACTERS for one in heard)
    numbers = [int(number) for one in heard for number in re.findall(r"(?m)^line (\d{5}) x{100}$", one.text)]
    assert numbers == sorted(set(numbers)), "in order, each line once, none cut"
    assert numbers[-1] == 2999
    assert any(one.left_out for one in heard)


async def _collect(notices: Notices, heard: list[BuildProgress]) -> None:
    async for notice in notices:
        piece = decode_progress(notice.body)
        assert piece is not None
        heard.append(piece)


async def test_without_a_server_nothing_is_told_and_nothing_fails(own_server: OwnServer) -> None:
    async with Bus.connect(own_server.url, name="test") as bus:
        await own_server.kill()
        async with asyncio.timeout(180):
            while bus.connected:
                await asyncio.sleep(0.02)
            async with telling(bus, Address("default", "away"), 1) as tell:
                for _ in range(100):
                    tell(b"x" * 10_000)
                    await asyncio.sleep(0)


async def test_a_program_follows_both(stack: Stack) -> None:
    token = secrets.token_hex(4)
    async with Client(stack.server) as client:
        await client.submit(json.loads(request(token)), id=token)
        news = [one async for one in client.follow(token)]
    printed = "".join(one.text for one in news if isinstance(one, BuildProgress))
    assert f"first-{token}\n" in printed
    kinds = [one.kind for one in news if isinstance(one, Update)]
    assert kinds[0] == "submitted"
    assert kinds[-1] == "finished"
    built = next(number for number, one in enumerate(news) if isinstance(one, Update) and one.kind == "cache-built")
    assert not any(isinstance(one, BuildProgress) for one in news[built:])
    assert {one.lease for one in news if isinstance(one, BuildProgress)} == {1}
