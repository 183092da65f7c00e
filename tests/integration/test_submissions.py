"""What a submission can count on, end to end on a live stack: endings told apart, limits that hold, nothing of the host."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable

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
from tests.integration.live_submissions import (
    PYTHON,
    cleaned,
    containers,
    document,
    events,
    first,
    submit,
    with_client,
)
from tests.live_stack import Stack

ENDINGS = {
    # program: outcome, exit code, signal
    "exit 139": ("RE", 139, None),
    "kill -SEGV $$": ("SG", None, 11),
    "kill -KILL $$": ("SG", None, 9),
    "exit 0": ("OK", 0, None),
    "no-such-command": ("RE", 127, None),
}


def test_endings_are_told_apart(stack: Stack) -> None:
    run = submit(stack, 'eval "$1"', test_cases=[{"args": [program]} for program in ENDINGS], stop_on_failure=False)["run"]
    found = [(stage["outcome"], stage["exit_code"], stage["signal"] and stage["signal"]["number"]) for stage in run]
    assert dict(zip(ENDINGS, found, strict=True)) == ENDINGS


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


def test_a_finished_submission_leaves_no_container(stack: Stack) -> None:
    result = submit(stack, "true")
    with_client(stack, lambda client: cleaned(client, result["id"]))
    assert containers(result["id"]) == []


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
    wanted = document("true", labels={"long": "x" * 1000})
    valid = validate(request_from(wanted), boundless, secrets.token_hex(8))

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
    kinds = [event["kind"] for event in events(stack, after["id"]) if event["kind"] not in ("leased", "cleaned")]
    assert kinds == ["submitted", "cache-built", "cache-lost", "cache-built", "ran", "finished"]


def with_environments(stack: Stack, act: Callable[[Environments], Awaitable[None]]) -> None:
    async def connected() -> None:
        async with Client(stack.server) as client:
            await act(Environments(client.journal.bus))

    asyncio.run(connected())
