"""What a submission can count on, end to end on a live stack: endings told apart, nothing of the host, environments."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import time
from collections.abc import Awaitable, Callable

import msgspec

from cutor import Client
from cutor.journal.environments import Environments
from cutor.model.environments import EnvironmentRemoved
from cutor.model.result import Result
from cutor.model.subjects import Address, event_subject, fence
from tests.integration.live_submissions import (
    PYTHON,
    cleaned,
    events,
    first,
    submit,
    with_client,
)
from tests.live_stack import Stack
from tests.served import containers

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


def test_a_hit_starts_no_build_container_and_takes_next_to_no_time(stack: Stack) -> None:
    """Docker tells of every container that is made, as it is made: for a hit, of no build's."""
    labels = '{{index .Actor.Attributes "cutor.submission"}} {{index .Actor.Attributes "cutor.role"}}'
    command = ["docker", "events", "--filter", f"label=cutor={stack.instance}", "--filter", "event=create", "--format", labels]
    shell = PYTHON.replace("packages", f'ONLY_FOR = "{secrets.token_hex(4)}"; packages')
    with subprocess.Popen([*command, "--since", str(int(time.time()))], stdout=subprocess.PIPE, text=True) as listening:
        cold, hit = (submit(stack, "true", shell=shell) for _ in range(2))
        last = submit(stack, "true", shell=shell.replace("ONLY_FOR", "ONLY_FOR_LAST"))
        assert listening.stdout is not None
        made = []
        while f"default/{last['id']} builder" not in made:
            made.append(listening.stdout.readline().strip())
        listening.terminate()
    assert [line for line in made if cold["id"] in line] == [f"default/{cold['id']} builder"]
    assert [line for line in made if hit["id"] in line] == []
    stage = hit["dependencies"]
    assert (hit["environment"]["hit"], stage["outcome"], stage["exit_code"], stage["cpu_time_ms"]) == (True, "OK", None, None)
    assert stage["wall_time_ms"] < cold["dependencies"]["wall_time_ms"]


def test_a_first_event_that_is_no_request_ends_as_rejected(stack: Stack) -> None:
    address = Address("default", secrets.token_hex(8))

    async def append() -> Result:
        async with Client(stack.server) as client:
            subject = event_subject(address, "submitted")
            await client.journal.bus.append(subject, b"{}", message_id=address.id, fence=fence(address), expected_sequence=0)
            return await client.result(address.id, wait=True, timeout_s=240)

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
        known = await environments.find(key)
        assert known is not None
        closure = (*known.built.closure, gone)
        await environments.append_built(msgspec.structs.replace(known.built, closure=closure, worker="test"))

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
