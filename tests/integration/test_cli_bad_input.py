"""Bad input, on real parts: one clear line, the documented exit code, and nothing half-done."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.topology import default_text
from cutor.model.subjects import POLICY_SUBJECT
from tests.bare_stack import SOURCES, User, one_line, request

FILES = [{"name": name, "content": content} for name, content in SOURCES.items()]


def with_file(name: str, content: str = "", **more: str) -> bytes:
    return request(files=[*FILES, {"name": name, "content": content, **more}])


def events_in_stream(user: User) -> int:
    async def count() -> int:
        async with Bus.connect(user.stack.server, name="test") as bus:
            return int((await bus.stream_info("EVENTS"))["state"]["messages"])

    return asyncio.run(count())


BAD_REQUESTS = {
    "no shell.nix": (request(files=FILES[1:]), "shell.nix is missing"),
    "no cutor-run.sh": (request(files=FILES[:1]), "cutor-run.sh is missing"),
    "name with ..": (with_file("../x"), "'../x' has the segment '..'"),
    "absolute name": (with_file("/etc/passwd"), "'/etc/passwd' is absolute"),
    "empty name": (with_file(""), "segment ''"),
    "name with NUL": (with_file("a\0b"), "NUL"),
    "name twice": (with_file("shell.nix"), "'shell.nix' is there twice"),
    "file as a directory": (
        request(files=[*FILES, {"name": "a", "content": ""}, {"name": "a/b", "content": ""}]),
        "'a' is a file",
    ),
    "bad base64": (with_file("x", "!!!", encoding="base64"), "not valid base64"),
    "bad hex": (with_file("x", "zz", encoding="hex"), "not valid hex"),
    "unknown encoding": (with_file("x", "", encoding="rot13"), "it must be 'utf8' or 'base64' or 'hex'"),
    "unknown comparison": (request(compare="fuzzy"), "it must be 'exact' or 'trailing_whitespace'"),
    "unknown field": (request(wish="please"), "unknown field `wish`"),
    "unknown limit": (request(limits={"run": {"walltime": 1}}), "unknown field `walltime`"),
    "zero limit": (request(limits={"run": {"wall_time_ms": 0}}), "limits.run.wall_time_ms is 0"),
    "negative limit": (request(limits={"compile": {"processes": -1}}), "limits.compile.processes is -1"),
    "too large limit": (request(limits={"run": {"memory_bytes": 1 << 50}}), "more than the maximum of 2147483648 bytes"),
    "limit that no float holds": (
        request(limits={"run": {"wall_time_ms": "huge"}}).replace(b'"huge"', b"1e400"),
        "limits.run.wall_time_ms is a number of 1329 bits: more than the maximum of 120000 milliseconds",
    ),
    "limit of a wrong type": (request(limits={"run": {"wall_time_ms": "1s"}}), "limits.run.wall_time_ms"),
    "no test case": (request(test_cases=[]), "test_cases: at least one"),
    "no test cases at all": (json.dumps({"files": FILES}).encode(), "missing required field `test_cases`"),
    "over the size limit": (with_file("large", "x" * 70_000), "more than the maximum of 65536 bytes"),
    "unknown tenant": (request(tenant="nobody"), "tenant 'nobody' is not declared"),
    "bad tenant": (request(tenant="No Body"), "tenant 'No Body'"),
    "bad id": (request(id="../x"), "id '../x'"),
    "empty id": (request(id=""), "id ''"),
    "not JSON": (b"{", "request: "),
    "not UTF-8": (b"\xff\xfe", "request: "),
    "not UTF-8 in a content": (request().replace(b'"true"', b'"\xff"'), "request: not valid UTF-8"),
    "nested too deeply": (b'{"files": ' + b"[" * 200_000, "request: files[0]"),
    "not canonical base64": (with_file("x", "QR==", encoding="base64"), "not valid base64"),
    "hex with a blank": (with_file("x", "ff 00", encoding="hex"), "not valid hex"),
    "long name of a test case": (request(test_cases=[{"name": "n" * 257}]), "test_cases[0].name: 257 bytes are more than"),
    "large arguments": (request(test_cases=[{"args": ["x" * 60_000]}] * 2), "more than the maximum of 65536 bytes"),
    "nothing": (b"", "request: standard input is empty"),
    "an array": (b"[]", "request: "),
}


@pytest.mark.parametrize(("raw", "said"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_refused_and_nothing_is_appended(bare: User, raw: bytes, said: str) -> None:
    before = events_in_stream(bare)
    done = bare.cutor("submit", "-", stdin=raw)
    assert said in one_line(done, 2)
    assert done.stdout == ""
    assert events_in_stream(bare) == before


async def publish(user: User, subject: str, body: bytes) -> None:
    async with Bus.connect(user.stack.server, name="test") as bus:
        await bus.publish(subject, body)


@pytest.fixture
def policy(bare: User) -> Iterator[dict[str, Any]]:
    """The policy that the stack publishes; published again when the test is done with it."""

    async def read() -> bytes:
        async with Bus.connect(bare.stack.server, name="test") as bus:
            stored = await bus.last("STACK", POLICY_SUBJECT)
            assert stored is not None
            return stored.body

    body = asyncio.run(read())
    try:
        yield json.loads(body)
    finally:
        asyncio.run(publish(bare, POLICY_SUBJECT, body))


def test_a_client_older_than_its_stack_goes_on(bare: User, policy: dict[str, Any]) -> None:
    policy["bounds"]["added"] = policy["limits"]["run"]["added"] = policy["added"] = 1
    asyncio.run(publish(bare, POLICY_SUBJECT, json.dumps(policy).encode()))
    assert bare.cutor("submit", "-", stdin=request()).returncode == 0
    assert "more than the maximum of 65536 bytes" in one_line(bare.cutor("submit", "-", stdin=with_file("x", "x" * 70_000)), 2)


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("body", [b"{", b'{"bounds": 5}', b"[" * 200_000])
def test_a_policy_that_cannot_be_read_is_a_fault_of_the_stack(bare: User, body: bytes) -> None:
    asyncio.run(publish(bare, POLICY_SUBJECT, body))
    assert "the published policy cannot be read: " in one_line(bare.cutor("submit", "-", stdin=request()), 3)


def test_a_message_of_any_depth_is_shown(bare: User) -> None:
    """In the log, under a submission's subject: a stray, of which there is nothing to show but that it is there."""
    assert bare.cutor("submit", "-", "--id", "deep", stdin=request()).returncode == 0
    body = b'{"kind": "cancelled", "added": %b}' % (b"[" * 200_000 + b"]" * 200_000)
    asyncio.run(publish(bare, "cutor.ev.default.deep.cancelled", body))
    assert "nested too deeply" in bare.cutor("events", "deep").stdout
    listed = json.loads(bare.cutor("events", "deep", "--json").stdout)
    assert [line["event"] is None for line in listed] == [False, True]
    assert json.loads(bare.cutor("status", "deep", "--json").stdout)["status"] == "SUBMITTED"


def test_a_bad_request_with_json_is_a_document(bare: User) -> None:
    done = bare.cutor("submit", "-", "--json", stdin=request(files=[]))
    line = one_line(done, 2)
    assert json.loads(done.stdout) == {"error": {"message": line.removeprefix("cutor: ").rstrip("\n"), "exit_code": 2}}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for name, content in SOURCES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_link_in_a_directory_is_refused_by_name(bare: User, box: Path) -> None:
    (box / "secret").symlink_to("/etc/passwd")
    assert "'secret' is a link" in one_line(bare.cutor("submit", str(box)), 2)


def test_a_fifo_in_a_directory_does_not_hang(bare: User, box: Path) -> None:
    os.mkfifo(box / "pipe")
    assert "'pipe' is a FIFO" in one_line(bare.cutor("submit", str(box)), 2)


def test_a_directory_over_the_size_limit_is_refused(bare: User, box: Path) -> None:
    (box / "large").write_bytes(b"x" * 70_000)
    assert "more than the maximum of 65536 bytes" in one_line(bare.cutor("submit", str(box)), 2)


def test_bad_settings_of_a_directory_are_named(bare: User, box: Path) -> None:
    (box / "submission.toml").write_text("[limits.run]\nwall_time_ms = 0\n")
    assert "limits.run.wall_time_ms is 0" in one_line(bare.cutor("submit", str(box)), 2)
    (box / "submission.toml").write_text("wish = 1\n")
    assert "submission.toml: " in one_line(bare.cutor("submit", str(box)), 2)


@pytest.mark.parametrize("command", ["status", "watch", "cancel", "events"])
def test_an_unknown_id(bare: User, command: str) -> None:
    assert "'no-such'" in one_line(bare.cutor(command, "no-such"), 2)


@pytest.mark.parametrize("command", ["status", "watch", "cancel", "events"])
def test_an_id_that_cannot_be_one(bare: User, command: str) -> None:
    assert "id 'a.b'" in one_line(bare.cutor(command, "a.b"), 2)


def test_the_same_id_with_another_body_is_a_conflict(bare: User) -> None:
    assert bare.cutor("submit", "-", "--id", "taken", stdin=request()).returncode == 0
    before = events_in_stream(bare)
    assert bare.cutor("submit", "-", "--id", "taken", stdin=request()).stdout == "taken\n"
    assert "'taken' is taken" in one_line(bare.cutor("submit", "-", "--id", "taken", stdin=request(labels={"a": "b"})), 2)
    assert events_in_stream(bare) == before


COMMANDS_THAT_CONNECT = [["submit", "-"], ["status", "x"], ["watch", "x"], ["cancel", "x"], ["events"], ["streams", "plan"]]


@pytest.mark.parametrize("command", COMMANDS_THAT_CONNECT, ids=" ".join)
def test_nats_out_of_reach(user: User, command: list[str]) -> None:
    done = user.cutor(*command, "--server", "nats://cutor:secret@127.0.0.1:1", stdin=request())
    line = one_line(done, 3)
    assert "nats://127.0.0.1:1: Connection refused: " in line
    assert "secret" not in line


@pytest.mark.parametrize("command", COMMANDS_THAT_CONNECT, ids=" ".join)
def test_no_stack_anywhere(user: User, command: list[str]) -> None:
    assert "`cutor up`" in one_line(user.cutor(*command, stdin=request()), 3)


def test_a_server_address_that_is_none(user: User) -> None:
    assert "not valid" in one_line(user.cutor("status", "x", "--server", "http://127.0.0.1"), 2)
    assert "not valid" in one_line(user.cutor("status", "x", CUTOR_SERVER="nats://"), 2)


def test_a_wrong_credential_is_not_an_address_out_of_reach(bare: User) -> None:
    wrong = bare.stack.server.replace("cutor:", "cutor:not-")
    assert wrong != bare.stack.server
    line = one_line(bare.cutor("status", "x", "--server", wrong), 3)
    assert "are user and password right?" in line
    assert "cutor up" not in line


def test_a_file_that_is_no_request_is_named(bare: User, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text("{")
    assert f"{file}: " in one_line(bare.cutor("submit", str(file)), 2)


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"server": "\xff"}', b"[" * 200_000])
def test_a_damaged_current_stack_file_is_named(user: User, content: bytes) -> None:
    file = user.home / "XDG_STATE_HOME" / "cutor" / "current.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert f"{file} cannot be read" in one_line(user.cutor("status", "x"), 3)
    assert f"{file} cannot be read" in user.cutor("doctor").stdout


def test_an_address_of_docker_that_cannot_be_talked_to(bare: User, user: User) -> None:
    """What never asks Docker is not bothered by it."""
    line = one_line(user.cutor("up", "--detach", DOCKER_HOST="ssh://me@host"), 2)
    assert "unix:// or tcp://" in line
    done = bare.cutor("doctor", DOCKER_HOST="ssh://me@host")
    assert "FAIL  docker          DOCKER_HOST or `docker.host` is 'ssh://me@host'" in done.stdout
    assert "server" in done.stdout
    assert "'x'" in one_line(bare.cutor("status", "x", DOCKER_HOST="ssh://me@host"), 2)


BAD_STREAMS = {
    "not YAML": "streams: [",
    "empty": "",
    "nested too deeply": "[" * 100_000,
    "unknown setting": "streams: {EVENTS: {subjects: [cutor.ev.>], wish: 1}}",
    "a delivery that is not repeated": default_text().replace("max_deliver: unlimited", "max_deliver: 2"),
    "no stream for bodies": default_text().replace("  BODIES:", "  BODY:").replace("cutor.body.>", "cutor.others.>"),
}


@pytest.mark.parametrize("text", BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_bad_streams_yaml_changes_nothing(bare: User, tmp_path: Path, text: str) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(text)
    for action in ("plan", "apply"):
        assert str(file) in one_line(bare.cutor("streams", action, str(file)), 2)
    plan = bare.cutor("streams", "plan")
    assert (plan.returncode, plan.stdout) == (0, "the server has streams and consumers as wanted\n")


def test_up_with_a_bad_streams_yaml_starts_nothing(user: User) -> None:
    (user.home / "streams.yaml").write_text("streams: 5")
    config = user.home / "c.toml"
    config.write_text(f'[server]\nstreams = "{user.home / "streams.yaml"}"\n')
    assert "streams.yaml" in one_line(user.up("--config", str(config)), 2)
    assert not (user.stack.data / "nats").exists()
    assert not (user.home / "cutor" / "current.json").exists()


def test_up_with_the_configuration_of_a_cluster_starts_nothing(user: User) -> None:
    config = user.home / "c.toml"
    config.write_text("[server]\nreplicas = 3\n")
    line = one_line(user.up("--config", str(config)), 2)
    assert f"{config}: `server.replicas` is 3" in line
    assert not (user.stack.data / "nats").exists()


def test_up_without_docker_starts_nothing(user: User) -> None:
    done = user.cutor(
        "up", "--detach", "--data", str(user.stack.data), "--roles", "builder", DOCKER_HOST=f"unix://{user.home}/no.sock"
    )
    assert "no Docker Engine answers" in one_line(done, 3)
    assert not (user.stack.data / "nats").exists()


def test_up_without_the_image_says_what_makes_it(user: User) -> None:
    config = user.home / "c.toml"
    config.write_text('[docker]\nimage = "cutor-no-such-image:latest"\n')
    line = one_line(user.up("--config", str(config), roles=["runner"]), 3)
    assert "cutor-no-such-image:latest" in line
    assert "make setup" in line


def test_up_with_a_bad_configuration_starts_nothing(user: User) -> None:
    config = user.home / "c.toml"
    config.write_text("[limits.run.default]\nwall_time_ms = 0\n")
    assert str(config) in one_line(user.up("--config", str(config)), 2)
    assert not user.stack.data.exists()


def test_up_where_the_data_directory_cannot_be(user: User) -> None:
    user.stack.data.write_text("a file is in the way")
    assert "cannot be the data directory" in one_line(user.up(), 2)
    user.stack.data.unlink()


def test_down_where_there_was_never_a_stack(user: User) -> None:
    assert "not the data directory of a stack" in one_line(user.down(), 2)
