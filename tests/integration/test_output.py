"""Output, end to end on a live stack: exact to the byte, kept up to its cap and after every kill, waited for by nobody."""

from __future__ import annotations

import base64
import random
from typing import Any, Final

import msgspec
import pytest

from cutor import Client
from cutor.model.limits import MIB
from tests.integration.live_submissions import document, events, first, printed, seconds_between, submit, with_client
from tests.live_stack import Stack

EVERY_BYTE: Final = bytes(range(256)) * 40


def test_bytes_are_exact_both_ways(stack: Stack) -> None:
    data = base64.b64encode(EVERY_BYTE).decode()
    case = {"input": data, "expected_output": data, "encoding": "base64"}
    stage = first(stack, "tee /dev/stderr", test_cases=[case], compare="exact")
    assert stage["outcome"] == "OK"
    for output in (stage["stdout"], stage["stderr"]):
        assert (output["encoding"], output["bytes_total"], output["truncated"]) == ("base64", len(EVERY_BYTE), False)
        assert printed(output) == EVERY_BYTE


@pytest.mark.parametrize("data", [b"x" * 300_000 + b"\n", b"\xff\0" * 150_000], ids=["text", "binary"])
def test_output_that_no_event_holds_comes_back_whole(stack: Stack, data: bytes) -> None:
    case = {"input": base64.b64encode(data).decode(), "encoding": "base64"}
    stage = first(stack, "exec cat", test_cases=[case])
    assert (stage["outcome"], printed(stage["stdout"])) == ("OK", data)
    assert "body" not in stage["stdout"]


def test_megabytes_go_in_and_out_at_once(stack: Stack) -> None:
    """A program that writes as it reads: who wrote all of its input first, or read nothing meanwhile, would wait for ever."""
    data = random.Random(1).randbytes(8 * MIB)
    case = {"input": base64.b64encode(data).decode(), "encoding": "base64"}
    stage = first(stack, "exec cat", test_cases=[case], limits={"run": {"stdout_bytes": 16 * MIB, "memory_bytes": 16 * MIB}})
    assert stage["outcome"] == "OK"
    assert printed(stage["stdout"]) == data


def test_the_prefix_is_cut_at_the_cap_to_the_byte(stack: Stack) -> None:
    """Also within a character: then it is no text any more, and comes as the bytes that it is."""
    limits = {"run": {"stdout_bytes": 1001, "stderr_bytes": 1000}}
    cases = [{"input": "é" * 600}, {"input": "é" * 500, "args": ["1>&2"]}, {"input": "é" * 501, "args": ["1>&2"]}]
    run = submit(stack, 'eval "cat $1"', test_cases=cases, limits=limits, stop_on_failure=False)["run"]
    assert [stage["outcome"] for stage in run] == ["OLE", "OK", "OLE"]
    assert run[0]["message"] == "printed more than 1001 bytes to stdout"
    assert run[2]["message"] == "printed more than 1000 bytes to stderr"
    cut, whole, error = run[0]["stdout"], run[1]["stderr"], run[2]["stderr"]
    assert (cut["encoding"], printed(cut), cut["bytes_total"], cut["truncated"]) == (
        "base64",
        ("é" * 600).encode()[:1001],
        1200,
        True,
    )
    assert (whole["data"], whole["bytes_total"], whole["truncated"]) == ("é" * 500, 1000, False)
    assert (error["data"], error["bytes_total"], error["truncated"]) == ("é" * 500, 1002, True)


CAP: Final = 100_000
BEGINNING: Final = b"first \0\xff\n"
KILLS: Final[dict[str, tuple[str, str]]] = {
    # what ends it: what the program does then, the outcome
    "wall time": ("sleep 60", "TLE_WALL"),
    "CPU time": ("while :; do :; done", "TLE_CPU"),
    "memory": ("exec python3 -c 'bytearray(1 << 30)'", "MLE"),
    "stdout": ("exec yes", "OLE"),
    "stderr": ("exec yes >&2", "OLE"),
    "a file": ("exec head -c 5000000 /dev/zero > large", "FSE"),
    "a signal": ("kill -SEGV $$", "SG"),
    "itself": ("kill -KILL $$", "SG"),
}
LIMITS: Final = {
    "wall_time_ms": 60_000,
    "cpu_time_ms": 1000,
    "memory_bytes": 64 * MIB,
    "stdout_bytes": CAP,
    "stderr_bytes": CAP,
    "file_size_bytes": MIB,
}


def test_a_killed_stage_keeps_what_it_printed(stack: Stack) -> None:
    """What is to run into its wall time is a submission of its own: a busy machine needs much of that for the others."""
    script = 'printf "first \\0\\377\\n"; printf "error \\0\\377\\n" >&2; eval "$1"'
    groups = [(["wall time"], LIMITS | {"wall_time_ms": 3000}), ([what for what in KILLS if what != "wall time"], LIMITS)]

    async def ended(client: Client) -> list[dict[str, Any]]:
        receipts = []
        for names, limits in groups:
            cases = [{"name": what, "args": [KILLS[what][0]]} for what in names]
            request = document(script, test_cases=cases, limits={"run": limits}, stop_on_failure=False)
            receipts.append(await client.submit(request))
        results = [await client.result(receipt.id, wait=True) for receipt in receipts]
        return [msgspec.to_builtins(stage) for result in results for stage in result.run]

    run = with_client(stack, ended)
    assert {stage["name"]: stage["outcome"] for stage in run} == {what: outcome for what, (_, outcome) in KILLS.items()}
    for stage in run:
        kept = {"stdout": BEGINNING, "stderr": BEGINNING.replace(b"first", b"error")}
        for name, beginning in kept.items():
            whole = (beginning + b"y\n" * CAP)[:CAP] if stage["name"] == name else beginning
            check_kept(stage[name], whole, over=stage["name"] == name)


def check_kept(output: dict[str, Any], kept: bytes, *, over: bool) -> None:
    """Check an output against what must be kept of it; ``over`` its cap, more than that was counted."""
    assert printed(output) == kept
    assert output["truncated"] is over
    assert (output["bytes_total"] > len(kept)) is over


ORPHANS: Final = 10
ORPHANS_SLEEP_S: Final = 100


def test_an_orphan_that_holds_the_pipes_delays_nothing(stack: Stack) -> None:
    """Its parent is done and nobody waits for it: neither the stage, nor the next one, nor the end of the submission."""
    script = f"trap '' TERM HUP; (sleep {ORPHANS_SLEEP_S}; echo LATE; echo LATE >&2) & echo done"
    result = submit(stack, script, test_cases=[{"input": "x" * 100_000}] * ORPHANS)
    assert result["outcome"] == "OK"
    assert {(stage["stdout"]["data"], stage["stderr"]["data"]) for stage in result["run"]} == {("done\n", "")}
    times = {event["kind"]: event["time"] for event in reversed(events(stack, result["id"]))}
    seconds = seconds_between(times["ran"], times["finished"])
    print(f"{ORPHANS - 1} test cases with orphans took {seconds:.2f} s")
    assert seconds < ORPHANS_SLEEP_S, "less than one of them sleeps"
    assert min(stage["wall_time_ms"] for stage in result["run"]) < 5000
