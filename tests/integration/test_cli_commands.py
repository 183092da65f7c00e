"""Commands on a stack whose submissions stay queued: what they print, with and without ``--json``, and their exit codes."""

from __future__ import annotations

import json
import os
import pty
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bare_stack import SOURCES, User, one_line, request


@pytest.fixture
def queued(bare: User) -> str:
    """The id of a submission that waits for a builder."""
    submission_id = secrets.token_hex(8)
    assert bare.cutor("submit", "-", "--id", submission_id, stdin=request(labels={"a": "b"})).returncode == 0
    return submission_id


def test_submit_prints_the_id_and_nothing_else(bare: User) -> None:
    done = bare.cutor("submit", "-", stdin=request())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().isalnum()
    assert bare.cutor("status", done.stdout.strip()).returncode == 0


def test_submit_with_json_prints_one_document(bare: User) -> None:
    done = bare.cutor("submit", "-", "--id", "json-1", "--label", "course=c", "--json", stdin=request())
    document = json.loads(done.stdout)
    assert (document["id"], document["tenant"], document["status"]) == ("json-1", "default", "SUBMITTED")
    assert json.loads(bare.cutor("status", "json-1", "--json").stdout)["labels"] == {"course": "c"}


def test_submit_takes_a_directory_and_a_file(bare: User, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    for name, content in SOURCES.items():
        (box / name).write_text(content)
    (box / "data.bin").write_bytes(b"\xff\x00")
    (tmp_path / "request.json").write_bytes(request(id="from-a-file"))
    assert bare.cutor("submit", str(tmp_path / "request.json")).stdout == "from-a-file\n"
    submission_id = bare.cutor("submit", str(box)).stdout.strip()
    (submitted,) = json.loads(bare.cutor("events", submission_id, "--json").stdout)
    files = {file["name"]: file["content"] for file in submitted["event"]["request"]["files"]}
    assert set(files) == {*SOURCES, "data.bin"}
    assert files["data.bin"] == {"encoding": "base64", "data": "/wA="}


def test_waiting_too_long_is_exit_code_4_with_the_id(bare: User) -> None:
    started = time.monotonic()
    done = bare.cutor("submit", "-", "--id", "slow-1", "--wait", "--timeout", "0.3", stdin=request())
    assert "slow-1 has not ended within 0.3 s" in one_line(done, 4)
    assert time.monotonic() - started < 10
    assert json.loads(bare.cutor("status", "slow-1", "--json").stdout)["status"] == "SUBMITTED"


def test_waiting_too_long_with_json_is_a_document_with_the_id(bare: User) -> None:
    done = bare.cutor("submit", "-", "--id", "slow-2", "--wait", "--timeout", "0.1", "--json", stdin=request())
    one_line(done, 4)
    assert "slow-2" in json.loads(done.stdout)["error"]["message"]


def test_ctrl_c_leaves_the_submission_running_and_prints_its_id(bare: User) -> None:
    command = [sys.executable, "-m", "cutor", "submit", "-", "--id", "left", "--wait"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=bare.stack.environment, **pipes) as waiting:  # type: ignore[call-overload]
        waiting.stdin.write(request())
        waiting.stdin.close()
        deadline = time.monotonic() + 20
        while bare.cutor("status", "left").returncode != 0:
            assert time.monotonic() < deadline
        time.sleep(0.3)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(10) == 130
        assert waiting.stderr.read() == b"cutor: left goes on: `cutor watch left` follows it\n"
        assert waiting.stdout.read() == b""
    assert json.loads(bare.cutor("status", "left", "--json").stdout)["status"] == "SUBMITTED"


def test_a_terminal_shows_progress_while_waiting(bare: User) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "cutor", "submit", "-", "--id", "seen", "--wait", "--timeout", "1"]
    with subprocess.Popen(
        command, env=bare.stack.environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=slave
    ) as waiting:
        os.close(slave)
        assert waiting.stdin is not None
        waiting.stdin.write(request())
        waiting.stdin.close()
        shown = read_until(master, b"waiting for a builder")
        assert waiting.wait(20) == 4
    os.close(master)
    assert b"seen: waiting for a builder" in shown


def read_until(master: int, text: bytes) -> bytes:
    """Return what a terminal was sent until a text came, or nothing for ten seconds."""
    shown = b""
    while text not in shown and select.select([master], [], [], 10)[0]:
        shown += os.read(master, 4096)
    return shown


def test_status_shows_a_queued_submission(bare: User, queued: str) -> None:
    shown = bare.cutor("status", queued)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"default/{queued} SUBMITTED" in shown.stdout
    document = json.loads(bare.cutor("status", queued, "--json").stdout)
    assert document == {
        "id": queued,
        "tenant": "default",
        "status": "SUBMITTED",
        "outcome": None,
        "dependencies": None,
        "compile": None,
        "run": [],
        "environment": None,
        "attempts": {"builder": 0, "runner": 0},
        "caused_by": None,
        "labels": {"a": "b"},
        "submitted_at": document["submitted_at"],
        "finished_at": None,
        "cleaned_at": None,
        "message": None,
    }


def test_cancel_ends_a_queued_submission_and_then_nothing_more(bare: User, queued: str) -> None:
    assert json.loads(bare.cutor("cancel", queued, "--reason", "over", "--json").stdout)["cancelled"] is True
    again = bare.cutor("cancel", queued)
    assert (again.returncode, again.stdout) == (0, f"{queued} has ended already; nothing was changed\n")
    shown = bare.cutor("status", queued)
    assert shown.returncode == 1
    assert f"default/{queued} CANCELLED" in shown.stdout
    assert "over" in shown.stdout
    assert [line["kind"] for line in json.loads(bare.cutor("events", queued, "--json").stdout)] == ["submitted", "cancelled"]


def test_watch_ends_with_the_submission(bare: User, queued: str) -> None:
    assert bare.cutor("cancel", queued).returncode == 0
    watched = bare.cutor("watch", queued)
    assert watched.returncode == 1
    assert [line.split()[1] for line in watched.stdout.splitlines()] == ["submitted", "cancelled"]
    lines = [json.loads(line) for line in bare.cutor("watch", queued, "--json").stdout.splitlines()]
    assert [(line["kind"], line["ended"]) for line in lines] == [("submitted", False), ("cancelled", True)]


def test_events_have_sequence_time_and_kind(bare: User, queued: str) -> None:
    (line,) = json.loads(bare.cutor("events", queued, "--json").stdout)
    assert (line["kind"], line["id"], line["tenant"]) == ("submitted", queued, "default")
    assert line["sequence"] > 0
    assert line["time"].endswith("Z")
    assert line["event"]["kind"] == "submitted"
    shown = bare.cutor("events", queued).stdout
    assert str(line["sequence"]) in shown
    assert line["time"] in shown


def test_the_newest_events_of_all(bare: User, queued: str) -> None:
    assert bare.cutor("cancel", queued).returncode == 0
    lines = json.loads(bare.cutor("events", "--last", "2", "--json").stdout)
    assert [(line["id"], line["kind"]) for line in lines] == [(queued, "submitted"), (queued, "cancelled")]
    assert lines[1]["sequence"] == lines[0]["sequence"] + 1


def test_control_characters_of_users_do_not_reach_the_terminal(bare: User, queued: str) -> None:
    assert bare.cutor("cancel", queued, "--reason", "\x1b[2J\x07wiped").returncode == 0
    for command in ("status", "watch", "events"):
        shown = bare.cutor(command, queued).stdout
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert "\\x1b[2J\\x07wiped" in shown
    assert json.loads(bare.cutor("status", queued, "--json").stdout)["message"] == "\x1b[2J\x07wiped"


def test_a_reader_that_leaves_early_is_no_error(bare: User, queued: str) -> None:
    command = f"{sys.executable} -m cutor events --last 1000 --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=bare.stack.environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_doctor_reports_on_every_piece(bare: User) -> None:
    done = bare.cutor("doctor", "--json", "--config", str(bare.home / "config.toml"))
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert {what for what, finding in findings.items() if finding["verdict"] == "fail"} == {"projector"}
    assert done.returncode == 3
    for what in (
        "python",
        "nats-server",
        "control groups",
        "configuration",
        "docker",
        "child image",
        "nix",
        "server",
        "limits",
    ):
        assert findings[what]["verdict"] == "ok", findings[what]


def test_doctor_without_docker_fails_with_what_to_do(bare: User) -> None:
    done = bare.cutor("doctor", DOCKER_HOST="unix:///no/such.sock")
    assert done.returncode == 3
    assert "FAIL  docker" in done.stdout
    assert "make setup" in done.stdout


def test_doctor_without_a_stack_only_warns(user: User) -> None:
    done = user.cutor("doctor")
    assert "warn  stack" in done.stdout
    assert "`cutor up`" in done.stdout


def test_doctor_with_a_bad_configuration_names_it(user: User) -> None:
    (user.home / "c.toml").write_text("wish = 1")
    done = user.cutor("doctor", "--config", str(user.home / "c.toml"))
    assert done.returncode == 3
    assert "unknown key `wish`" in done.stdout
