"""A result as a table: what stands in its cells, with nothing in them that a terminal would obey."""

import base64

from cutor.cli.rows import EXCERPT_LINES, excerpt, rows
from cutor.model.events import Output, Signal, Stage, output
from cutor.model.result import Result
from cutor.model.state import Attempts


def result(*runs: Stage, compile_stage: Stage | None = None) -> Result:
    return Result(
        id="s1",
        tenant="default",
        status="FINISHED",
        outcome="OK",
        dependencies=Stage(outcome="OK", exit_code=0, wall_time_ms=3),
        compile=compile_stage,
        run=runs,
        environment=None,
        attempts=Attempts(),
        caused_by=None,
        labels={},
        submitted_at="",
        finished_at=None,
        cleaned_at=None,
        message=None,
    )


def test_a_row_a_stage_in_order() -> None:
    shown = rows(result(Stage(outcome="OK", name="one"), Stage(outcome="WA"), compile_stage=Stage(outcome="OK")))
    assert [(row.stage, row.outcome) for row in shown] == [
        ("dependencies", "OK"),
        ("compile", "OK"),
        ("run 1 one", "OK"),
        ("run 2", "WA"),
    ]


def test_skipped_test_cases_share_a_row() -> None:
    skipped = Stage(outcome="SKIPPED")
    shown = rows(result(Stage(outcome="RE", exit_code=1), *[skipped] * 999))
    assert [(row.stage, row.outcome) for row in shown[1:]] == [("run 1", "RE"), ("run 2…1000", "SKIPPED")]
    assert [row.stage for row in rows(result(skipped))[1:]] == ["run 1"]


def test_unknown_is_empty_and_zero_is_zero() -> None:
    known = rows(result(Stage(outcome="OK", exit_code=0, cpu_time_ms=0, wall_time_ms=0, memory_peak_bytes=0)))[-1]
    assert (known.ended, known.cpu_ms, known.wall_ms, known.memory) == ("exit 0", "0", "0", "0.0 MiB")
    unknown = rows(result(Stage(outcome="TLE_WALL")))[-1]
    assert (unknown.ended, unknown.cpu_ms, unknown.wall_ms, unknown.memory) == ("", "", "", "")


def test_a_signal_is_shown_by_name() -> None:
    assert rows(result(Stage(outcome="SG", signal=Signal(number=11, name="SIGSEGV"))))[-1].ended == "SIGSEGV"


def test_control_characters_in_outputs_and_names_are_visible() -> None:
    row = rows(result(Stage(outcome="OK", name="\x1b]0;x\x07", stdout=output(b"a\x1b[2Jb\rc\n", 9))))[-1]
    assert row.stage == "run 1 \\x1b]0;x\\x07"
    assert row.stdout == "a\\x1b[2Jb\\rc"


def test_an_excerpt_is_the_start_of_stdout_and_the_end_of_stderr() -> None:
    lines = "".join(f"line {n}\n" for n in range(100)).encode()
    both = output(lines, len(lines))
    assert excerpt(both, tail=False).startswith("line 0\n")
    assert excerpt(both, tail=False).endswith(f"… ({len(lines)} bytes)")
    assert excerpt(both, tail=True).endswith("line 99")
    assert excerpt(both, tail=True).count("\n") == EXCERPT_LINES - 1


def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    binary = Output(encoding="base64", data=base64.b64encode(b"\xff\x00ok").decode(), bytes_total=4)
    assert excerpt(binary, tail=False) == "\\xff\\x00ok"


def test_a_truncated_output_says_how_much_there_was() -> None:
    assert excerpt(output(b"abc", 1000), tail=False) == "abc… (1000 bytes)"
