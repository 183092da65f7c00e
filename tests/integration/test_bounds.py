"""Bounds on a live stack: whoever does not check is refused by the builder, and all stages together have a time."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import msgspec
import pytest

from cutor import Client
from cutor.model.errors import InvalidRequest
from cutor.model.limits import BOUND_CEILINGS
from cutor.model.request import request_from
from cutor.model.request_checks import ARG_BYTES
from cutor.model.result import Result
from cutor.model.subjects import Address
from tests.attacks.campaign import unchecked
from tests.bare_stack import User
from tests.integration.live_submissions import document, submit, with_client
from tests.live_stack import Stack

MAXIMUM_BYTES: Final = 2 << 30
OVER: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "files": (
        document("true", files={f"f{n}": "" for n in range(255)}),
        "files: 257 are more than the maximum of 256 files",
    ),
    "file_name_bytes": (
        document("true", files={f"{'d' * 200}/{'f' * 55}": ""}),
        f"files: the name '{'d' * 40}'… has 256 bytes; the maximum is 255 bytes",
    ),
    "test_cases": (
        document("true", test_cases=[{}] * 1001),
        "test_cases: 1001 are more than the maximum of 1000 test cases",
    ),
    "args": (
        document("true", test_cases=[{"args": ["x"] * 257}]),
        "test_cases[0].args: 257 are more than the maximum of 256 arguments",
    ),
    "labels": (
        document("true", labels={str(n): "" for n in range(33)}),
        "labels: 33 are more than the maximum of 32 labels",
    ),
    "label_bytes": (
        document("true", labels={"long": "x" * 1000}),
        "labels.long: key and value are 1004 bytes, more than the maximum of 256 bytes",
    ),
    "a limit": (
        document("true", limits={"run": {"memory_bytes": MAXIMUM_BYTES + 1}}),
        f"limits.run.memory_bytes is {MAXIMUM_BYTES + 1}: more than the maximum of {MAXIMUM_BYTES} bytes",
    ),
}
"""Requests that are over by one or more, by what they are over, with the line that says so."""


async def told_by_the_client(client: Client, request: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        await client.submit(request)
    return str(caught.value)


async def past_the_client(client: Client, request: dict[str, Any]) -> Result:
    """Append a request as a producer does that checks nothing, and return what came of it."""
    valid = msgspec.structs.replace(unchecked(request_from(request)), address=Address("default", secrets.token_hex(8)))
    await client.journal.submit(valid)
    return await client.result(valid.address.id, wait=True, timeout_s=240)


def test_a_client_that_does_not_check_is_refused_by_the_builder(stack: Stack) -> None:
    """The log holds a request over the stack's bounds: it ends as REJECTED, with the line that the client would have got."""

    async def both(client: Client) -> list[tuple[str, Result]]:
        said = [await told_by_the_client(client, request) for request, _ in OVER.values()]
        results = await asyncio.gather(*(past_the_client(client, request) for request, _ in OVER.values()))
        return list(zip(said, results, strict=True))

    for (said, result), (_, line) in zip(with_client(stack, both), OVER.values(), strict=True):
        assert said == line
        assert (result.status, result.outcome, result.message) == ("REJECTED", "REJECTED", line)
        assert (result.attempts.builder, result.attempts.runner) == (1, 0)


def test_all_stages_together_have_a_time(user: User) -> None:
    """Whatever each of them may take: a stack of its own, whose bound on compile and runs together is 8 s.

    Counted is what the slot is held for: the rest that the third run gets is less than what the two before it left.
    """
    config = user.home / "config.toml"
    config.write_text("[bounds]\nsubmission_wall_time_ms = 8000\n")
    assert user.up("--config", str(config), roles=("builder", "runner")).returncode == 0
    cases = [{"args": [seconds]} for seconds in ("0.1", "0.1", "100", "0.1")]
    result = submit(user.stack, 'sleep "$1"', test_cases=cases, stop_on_failure=False)
    assert [stage["outcome"] for stage in result["run"]] == ["OK", "OK", "TLE_WALL", "SKIPPED"]
    assert result["run"][2]["message"] == "the submission's compile and run stages together took longer than 8000 ms"
    assert result["run"][2]["limits"]["wall_time_ms"] < 8000 - sum(stage["wall_time_ms"] for stage in result["run"][:2])


def test_the_largest_arguments_that_can_be_configured_reach_a_program(user: User) -> None:
    """All of characters that JSON makes the most of, one of them as long as Linux passes any: a stack of its own."""
    config = user.home / "config.toml"
    arg_bytes = BOUND_CEILINGS["arg_bytes"]
    config.write_text(f"[bounds]\narg_bytes = {arg_bytes}\n")
    assert user.up("--config", str(config), roles=("builder", "runner")).returncode == 0
    args = ["\x01" * ARG_BYTES, "\x02" * (arg_bytes - ARG_BYTES - 2)]
    result = submit(user.stack, 'printf "%s\\n" "${#1} ${#2} $#"', test_cases=[{"args": args}])
    assert result["outcome"] == "OK"
    assert result["run"][0]["stdout"]["data"] == f"{len(args[0])} {len(args[1])} 2\n"
