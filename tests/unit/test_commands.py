"""Commands that tests have forked do what the same commands do that an interpreter starts."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import commands
from tests.commands import run
from tests.live_stack import surroundings

NOWHERE = "nats://127.0.0.1:1"


def started(arguments: list[str], environment: dict[str, str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cutor", *arguments]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (["--version"], b"", 0),
        (["env", "--help"], b"", 0),
        ([], b"", 0),
        (["nonsense\udcff\x1b"], b"", 2),
        (["submit", "-"], b"\xff" * 300_000, 2),
        (["submit", "-", "--json"], b"{", 2),
        (["status", "x", "--server", NOWHERE], b"", 3),
        (["status", "x", "--server", NOWHERE, "--json"], b"read by nobody" * 10_000, 3),
        (["report", "more", "than", "it takes"], b"", 2),
    ],
)
def test_what_is_forked_ends_as_what_is_started(tmp_path: Path, arguments: list[str], stdin: bytes, code: int) -> None:
    environment = surroundings(tmp_path) | {"COLUMNS": "60"}
    forked = run(arguments, environment, stdin=stdin, timeout_s=120)
    assert forked.returncode == code, forked
    assert vars(forked) == vars(started(arguments, environment, stdin))


def test_each_has_its_own_environment(tmp_path: Path) -> None:
    for port in ("1", "2"):
        said = run(["status", "x"], surroundings(tmp_path) | {"CUTOR_SERVER": f"nats://127.0.0.1:{port}"}, timeout_s=120).stderr
        assert f"nats://127.0.0.1:{port}:".encode() in said
    assert b"127.0.0.1:2" not in run(["status", "x"], surroundings(tmp_path), timeout_s=120).stderr


def test_what_an_interpreter_reads_is_read_by_one(tmp_path: Path) -> None:
    done = run(["--version"], surroundings(tmp_path) | {"PYTHONVERBOSE": "1"}, timeout_s=120)
    assert b"import 'cutor'" in done.stderr


def test_a_command_that_does_not_end_is_killed_and_leaves_nothing_open(tmp_path: Path) -> None:
    run(["--version"], surroundings(tmp_path), timeout_s=120)
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(subprocess.TimeoutExpired):
        run(["streams", "apply", "--server", NOWHERE], surroundings(tmp_path), timeout_s=0)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_several_at_one_time_get_each_its_answer(tmp_path: Path) -> None:
    said: dict[int, bytes] = {}

    def ask(number: int) -> None:
        said[number] = run(["status", f"x/{number}*"], surroundings(tmp_path), timeout_s=120).stderr

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == list(range(12))
    assert all(f"id '{number}*'".encode() in line for number, line in said.items()), said


def test_a_command_whose_end_nobody_tells_is_none_that_went_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forks = commands._Forks()
    monkeypatch.setattr(commands, "_forks", lambda: forks)
    silent = socket.create_server(("127.0.0.1", 0))

    def kill_once_it_asks() -> None:
        with silent, silent.accept()[0]:
            forks._process.kill()
            forks._process.wait()

    killer = threading.Thread(target=kill_once_it_asks)
    killer.start()
    with pytest.raises(commands.ForksEnded):
        run(["status", "x", "--server", f"nats://127.0.0.1:{silent.getsockname()[1]}"], surroundings(tmp_path), timeout_s=120)
    killer.join()
