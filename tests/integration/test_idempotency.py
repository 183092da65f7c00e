"""The id is the idempotency key: the same id and body is one submission, whoever hands it in, how often, and in which form."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from cutor import Client, File, Request, SubmissionConflict, TestCase
from cutor.model.content import INLINE_BYTES
from cutor.model.subjects import Address
from tests.bare_stack import SOURCES, User
from tests.bare_stack import request as bare_request
from tests.integration.live_submissions import cleaned, document, events, first, with_client
from tests.live_stack import Stack

PROCESSES: Final = 4
"""Of each kind: as many run the Python client as run the command."""
TIMES: Final = 3
"""How often each of the former hands in each request, at once."""
SAID: Final = "the id '{}' is taken by a submission with another body; send this one under another id"

Answer = dict[str, Any]
"""A result without what comes after the end, or an ``error``."""


def from_many_processes(
    stack: Stack, for_client: Sequence[Any], for_command: Sequence[Any]
) -> tuple[list[Answer], list[Answer]]:
    """Hand in requests from `PROCESSES` Python clients, each all of them at once, and beside them each of others by a command.

    Returns the answers that clients got and that commands got; the processes begin together, once all are there.
    """
    client = [sys.executable, "-m", "tests.integration.producer_process", stack.server]
    command = [sys.executable, "-m", "cutor", "submit", "-", "--wait", "--json"]
    with ExitStack() as running:
        commands = [running.enter_context(_started(command, stack)) for _ in for_command]
        clients = [running.enter_context(_started(client, stack)) for _ in range(PROCESSES)]
        for process in clients:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process, request in zip(commands, for_command, strict=True):
            _feed(process, request)
        for number, process in enumerate(clients):
            _feed(process, [*for_client[number:], *for_client[:number]])
        told = [_answer(process, code=0) for process in clients]
        return [one for answers in told for one in answers], [_answer(process) for process in commands]


def _started(command: Sequence[str], stack: Stack) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=stack.environment, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)


def _feed(process: subprocess.Popen[bytes], request: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.close()
    process.stdin = None


def _answer(process: subprocess.Popen[bytes], code: int | None = None) -> Any:
    """Return what a process answered, whose exit code says the same, and which had one line for a person at the most."""
    output, errors = process.communicate(timeout=150)
    assert output, f"{process.args!r} printed nothing, ended with {process.returncode}: {errors.decode()}"
    answer = json.loads(output)
    if isinstance(answer, dict):
        code = answer["error"]["exit_code"] if "error" in answer else int(answer["outcome"] != "OK")
        assert errors.decode() == (f"cutor: {answer['error']['message']}\n" if "error" in answer else "")
    assert process.returncode == code, errors.decode()
    for one in answer if isinstance(answer, list) else [answer]:
        one.pop("cleaned_at", None)
    return answer


def kinds(stack: Stack, identity: str) -> list[str]:
    """Return the kinds of a submission's events."""
    return [event["kind"] for event in events(stack, identity)]


def test_one_body_from_many_processes_at_once_is_one_submission(stack: Stack) -> None:
    requests = [document(f"echo {n}", id=secrets.token_hex(8)) for n in range(PROCESSES)]
    by_client, by_command = from_many_processes(stack, requests * TIMES, requests)
    for n, request in enumerate(requests):
        same = [answer for answer in (*by_client, *by_command) if answer["id"] == request["id"]]
        assert len(same) == PROCESSES * TIMES + 1
        assert same == same[:1] * len(same)
        assert (same[0]["outcome"], same[0]["run"][0]["stdout"]["data"]) == ("OK", f"{n}\n")
        assert same[0]["attempts"] == {"builder": 1, "runner": 1}
        assert kinds(stack, request["id"]).count("submitted") == 1


def test_of_two_bodies_under_one_id_at_once_one_wins(stack: Stack) -> None:
    """Contents of both are in BODIES by then: those of the other are left there, which harms nobody and saves its next try."""
    contents = {body: f"{body}{secrets.token_hex(8)}".ljust(INLINE_BYTES + 1, ".") for body in ("red", "blue")}
    identities = [secrets.token_hex(8) for _ in range(PROCESSES // 2)]
    pairs = [
        document("head -c 4 data", files={"data": content}, id=identity, labels={"body": body})
        for identity in identities
        for body, content in contents.items()
    ]
    by_client, by_command = from_many_processes(stack, pairs * TIMES, pairs)
    for identity in identities:
        conflict = {"error": {"message": SAID.format(identity), "exit_code": 2}}
        won = [answer for answer in (*by_client, *by_command) if answer.get("id") == identity]
        lost = [answer for answer in (*by_client, *by_command) if answer == conflict]
        assert len(won) == len(lost) == PROCESSES * TIMES + 1
        assert won == won[:1] * len(won)
        assert (won[0]["outcome"], won[0]["run"][0]["stdout"]["data"]) == ("OK", contents[won[0]["labels"]["body"]][:4])
        assert kinds(stack, identity).count("submitted") == 1
    both = "".join(content[:4] for content in contents.values())
    assert first(stack, "head -qc 4 red blue", files=contents)["stdout"]["data"] == both


def test_an_ended_submission_handed_in_again_is_its_result(stack: Stack) -> None:
    raw = json.dumps(document("echo once", id=(identity := secrets.token_hex(8)))).encode()
    once = stack.result("-", stdin=raw)
    ended = with_client(stack, lambda client: cleaned(client, identity))
    before = events(stack, identity)
    again = stack.result("-", stdin=raw)
    assert again == once | {"cleaned_at": ended.cleaned_at}
    assert again["run"][0]["stdout"]["data"] == "once\n"
    assert events(stack, identity) == before


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PLAIN: Final[dict[str, Any]] = {
    "files": [{"name": name, "content": content} for name, content in (SOURCES | {"lib/é.txt": "é\n"}).items()],
    "environment_files": ["lib/é.txt", "shell.nix"],
    "test_cases": [{}, {"input": "1\n", "expected_output": "é"}],
    "labels": {"a": "1", "b": "2"},
}
SAME: Final[dict[str, Any]] = {
    "fields in another order": dict(reversed(PLAIN.items())) | {"labels": {"b": "2", "a": "1"}},
    "files in another order": PLAIN | {"files": PLAIN["files"][::-1]},
    "environment files in another order and twice": PLAIN | {"environment_files": ["shell.nix", "lib/é.txt", "shell.nix"]},
    "contents in base64": PLAIN
    | {"files": [file | {"content": base64_of(file["content"]), "encoding": "base64"} for file in PLAIN["files"]]},
    "contents in hexadecimal": PLAIN
    | {"files": [file | {"content": file["content"].encode().hex(), "encoding": "hex"} for file in PLAIN["files"]]},
    "a test case in base64": PLAIN
    | {"test_cases": [{}, {"input": base64_of("1\n"), "expected_output": base64_of("é"), "encoding": "base64"}]},
    "defaults that are said": PLAIN
    | {
        "tenant": "default",
        "cache": True,
        "compare": "trailing_whitespace",
        "stop_on_failure": True,
        "limits": {"run": {}, "compile": {}},
        "files": [file | {"encoding": "utf8"} for file in PLAIN["files"]],
        "test_cases": [{"name": None, "input": "", "args": [], "expected_output": None}, PLAIN["test_cases"][1]],
    },
    "the struct": Request(
        files=tuple(File(name=file["name"], content=file["content"]) for file in PLAIN["files"]),
        environment_files=("lib/é.txt", "shell.nix"),
        test_cases=(TestCase(), TestCase(input="1\n", expected_output="é")),
        labels={"a": "1", "b": "2"},
    ),
}
OTHER: Final[dict[str, dict[str, Any]]] = {
    "another content": {"files": [*PLAIN["files"][:-1], {"name": "lib/é.txt", "content": "é"}]},
    "one file more": {"files": [*PLAIN["files"], {"name": "more", "content": ""}]},
    "test cases in another order": {"test_cases": PLAIN["test_cases"][::-1]},
    "nothing expected": {"test_cases": [{"expected_output": ""}, PLAIN["test_cases"][1]]},
    "a limit": {"limits": {"run": {"open_files": 100}}},
    "no cache": {"cache": False},
    "another label": {"labels": {"a": "1", "b": "3"}},
}


async def test_what_means_the_same_is_the_same_in_whatever_form(bare: User) -> None:
    identity = secrets.token_hex(8)
    async with Client(bare.stack.server) as client:
        first_one = await client.submit(PLAIN, id=identity)
        for what, form in SAME.items():
            assert await client.submit(form, id=identity) == first_one, what
        for what, change in OTHER.items():
            with pytest.raises(SubmissionConflict) as conflict:
                await client.submit(PLAIN | change, id=identity)
            assert str(conflict.value) == SAID.format(identity), what
        assert len(await client.journal.entries(Address("default", identity))) == 1


def test_a_directory_and_its_request_in_json_are_the_same(bare: User, tmp_path: Path) -> None:
    for name, content in SOURCES.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "submission.toml").write_text("[labels]\na = '1'\n")
    identity = secrets.token_hex(8)
    assert bare.cutor("submit", str(tmp_path), "--id", identity).stdout == f"{identity}\n"
    assert bare.cutor("submit", "-", stdin=bare_request(id=identity, labels={"a": "1"})).stdout == f"{identity}\n"


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack of two tenants without roles, whose server remembers message ids for as short as it can."""
    user = User(tmp_path_factory.mktemp("forgetful"))
    streams = user.home / "streams.yaml"
    shipped = (Path(__file__).parents[2] / "streams.yaml").read_text()
    streams.write_text(shipped.replace("duplicate_window: 5m ", "duplicate_window: 100ms "))
    assert streams.read_text() != shipped
    config = user.home / "config.toml"
    config.write_text(f"[tenants]\ndefault = 1\nother = 1\n[server]\nstreams = '{streams}'\n")
    started = user.up("--config", str(config))
    assert started.returncode == 0, started.stderr
    try:
        yield user
    finally:
        assert user.down().returncode == 0


async def test_an_id_is_one_of_its_tenant_and_a_body_may_have_many(forgetful: User) -> None:
    identity = secrets.token_hex(8)
    async with Client(forgetful.stack.server) as client:
        receipts = [await client.submit(PLAIN, id=identity, tenant=tenant) for tenant in ("default", "other")]
        receipts.append(await client.submit(PLAIN, id=f"{identity}-2"))
        assert [(one.tenant, one.id) for one in receipts] == [
            ("default", identity),
            ("other", identity),
            ("default", f"{identity}-2"),
        ]
        for one in receipts:
            assert len(await client.journal.entries(Address(one.tenant, one.id))) == 1
        assert await client.cancel(identity, "other")
        assert [(await client.result(one.id, one.tenant)).status for one in receipts] == ["SUBMITTED", "CANCELLED", "SUBMITTED"]
        assert (await client.submit(PLAIN, id=identity, tenant="other")).status == "CANCELLED"


async def test_an_id_is_taken_for_as_long_as_its_events_are_kept(forgetful: User) -> None:
    """The server's own memory of message ids is a help, not what the promise rests on."""
    identity = secrets.token_hex(8)
    async with Client(forgetful.stack.server) as client:
        once = await client.submit(PLAIN, id=identity)
        await asyncio.sleep(0.5)
        assert await client.submit(PLAIN, id=identity) == once
        with pytest.raises(SubmissionConflict):
            await client.submit(PLAIN | OTHER["a limit"], id=identity)
        assert len(await client.journal.entries(Address("default", identity))) == 1
