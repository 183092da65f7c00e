"""A result as a table: what stands in its cells, with nothing in them that a terminal would obey."""

import base64
from datetime import UTC, datetime

import msgspec
import pytest

from cutor.cli.render import print_result
from cutor.cli.rows import EXCERPT_LINES, LINE_CHARACTERS, SKIPPED_ROWS, UNKNOWN, excerpt, rows
from cutor.model.events import Output, Signal, Stage, output
from cutor.model.result import Result
from tests.unit.histories import ended


def result(*runs: Stage, compile_stage: Stage | None = None) -> Result:
    built = Stage(outcome="OK", exit_code=0, wall_time_ms=3)
    return ended(dependencies=built, compile=compile_stage, run=runs, environment=None, submitted_at="", finished_at=None)


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


def test_skipped_test_cases_that_have_names_show_them() -> None:
    def stages(*names: str | None) -> list[str]:
        return [
            row.stage for row in rows(result(Stage(outcome="WA"), *(Stage(outcome="SKIPPED", name=name) for name in names)))
        ]

    assert stages("small", "\x1b[2Jlarge")[2:] == ["run 2 small", "run 3 \\x1b[2Jlarge"]
    assert stages(None, None, "odd", None)[2:] == ["run 2…3", "run 4 odd", "run 5"]
    many = stages(*(f"case {number}" for number in range(1000)))[2:]
    assert (len(many), many[0], many[-1]) == (SKIPPED_ROWS + 1, "run 2 case 0", f"run {SKIPPED_ROWS + 2}…1001")


def test_unknown_is_not_zero() -> None:
    known = rows(result(Stage(outcome="OK", exit_code=0, cpu_time_ms=0, wall_time_ms=0, memory_peak_bytes=0)))[-1]
    assert (known.ended, known.cpu_ms, known.wall_ms, known.memory) == ("exit 0", "0", "0", "0.0 MiB")
    unknown = rows(result(Stage(outcome="TLE_WALL")))[-1]
    assert (unknown.ended, unknown.cpu_ms, unknown.wall_ms, unknown.memory) == ("", "", "", "\N{EN DASH}")


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
    assert excerpt(both, tail=False).endswith(f"line 19\n… 80 lines below, {len(lines)} bytes in all")
    assert excerpt(both, tail=True).startswith(f"… 80 lines above, {len(lines)} bytes in all\nline 80\n")
    assert excerpt(both, tail=True).endswith("line 99")
    assert excerpt(both, tail=True).count("\n") == EXCERPT_LINES


def test_an_output_of_a_few_lines_is_shown_whole() -> None:
    text = "\n".join(f"line {n}" for n in range(EXCERPT_LINES))
    assert excerpt(output(f"{text}\n".encode(), len(text) + 1), tail=True) == text


def test_a_long_line_is_cut_and_says_so() -> None:
    long = b"x" * 100_000
    assert excerpt(output(long, len(long)), tail=True) == "x" * LINE_CHARACTERS + "… (100000 bytes in this line)"


def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    binary = Output(encoding="base64", data=base64.b64encode(b"\xff\x00ok").decode(), bytes_total=4)
    assert excerpt(binary, tail=False) == "\\xff\\x00ok"


def test_a_truncated_output_says_how_much_there_was() -> None:
    assert excerpt(output(b"abc", 1000), tail=False) == "abc\n… the rest was not kept, 1,000 bytes in all"


NOW = datetime(2026, 1, 31, 12, 3, 20, tzinfo=UTC)


def printed(capsys: pytest.CaptureFixture[str], shown: Result, doing: str | None = None) -> str:
    print_result(shown, doing, now=NOW)
    return capsys.readouterr().out


def test_a_queued_submission_says_what_it_waits_for_and_since_when(capsys: pytest.CaptureFixture[str]) -> None:
    queued = msgspec.structs.replace(
        result(), status="SUBMITTED", outcome=None, dependencies=None, submitted_at="2026-01-31T12:00:00.123456Z"
    )
    assert printed(capsys, queued, "waiting for a builder").splitlines() == [
        "default/s1 SUBMITTED: waiting for a builder",
        "submitted 2026-01-31T12:00:00Z, 3 min ago",
    ]


def test_a_cancelled_submission_says_when(capsys: pytest.CaptureFixture[str]) -> None:
    cancelled = msgspec.structs.replace(
        result(),
        status="CANCELLED",
        outcome="CANCELLED",
        submitted_at="2026-01-31T12:00:00.123456Z",
        finished_at="2026-01-31T12:00:05.000001Z",
    )
    assert "submitted 2026-01-31T12:00:00Z, cancelled 2026-01-31T12:00:05Z" in printed(capsys, cancelled)


def test_no_line_of_a_program_starts_where_lines_of_ours_do(capsys: pytest.CaptureFixture[str]) -> None:
    fake = b"fine\nrun 2, stdout:\ndefault/s1 OK\n"
    out = printed(
        capsys,
        msgspec.structs.replace(
            result(Stage(outcome="WA", stdout=output(fake, len(fake)), message="differs\nrun 3: OK")),
            submitted_at="2026-01-31T12:00:00.123456Z",
        ),
    )
    assert "    run 2, stdout:\n    default/s1 OK\n" in out
    assert "run 1: differs\n    run 3: OK\n" in out


def test_what_was_measured_is_a_line_a_stage_where_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 200
    ended = result(Stage(outcome="OK", name=name, exit_code=0, wall_time_ms=12))
    out = printed(capsys, msgspec.structs.replace(ended, submitted_at="2026-01-31T12:00:00.123456Z"))
    assert "" not in out.splitlines()
    assert all(line == line.rstrip() for line in out.splitlines())
    [row] = [line for line in out.splitlines() if line.startswith("run 1")]
    assert row.split() == ["run", "1", name, "OK", "exit", "0", "12", UNKNOWN]
