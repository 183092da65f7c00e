"""Commands on a stack whose submissions stay queued: what they print, with and without ``--json``, and their exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
    done = bare.cutor("submit", "-", "--id", "slow-1", "--wait", "--timeout", "0.3", stdin=request())
    assert "slow-1 has not ended within 0.3 s" in one_line(done, 4)
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
        deadline = time.monotonic() + 180
        while bare.cutor("status", "left").returncode != 0:
            assert time.monotonic() < deadline
        time.sleep(3)  # for the server's answer, of which nobody else hears, to have come to it on a busy machine
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(180) == 130
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
        assert waiting.wait(180) == 4
    os.close(master)
    assert b"seen: waiting for a builder" in shown


def read_until(master: int, text: bytes) -> bytes:
    """Return what a terminal was sent until a text came, or nothing for a minute."""
    shown = b""
    while text not in shown and select.select([master], [], [], 60)[0]:
        shown += os.read(master, 4096)
    return shown


def test_status_shows_a_queued_submission(bare: User, queued: str) -> None:
    shown = bare.cutor("status", queued)
    assert (shown.returncode, shown.stderr) == (0, "")
    first, second, third = shown.stdout.splitlines()
    assert first == f"default/{queued} SUBMITTED: waiting for a builder"
    assert third == f"`cutor watch {queued}` tells what for, where it is room, another's build, or the cache"
    assert re.fullmatch(r"submitted \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, \d+ s ago", second)
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
    assert line["time"][11:23] in shown
    assert line["time"][:10] in shown


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


@pytest.mark.usefixtures("queued")
@pytest.mark.parametrize("piped", ["events --last 1000 --json | head -c 1", "doctor | head -1"])
def test_a_reader_that_leaves_early_is_no_error(bare: User, piped: str) -> None:
    command = f"{sys.executable} -m cutor {piped}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=bare.stack.environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "command", [["status"], ["status", "--json"], ["watch"], ["events"], ["events", "--json"]], ids=" ".join
)
def test_a_reader_that_has_left_before_the_first_byte_is_no_error(bare: User, queued: str, command: list[str]) -> None:
    assert bare.cutor("cancel", queued).returncode == 0
    read_end, write_end = os.pipe()
    os.close(read_end)
    whole = [sys.executable, "-m", "cutor", command[0], queued, *command[1:]]
    done = subprocess.run(whole, env=bare.stack.environment, stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_is_one_line(bare: User, queued: str, options: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        whole = [sys.executable, "-m", "cutor", "status", queued, *options]
        done = subprocess.run(whole, env=bare.stack.environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_events_fit_80_columns_and_only_what_they_say_folds(bare: User, queued: str) -> None:
    assert bare.cutor("cancel", queued, "--reason", "word " * 40).returncode == 0
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "cutor", "events", "--last", "2"]
    with subprocess.Popen(command, env=bare.stack.environment | {"COLUMNS": "80", "NO_COLOR": "1"}, stdout=slave) as listing:
        os.close(slave)
        shown = re.sub(r"\x1b\[[\d;]*m", "", read_until(master, b"cancelled").decode())
        assert listing.wait(180) == 0
    os.close(master)
    lines = shown.splitlines()
    assert all(len(line) <= 80 for line in lines)
    (line,) = [line for line in lines if "submitted" in line]
    assert re.search(rf"\d\d:\d\d:\d\d\.\d{{3}} +{queued} +submitted +2 files", line), line


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack of two tenants without roles, started with a configuration that its commands are not told of."""
    user = User(tmp_path_factory.mktemp("shared"))
    config = user.home / "shared.toml"
    config.write_text("[tenants]\ndefault = 1\nbatch = 1\n[bounds]\nfiles = 3\n")
    started = user.up("--config", str(config))
    assert started.returncode == 0, started.stderr
    try:
        for tenant in ("default", "batch", "batch"):
            assert user.cutor("submit", "-", "--tenant", tenant, stdin=request()).returncode == 0
        yield user
    finally:
        assert user.down().returncode == 0


def test_doctor_and_plan_hold_a_stack_against_the_configuration_that_it_was_started_with(shared: User) -> None:
    findings = {finding["what"]: finding for finding in json.loads(shared.cutor("doctor", "--json").stdout)}
    assert {findings[what]["verdict"] for what in ("configuration", "streams", "limits", "data directory")} == {"ok"}
    assert findings["configuration"]["detail"] == f"{shared.stack.data / 'config.toml'}, limits of 2 tenants"
    assert findings["data directory"]["detail"].startswith(f"{shared.stack.data}, ")
    assert shared.cutor("streams", "plan").stdout == "the server has streams and consumers as wanted\n"
    assert shared.cutor("streams", "apply", "--json").stdout == "[]\n"
    assert shared.cutor("submit", "-", "--tenant", "batch", stdin=request()).returncode == 0


def test_what_another_configuration_would_change_is_shown_with_its_units(shared: User) -> None:
    other = shared.home / "other.toml"
    other.write_text("[tenants]\ndefault = 1\nnew = 2\n[bounds]\nfiles = 3\n[limits.run.default]\nmemory_bytes = 67108864\n")
    said = "publish limits: limits.run.default.memory_bytes: 256 MiB → 64 MiB, tenants.batch: 1 → unset, tenants.new: unset → 2"
    for action in ("plan", "apply"):
        done = shared.cutor("streams", action, "--config", str(other))
        assert said in done.stdout
        assert "create consumer builder-new of stream EVENTS" in done.stdout
    assert "until they are started again" in done.stderr
    back = json.loads(shared.cutor("streams", "apply", "--json").stdout)
    assert [(one["change"], one["stream"]) for one in back] == [("publish", "STACK")]


def test_hints_name_the_tenant(shared: User) -> None:
    waited = shared.cutor("submit", "-", "--id", "b1", "--tenant", "batch", "--wait", "--timeout", "0.1", stdin=request())
    assert "`cutor watch b1 --tenant batch`" in one_line(waited, 4)
    whole = [sys.executable, "-m", "cutor", "watch", "b1", "--tenant", "batch"]
    with subprocess.Popen(whole, env=shared.stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert b"submitted" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(180) == 130
        assert watching.stderr.read() == b"cutor: b1 goes on: `cutor watch b1 --tenant batch` follows it\n"


def test_a_submission_is_named_as_it_is_shown(shared: User) -> None:
    said = shared.cutor("submit", "-", "--id", "batch/shown", "--json", stdin=request())
    assert (json.loads(said.stdout)["id"], json.loads(said.stdout)["tenant"]) == ("shown", "batch")
    shown = shared.cutor("status", "batch/shown").stdout.split()[0]
    assert shown == "batch/shown"
    assert json.loads(shared.cutor("events", shown, "--json").stdout)[0]["tenant"] == "batch"
    for command in (["status", shown], ["cancel", shown], ["events", shown], ["submit", "-", "--id", shown]):
        line = one_line(shared.cutor(*command, "--tenant", "default", stdin=request()), 2)
        assert line == "cutor: 'batch/shown' is of the tenant 'batch', and --tenant says 'default': leave one out\n"
    assert shared.cutor("cancel", shown, "--tenant", "batch").stdout == "shown is cancelled\n"
    assert shared.cutor("watch", shown).returncode == 1
    for action in ("show", "retry", "drop"):
        assert "shown is not parked" in one_line(shared.cutor("parked", action, shown), 2)
    refused = shared.cutor("parked", "drop", "batch/shown", "shown", "--tenant", "batch")
    assert refused.stderr.count("shown is not parked") == 1, "both names are of one submission"
    assert "id 'b/c'" in one_line(shared.cutor("status", "a/b/c"), 2)
    assert "tenant ''" in one_line(shared.cutor("status", "/shown"), 2)


def test_events_of_one_tenant(shared: User) -> None:
    everything = json.loads(shared.cutor("events", "--last", "1000", "--json").stdout)
    assert {line["tenant"] for line in everything} == {"default", "batch"}
    for last in ("1", "2", "1000"):
        listed = json.loads(shared.cutor("events", "--tenant", "batch", "--last", last, "--json").stdout)
        assert listed == [line for line in everything if line["tenant"] == "batch"][-int(last) :]
    assert json.loads(shared.cutor("events", "--tenant", "nobody", "--json").stdout) == []
    assert "tenant 'No Body'" in one_line(shared.cutor("events", "--tenant", "No Body"), 2)


def test_a_stack_that_has_died_is_called_dead(user: User) -> None:
    assert user.up().returncode == 0
    holder = json.loads((user.stack.data / "lock").read_text())["pid"]
    os.kill(holder, signal.SIGKILL)
    deadline = time.monotonic() + 180
    while "has died" not in (said := user.cutor("status", "x").stderr):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    died = f"the stack of {user.stack.data} has died: `cutor up --data {user.stack.data}`"
    assert died in one_line(user.cutor("status", "x"), 3)
    assert f"FAIL  stack           the stack of {user.stack.data} has died" in user.cutor("doctor").stdout


def test_doctor_has_no_colours_where_none_are_wanted(bare: User) -> None:
    for wanted, environment in ((b"\x1b[", {}), (b"ok    python", {"NO_COLOR": "1"})):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "cutor", "doctor"]
        with subprocess.Popen(command, env=bare.stack.environment | {"TERM": "xterm"} | environment, stdout=slave) as checking:
            os.close(slave)
            assert wanted in read_until(master, b"python")
            read_until(master, b"projector")
            checking.wait(180)
        os.close(master)


def test_doctor_reports_on_every_piece(bare: User) -> None:
    done = bare.cutor("doctor", "--json", "--config", str(bare.home / "config.toml"))
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert {what for what, finding in findings.items() if finding["verdict"] == "fail"} == {"builder", "runner", "projector"}
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
