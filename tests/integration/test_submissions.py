"""What a submission can count on, end to end on a live stack: state between stages, exact bytes, endings told apart."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import secrets
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from cutor import Client
from cutor.environments import Environments
from cutor.model.environments import EnvironmentRemoved
from cutor.model.limits import Bounds, Policy
from cutor.model.request import request_from, validate
from cutor.model.result import Result
from cutor.model.subjects import Address, event_subject, fence
from tests.bare_stack import User
from tests.live_stack import EXAMPLES, Stack

PYTHON = (EXAMPLES / "python-three-tests" / "shell.nix").read_text()


def request(run: str, *, shell: str = PYTHON, **more: Any) -> bytes:
    files = [{"name": "shell.nix", "content": shell}, {"name": "cutor-run.sh", "content": run}]
    files += [{"name": name, "content": content} for name, content in more.pop("files", {}).items()]
    return json.dumps({"files": files, "test_cases": [{}], **more}).encode()


def submit(stack: Stack, run: str, **more: Any) -> dict[str, Any]:
    return stack.result("-", stdin=request(run, **more))


def first(stack: Stack, run: str, **more: Any) -> dict[str, Any]:
    stage: dict[str, Any] = submit(stack, run, **more)["run"][0]
    return stage


def test_each_test_case_starts_from_what_compile_left_and_sees_nothing_of_another(stack: Stack) -> None:
    run = "cat built; ls | tr '\\n' ' '; echo mine > left; echo changed > built; echo x > /tmp/left; ls /tmp"
    files = {"cutor-compile.sh": "echo from compile > built; echo y > /tmp/gone; mkdir sub; echo z > sub/file"}
    result = submit(stack, run, files=files, test_cases=[{}, {}], stop_on_failure=False)
    outputs = [stage["stdout"]["data"] for stage in result["run"]]
    assert outputs == ["from compile\nbuilt cutor-compile.sh cutor-run.sh shell.nix sub left\n"] * 2


@pytest.mark.parametrize(
    ("program", "outcome", "exit_code", "signal"),
    [
        ("exit 139", "RE", 139, None),
        ("kill -SEGV $$", "SG", None, 11),
        ("kill -KILL $$", "SG", None, 9),
        ("exit 0", "OK", 0, None),
        ("no-such-command", "RE", 127, None),
    ],
)
def test_endings_are_told_apart(stack: Stack, program: str, outcome: str, exit_code: int | None, signal: int | None) -> None:
    stage = first(stack, program)
    number = None if stage["signal"] is None else stage["signal"]["number"]
    assert (stage["outcome"], stage["exit_code"], number) == (outcome, exit_code, signal)


def test_bytes_are_exact_both_ways(stack: Stack) -> None:
    data = bytes(range(256)) * 40
    case = {"input": base64.b64encode(data).decode(), "expected_output": base64.b64encode(data).decode(), "encoding": "base64"}
    stage = first(stack, "exec cat", test_cases=[case], compare="exact")
    assert (stage["outcome"], stage["stdout"]["encoding"]) == ("OK", "base64")
    assert base64.b64decode(stage["stdout"]["data"]) == data


def test_no_input_is_an_empty_standard_input(stack: Stack) -> None:
    assert first(stack, "wc -c")["stdout"]["data"].strip() == "0"


def test_too_much_output_is_cut_and_ends_the_stage(stack: Stack) -> None:
    stage = first(stack, "yes", limits={"run": {"stdout_bytes": 1000}})
    assert (stage["outcome"], stage["stdout"]["data"], stage["stdout"]["truncated"]) == ("OLE", "y\n" * 500, True)
    assert stage["stdout"]["bytes_total"] > 1000


def test_output_of_more_than_64_kib_comes_back_whole(stack: Stack) -> None:
    stage = first(stack, "python3 -c 'print(\"x\" * 300000)'")
    assert (stage["outcome"], stage["stdout"]["data"]) == ("OK", "x" * 300_000 + "\n")
    assert "body" not in stage["stdout"]


def test_wall_time_is_limited(stack: Stack) -> None:
    stage = first(stack, "echo before; sleep 30", limits={"run": {"wall_time_ms": 300}})
    assert (stage["outcome"], stage["stdout"]["data"], stage["exit_code"]) == ("TLE_WALL", "before\n", None)


@pytest.mark.parametrize(
    ("limit", "program", "outcome"),
    [
        ({"file_size_bytes": 1000}, "exec head -c 5000 /dev/zero > big", "FSE"),
        ({"open_files": 16}, "python3 -c 'l=[open(\"/dev/null\") for _ in range(50)]'", "RE"),
        ({"processes": 8}, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait", "RE"),
    ],
)
def test_other_limits_hold(stack: Stack, limit: dict[str, int], program: str, outcome: str) -> None:
    stage = first(stack, program, limits={"run": limit | {"wall_time_ms": 8000}})
    assert stage["outcome"] == outcome, stage


def test_a_compile_step_may_use_more_than_a_run(stack: Stack) -> None:
    hog = "python3 -c 'bytearray(150 << 20)'"
    limits = {"compile": {"memory_bytes": 256 << 20}, "run": {"memory_bytes": 64 << 20}}
    result = submit(stack, hog, files={"cutor-compile.sh": hog}, limits=limits)
    assert (result["compile"]["outcome"], result["run"][0]["outcome"]) == ("OK", "MLE")


def test_nothing_of_host_image_or_network_is_there(stack: Stack) -> None:
    connect = 'import socket; socket.create_connection(("1.1.1.1", 53), 2)'
    stage = first(stack, f"ls /; ls /usr; ls /nix/store; cat /proc/1/environ; python3 -c '{connect}'")
    assert stage["outcome"] == "RE"
    assert set(stage["stdout"]["data"].split()) == {"bin", "box", "dev", "etc", "nix", "proc", "tmp", "usr"}
    assert "unreachable" in stage["stderr"]["data"]


def test_stop_on_failure_and_its_opposite(stack: Stack) -> None:
    cases = [{"expected_output": "1"}, {"expected_output": "2"}, {"expected_output": "1"}]
    stopped = submit(stack, "echo 1", test_cases=cases)
    assert [stage["outcome"] for stage in stopped["run"]] == ["OK", "WA", "SKIPPED"]
    through = submit(stack, "echo 1", test_cases=cases, stop_on_failure=False)
    assert [stage["outcome"] for stage in through["run"]] == ["OK", "WA", "OK"]
    assert stopped["outcome"] == through["outcome"] == "WRONG_ANSWER"


def test_arguments_arrive_as_they_are(stack: Stack) -> None:
    args = ["two words", "$HOME", "`id`", "", "é", "'", "; exit 3"]
    stage = first(stack, 'printf "%s\\n" "$@"', test_cases=[{"args": args}])
    assert stage["stdout"]["data"].splitlines() == args


def test_fifty_test_cases_go_into_few_events(stack: Stack) -> None:
    result = submit(stack, "cat", test_cases=[{"input": str(n), "expected_output": str(n)} for n in range(50)])
    assert result["outcome"] == "OK"
    assert len(result["run"]) == 50
    listed = json.loads(stack.cutor("events", result["id"], "--json").stdout)
    ran = [event["event"] for event in listed if event["kind"] == "ran"]
    assert len(ran) < 25
    assert [event["index"] for event in ran] == list(itertools.accumulate([0, *(len(event["stages"]) for event in ran)]))[:-1]


BUILDING = PYTHON.replace("packages", "SLOW = builtins.foldl' (a: b: a + b) 0 (builtins.genList (n: n) 400000000); packages")


@pytest.mark.parametrize(
    ("kind", "holder", "after_s", "more", "stage"),
    [
        ("leased", "builder", 0.0, {"shell": BUILDING}, "dependencies"),
        ("leased", "builder", 1.0, {"shell": BUILDING}, "dependencies"),
        ("leased", "runner", 0.0, {}, "run"),
        ("leased", "runner", 0.5, {}, "run"),
        ("leased", "runner", 0.5, {"files": {"cutor-compile.sh": "sleep 100"}}, "compile"),
    ],
)
def test_a_cancelled_submission_is_stopped_within_a_second(
    stack: Stack, kind: str, holder: str, after_s: float, more: dict[str, Any], stage: str
) -> None:
    """Whatever it is at: its container is gone, ``cleaned`` is in the log, and the stage it was at says so."""
    limits = {"run": {"wall_time_ms": 110_000}, "compile": {"wall_time_ms": 110_000}}
    document = json.loads(request("sleep 100", limits=limits, **more))

    async def cancelled() -> tuple[float, Result]:
        async with Client(stack.server) as client:
            identity = (await client.submit(document)).id
            async for update in client.watch(identity):
                if update.kind == kind and update.what.startswith(holder):
                    await asyncio.sleep(after_s)
                    began = time.monotonic()
                    assert await client.cancel(identity)
            while (result := await client.result(identity)).cleaned_at is None:
                assert time.monotonic() - began < 20
                await asyncio.sleep(0.02)
            return time.monotonic() - began, result

    took_s, result = asyncio.run(cancelled())
    assert (result.status, result.outcome) == ("CANCELLED", "CANCELLED")
    assert containers(stack, result.id) == []
    stages = {"dependencies": result.dependencies, "compile": result.compile, "run": result.run[0]}
    found = stages[stage]
    assert found is not None
    assert found.outcome == "CANCELLED"
    assert took_s < 2, "a second, and as much for a machine under test"


def containers(stack: Stack, identity: str) -> list[str]:
    label = f"label=cutor.submission=default/{identity}"
    listed = subprocess.run(["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def test_a_finished_submission_leaves_no_container(stack: Stack) -> None:
    result = submit(stack, "true")
    for _ in range(100):
        cleaned_at = json.loads(stack.cutor("status", result["id"], "--json").stdout)["cleaned_at"]
        if cleaned_at:
            break
    assert cleaned_at
    assert containers(stack, result["id"]) == []


def test_all_stages_together_have_a_time(user: User) -> None:
    """Whatever each of them may take: a stack of its own, whose bound on compile and runs together is 2 s."""
    config = user.home / "config.toml"
    config.write_text("[bounds]\nsubmission_wall_time_ms = 2000\n")
    assert user.up("--config", str(config), roles=("builder", "runner")).returncode == 0
    result = submit(user.stack, "sleep 0.8", test_cases=[{}, {}, {}, {}], stop_on_failure=False)
    assert [stage["outcome"] for stage in result["run"]] == ["OK", "OK", "TLE_WALL", "SKIPPED"]
    assert result["run"][2]["message"] == "the submission's compile and run stages together took longer than 2000 ms"
    assert result["run"][2]["limits"]["wall_time_ms"] < 500


def test_a_first_event_that_is_no_request_ends_as_rejected(stack: Stack) -> None:
    address = Address("default", secrets.token_hex(8))

    async def append() -> Result:
        async with Client(stack.server) as client:
            subject = event_subject(address, "submitted")
            await client.journal.bus.append(subject, b"{}", message_id=address.id, fence=fence(address), expected_sequence=0)
            return await client.result(address.id, wait=True, timeout_s=20)

    result = asyncio.run(append())
    assert (result.outcome, result.attempts.builder) == ("REJECTED", 1)
    assert (result.message or "").startswith("the first event of the submission cannot be read: ")


def test_cache_false_builds_its_own_or_uses_what_is_there(stack: Stack) -> None:
    shell = PYTHON.replace("packages", f'ONLY_HERE = "{stack.instance}"; packages')
    alone = submit(stack, "printf %s $ONLY_HERE", shell=shell, cache=False)
    again = submit(stack, "printf %s $ONLY_HERE", shell=shell, cache=True)
    kept = submit(stack, "printf %s $ONLY_HERE", shell=shell, cache=False)
    assert [result["environment"]["hit"] for result in (alone, again, kept)] == [False, False, True]
    assert alone["run"][0]["stdout"]["data"] == stack.instance
    assert kept["dependencies"]["limits"] == alone["dependencies"]["limits"]
    assert kept["dependencies"]["limits"]["wall_time_ms"] > 0


def test_a_client_that_does_not_check_is_refused_by_the_builder(stack: Stack) -> None:
    """The log holds a request over the stack's limits: it ends as REJECTED, with the line that the client would have got."""
    boundless = Policy(bounds=Bounds(label_bytes=10_000))
    document = json.loads(request("true", labels={"long": "x" * 1000}))
    valid = validate(request_from(document), boundless, secrets.token_hex(8))

    async def append() -> None:
        async with Client(stack.server) as client:
            await client.journal.submit(valid)

    asyncio.run(append())
    waited = stack.cutor("watch", valid.address.id)
    result = json.loads(stack.cutor("status", valid.address.id, "--json").stdout)
    assert (waited.returncode, result["status"], result["outcome"]) == (2, "REJECTED", "REJECTED")
    assert result["message"] == "labels.long: key and value are 1004 bytes, more than the maximum of 256 bytes"


def test_an_environment_whose_record_was_withdrawn_is_built_again(stack: Stack) -> None:
    shell = PYTHON.replace("packages", f'LOST = "{secrets.token_hex(4)}"; packages')
    before = submit(stack, "printf %s $LOST", shell=shell)
    key = before["environment"]["key"]

    async def withdraw(environments: Environments) -> None:
        await environments.append_removed(EnvironmentRemoved(key=key, reason="a test"), "test")

    with_environments(stack, withdraw)
    after = submit(stack, "printf %s $LOST", shell=shell)
    assert (after["outcome"], after["environment"]["key"], after["environment"]["hit"]) == ("OK", key, False)


def test_an_environment_that_is_not_in_the_store_any_more_is_built_again(stack: Stack) -> None:
    """A hit is believed by the builder and checked by the runner: `cache-lost`, then a second build."""
    shell = PYTHON.replace("packages", f'LOST = "{secrets.token_hex(4)}"; packages')
    key = submit(stack, "printf %s $LOST", shell=shell)["environment"]["key"]
    gone = "/nix/store/" + "0" * 32 + "-collected"

    async def lose_a_path(environments: Environments) -> None:
        built = await environments.find(key)
        assert built is not None
        await environments.append_built(msgspec.structs.replace(built, closure=(*built.closure, gone), worker="test"))

    with_environments(stack, lose_a_path)
    after = submit(stack, "printf %s $LOST", shell=shell)
    assert (after["outcome"], after["environment"]["hit"], after["attempts"]) == ("OK", False, {"builder": 2, "runner": 2})
    listed = json.loads(stack.cutor("events", after["id"], "--json").stdout)
    kinds = [event["kind"] for event in listed if event["kind"] not in ("leased", "cleaned")]
    assert kinds == ["submitted", "cache-built", "cache-lost", "cache-built", "ran", "finished"]


def with_environments(stack: Stack, act: Callable[[Environments], Awaitable[None]]) -> None:
    async def connected() -> None:
        async with Client(stack.server) as client:
            await act(Environments(client.journal.bus))

    asyncio.run(connected())
