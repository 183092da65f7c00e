"""Test cases, end to end on a live stack: one compile and a thousand runs, compared byte by byte, none sees another."""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter
from typing import Final

import pytest

from cutor import Client
from cutor.model.spill import EVENT_INLINE_BYTES
from cutor.model.subjects import Address
from cutor.roles.results import PAUSE_S
from tests.integration.live_submissions import (
    PATIENCE_S,
    cleaned,
    document,
    events,
    first,
    printed,
    projected,
    request,
    seconds_between,
    submit,
    with_client,
)
from tests.live_stack import Stack

COUNT: Final = 1000
FAILING: Final = 3
ECHO: Final = "read -r line; echo $line"


CASES: Final = [
    {"name": f"case {n}", "input": str(n), "expected_output": "another" if n == FAILING else str(n)} for n in range(COUNT)
]
"""So many test cases, of which one cannot pass."""


@pytest.fixture(scope="module")
def through(stack: Stack) -> str:
    """The id of a thousand test cases that all run: handed in before the first test, so that they run beside the others."""

    async def hand_in(client: Client) -> str:
        return (await client.submit(document(ECHO, test_cases=CASES, stop_on_failure=False))).id

    return with_client(stack, hand_in)


@pytest.mark.usefixtures("through")
def test_a_failure_stops_a_thousand_test_cases(stack: Stack) -> None:
    result = submit(stack, ECHO, test_cases=CASES, stop_on_failure=True)
    assert result["outcome"] == "WRONG_ANSWER"
    assert [stage["outcome"] for stage in result["run"]] == ["OK"] * FAILING + ["WA"] + ["SKIPPED"] * (COUNT - FAILING - 1)
    assert [stage["name"] for stage in result["run"]] == [f"case {n}" for n in range(COUNT)]


COMPARED: Final[list[tuple[str, bytes, bytes | None, bool, bool]]] = [
    # what, printed, expected, same but for trailing white space, same
    ("equal", b"42\n", b"42\n", True, True),
    ("no final newline", b"42\n", b"42", True, False),
    ("carriage returns", b"a\r\nb\r\n", b"a\nb\n", True, False),
    ("blanks and lines at the end", b"42 \t\n\n \n", b"42", True, False),
    ("blanks at a line's end", b"a  \nb", b"a\nb\n", True, False),
    ("form feeds at the end", b"a\x0b\x0c\n", b"a\n", True, False),
    ("blanks at the start", b" 42", b"42", False, False),
    ("a line at the start", b"\n42", b"42", False, False),
    ("a line in the middle", b"a\n\nb", b"a\nb", False, False),
    ("blanks in the middle", b"4  2", b"4 2", False, False),
    ("a carriage return alone", b"a\rb", b"a\nb", False, False),
    ("no white space of ASCII", "42\u00a0".encode(), b"42", False, False),
    ("binary", b"\0\xff\xfe", b"\0\xff\xfe", True, True),
    ("binary that differs", b"\0\xff", b"\0\xfe", False, False),
    ("binary with a newline", b"\xff\0\n", b"\xff\0", True, False),
    ("nothing at all", b"", b"", True, True),
    ("blanks where nothing is expected", b" \n\t\n", b"", True, False),
    ("something where nothing is expected", b"x", b"", False, False),
    ("something where all is well", b"x", None, True, True),
]


@pytest.mark.usefixtures("through")
def test_output_is_compared_as_wanted(stack: Stack) -> None:
    cases = []
    for what, given, expected, *_ in COMPARED:
        case = {"name": what, "encoding": "base64", "input": _base64(given)}
        cases.append(case if expected is None else case | {"expected_output": _base64(expected)})

    async def judged(client: Client) -> list[dict[str, str]]:
        wanted = [
            document("exec cat", test_cases=cases, stop_on_failure=False, compare=how)
            for how in ("trailing_whitespace", "exact")
        ]
        receipts = [await client.submit(one) for one in wanted]
        results = [await client.result(receipt.id, wait=True) for receipt in receipts]
        return [{stage.name or "": stage.outcome for stage in result.run} for result in results]

    for column, got in enumerate(with_client(stack, judged), 3):
        assert got == {case[0]: "OK" if case[column] else "WA" for case in COMPARED}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


TEXT: Final = "é\0\N{GRINNING FACE} \x1b[31m\r\n"
BYTES: Final = bytes(range(256))


@pytest.mark.usefixtures("through")
def test_every_encoding_brings_the_same_bytes_and_results_say_theirs(stack: Stack) -> None:
    inputs = [
        ("utf8", TEXT, TEXT.encode()),
        ("base64", _base64(BYTES), BYTES),
        ("base64", "", b""),
        ("hex", BYTES.hex(), BYTES),
        ("hex", BYTES.hex().upper(), BYTES),
        ("hex", TEXT.encode().hex(), TEXT.encode()),
    ]
    cases = [{"encoding": encoding, "input": text, "expected_output": text} for encoding, text, _ in inputs]
    run = stack.result("-", stdin=request("exec cat", test_cases=cases, compare="exact"))["run"]
    assert [stage["outcome"] for stage in run] == ["OK"] * len(inputs)
    assert [printed(stage["stdout"]) for stage in run] == [data for *_, data in inputs]
    assert [stage["stdout"]["encoding"] for stage in run] == ["utf8", "base64", "utf8", "base64", "base64", "utf8"]
    assert [stage["stdout"]["bytes_total"] for stage in run] == [len(data) for *_, data in inputs]


ISOLATED: Final = """
for place in /box /tmp /dev/shm; do (cd $place; echo $place: *); done
cat built sub/file; echo changed > built; rm sub/file cutor-compile.sh
for place in /box /tmp /dev/shm /box/sub; do echo mine > $place/left; done
[ -s /box/sub/left ] && echo written
[ "$1" != killed ] || kill -KILL $$
[ "$1" != late ] || sleep 60
"""


@pytest.mark.usefixtures("through")
def test_each_test_case_starts_from_what_one_compile_left_and_sees_nothing_of_another(stack: Stack) -> None:
    compile_script = "mkdir sub; echo from compile | tee built > sub/file; touch /tmp/gone /dev/shm/gone; echo compiled"
    cases = [{}, {"args": ["killed"]}, {}, {"args": ["late"]}, {}]
    result = submit(
        stack,
        ISOLATED,
        files={"cutor-compile.sh": compile_script},
        test_cases=cases,
        stop_on_failure=False,
        limits={"run": {"wall_time_ms": 4000}},
    )
    seen = (
        "/box: built cutor-compile.sh cutor-run.sh shell.nix sub\n/tmp: *\n/dev/shm: *\n" + 2 * "from compile\n" + "written\n"
    )
    assert [stage["stdout"]["data"] for stage in result["run"]] == [seen] * len(cases)
    assert [stage["outcome"] for stage in result["run"]] == ["OK", "SG", "OK", "TLE_WALL", "OK"]
    assert result["compile"]["stdout"]["data"] == "compiled\n"
    assert Counter(event["kind"] for event in events(stack, result["id"]))["compiled"] == 1


@pytest.mark.usefixtures("through")
def test_arguments_arrive_as_they_are(stack: Stack) -> None:
    args = ["two words", "$HOME", "`id`", "", "é", "'", "; exit 3", "-n", "*", "a\nb"]
    stage = first(stack, 'printf "%s\\0" "$@"', test_cases=[{"args": args}])
    assert stage["stdout"]["data"].split("\0")[:-1] == args


@pytest.mark.usefixtures("through")
def test_no_input_is_an_empty_standard_input(stack: Stack) -> None:
    assert first(stack, "wc -c")["stdout"]["data"].strip() == "0"


def test_a_thousand_test_cases_go_into_few_events(stack: Stack, through: str) -> None:
    """All results, in order, in no more events than one a quarter of a second, each far below what a message may have."""

    async def ended(client: Client) -> tuple[list[tuple[str, int, str]], list[str], float]:
        result = await client.result(through, wait=True, timeout_s=2 * PATIENCE_S)
        assert result.outcome == "WRONG_ANSWER"
        assert [stage.outcome for stage in result.run] == ["OK"] * FAILING + ["WA"] + ["OK"] * (COUNT - FAILING - 1)
        assert [stage.name for stage in result.run] == [f"case {n}" for n in range(COUNT)]
        entries = await client.journal.entries(Address("default", through))
        sizes = [(entry.stored.subject.rpartition(".")[2], len(entry.stored.body), "") for entry in entries]
        seconds = seconds_between(result.submitted_at, result.finished_at or "")
        return sizes, [stage.stdout.data for stage in result.run], seconds

    messages, outputs, seconds = with_client(stack, ended)
    assert outputs == [f"{n}\n" for n in range(COUNT)]
    ran = [event["event"] for event in events(stack, through) if event["kind"] == "ran"]
    total, largest = sum(size for _, size, _ in messages), max(size for _, size, _ in messages)
    print(f"{COUNT} test cases: {seconds:.1f} s, {len(ran)} ran events, {total} bytes of events, the largest {largest}")
    assert len(ran) <= seconds / PAUSE_S + 3
    assert largest < EVENT_INLINE_BYTES
    assert [event["index"] for event in ran] == list(itertools.accumulate([0, *(len(event["stages"]) for event in ran)]))[:-1]


def test_a_thousand_test_cases_are_shown_everywhere(stack: Stack, through: str) -> None:
    with_client(stack, lambda client: cleaned(client, through))
    shown = stack.cutor("status", through)
    assert shown.returncode == 1
    assert all(f"case {n}" in shown.stdout.decode() for n in range(COUNT))
    result = json.loads(stack.cutor("status", through, "--json").stdout)
    assert [stage["stdout"]["data"] for stage in result["run"]] == [f"{n}\n" for n in range(COUNT)]
    watched = stack.cutor("watch", through)
    assert watched.returncode == 1
    assert f"{COUNT}: case {COUNT - 1} OK" in watched.stdout.decode()


def test_a_thousand_test_cases_are_rows_of_a_view(stack: Stack, through: str) -> None:
    with_client(stack, lambda client: client.result(through, wait=True))
    columns = "status, outcome, test_cases, test_cases_run, test_cases_passed"
    (row,) = projected(stack, f"select {columns} from submissions where id = '{through}' and status = 'FINISHED'", rows=1)
    assert row == ["FINISHED", "WRONG_ANSWER", COUNT, COUNT, COUNT - 1]
    stages = f"from stages where id = '{through}' and stage = 'run' and is_current"
    (row,) = projected(stack, f"select count(*), sum(outcome = 'OK'), bool_and(name = 'case ' || test_case) {stages}", rows=1)
    assert row == [COUNT, COUNT - 1, True]
