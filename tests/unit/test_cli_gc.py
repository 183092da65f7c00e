"""What ``cutor gc`` says of a plan, and the times and sizes that it takes."""

from __future__ import annotations

import io
import json
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
import pytest

from cutor.cli.env_list import lines, since, used_by
from cutor.cli.gc import _agreed, _print_plan, plan_lines
from cutor.cli.host_store import Store
from cutor.cli.main import run
from cutor.cli.quantities import Size, Span
from cutor.model.catalogue import Entry
from cutor.model.collection import Kept, Plan, Taken, Wish
from cutor.model.units import about, counted, size
from cutor.nix.store_report import Inventory
from cutor.operations.catalogue import Given
from cutor.operations.collection import Planned

MIB = 1 << 20
TAKEN = Taken(key="a" * 64, because="not touched for long", frees_bytes=3 * MIB, stands=True, touched_s=0)
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def plan(*because: str, take: tuple[Taken, ...] = (TAKEN,)) -> Plan:
    kept = tuple(Kept(key=str(number), because=why) for number, why in enumerate(because))  # type: ignore[arg-type]
    return Plan(take=take, keep=kept, store_bytes=10 * MIB, garbage_bytes=2 * MIB, left_bytes=5 * MIB)


def first_line(planned: Plan) -> str:
    return next(iter(plan_lines(planned, Wish())))


def test_a_plan_is_said_in_numbers() -> None:
    assert list(plan_lines(plan(), Wish())) == [
        "of the store's 10.0 MiB, 5.0 MiB would go: 3.0 MiB of 1 environment and 2.0 MiB that nothing needs"
    ]
    assert first_line(plan(take=(TAKEN, TAKEN))).endswith(": 3.0 MiB of 2 environments and 2.0 MiB that nothing needs")


def test_a_plan_names_no_part_that_is_empty() -> None:
    garbage = msgspec.structs.replace(plan(take=()), left_bytes=8 * MIB)
    assert first_line(garbage) == "of the store's 10.0 MiB, 2.0 MiB would go: 2.0 MiB that nothing needs"
    clean = msgspec.structs.replace(plan(), garbage_bytes=0)
    assert first_line(clean) == "of the store's 10.0 MiB, 5.0 MiB would go: 5.0 MiB of 1 environment"
    nothing = msgspec.structs.replace(garbage, garbage_bytes=0, left_bytes=10 * MIB)
    assert first_line(nothing) == "of the store's 10.0 MiB, 0 bytes would go: 0 bytes that nothing needs"


def test_thousands_are_set_apart() -> None:
    said = [counted(number, "path") for number in (0, 1, 999, 1_250_000)]
    assert said == ["0 paths", "1 path", "999 paths", "1,250,000 paths"]


def test_what_stays_is_counted_with_the_reasons() -> None:
    kept = plan("in use", "not selected", "pinned", "in use", "not selected", "another stack's")
    assert list(plan_lines(kept, Wish()))[1] == (
        "6 environments would stay: 2 in use, 2 not selected, 1 pinned, 1 another stack's"
    )
    assert list(plan_lines(plan("not selected"), Wish()))[1] == "1 environment would stay: 1 not selected"


def test_a_store_that_stays_too_large_is_told_of() -> None:
    assert list(plan_lines(plan(), Wish(max_bytes=5 * MIB)))[1:] == []
    assert (
        list(plan_lines(plan(), Wish(max_bytes=5 * MIB - 1)))[1]
        == "5.0 MiB stay, more than 5.0 MiB: what else may go frees nothing"
    )


@pytest.mark.parametrize("least_bytes", [8 * MIB, 8 * MIB + 1])
def test_a_plan_that_leaves_builds_waiting_says_so(capsys: pytest.CaptureFixture[str], least_bytes: int) -> None:
    """Five are freed by the plan, three are free."""
    inventory = Inventory(paths=(), nar_bytes=(), keys=(), others=(), free_bytes=3 * MIB, size_bytes=99 * MIB, whole=True)
    _print_plan(Planned(plan(), inventory), Wish(), Store(store_volume="s", var_volume="v", engine=None), least_bytes)
    printed = capsys.readouterr().out.splitlines()
    said = "builds would still wait: they need 8.0 MiB free (nix.min_free_bytes), this leaves 8.0 MiB"
    assert (said in printed) is (least_bytes > 8 * MIB)


@pytest.mark.parametrize(
    ("answers", "agreed", "said"),
    [
        ("y\n", True, []),
        ("YES\n", True, []),
        ("n\n", False, ["nothing is deleted"]),
        ("\n", False, ["nothing is deleted"]),
        ("maybe\ny\n", True, ["answer with y or n"]),
    ],
)
def test_a_question_is_answered_with_yes_or_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answers: str, agreed: bool, said: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    assert _agreed(plan()) is agreed
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("Delete this? [y/N]") == answers.count("\n")
    lines = [line.rpartition(": ")[2] for line in printed.err.splitlines()]  # nobody's Enter ends the question's line here
    assert [line for line in lines if line] == said


def test_who_leaves_the_question_is_told_what_a_no_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(click.Abort):
        _agreed(plan())
    assert capsys.readouterr().err.endswith("\nnothing is deleted\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json"], "--json asks nobody: give --yes, or --dry-run"),
        (["--all", "--older-than", "0s", "--yes"], "--all takes all that may go"),
        (["--all", "--max-size", "0B", "--dry-run"], "--all takes all that may go"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert run(["gc", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "done"),
    [("gc", ["gc", "--all", "--yes"], {}), ("env_remove", ["env", "remove", "866fa535"], {"removals": []})],
)
def test_an_interruption_is_a_document_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    arguments: list[str],
    done: dict[str, list[str]],
) -> None:
    def interrupted(work: Coroutine[Any, Any, Any]) -> None:
        work.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(f"cutor.cli.{module}.run", interrupted)
    assert run([*arguments, "--json"]) == 130
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": {"message": "interrupted", "exit_code": 130}} | done
    assert said.err.endswith("cutor: interrupted\n")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90 min", 5400), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)]
)
def test_a_time_has_a_unit(text: str, seconds: int) -> None:
    assert Span().convert(text, None, None) == seconds


@pytest.mark.parametrize(("text", "size"), [("0B", 0), ("20GiB", 20 << 30), ("1 TiB", 1 << 40)])
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1.5d", "1 day", "30D", "", "1d1d", "9999999999999999d", "٣d", "1m"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time: a whole number with one of s, min, h, d, w, such as 30d"):
        Span().convert(text, None, None)


@pytest.mark.parametrize("text", ["20", "20GB", "-1GiB", "1.5GiB", "9999999999999TiB", "20G"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no size: .*, such as 20GiB"):
        Size().convert(text, None, None)


def test_amounts_are_read_at_a_glance() -> None:
    assert [about(count) for count in (0, 1, 1023, 1536, 5 * MIB, 3 << 30, 100 << 40)] == [
        *("0 bytes", "1 byte", "1023 bytes", "1.5 KiB", "5.0 MiB", "3.0 GiB", "100.0 TiB"),
    ]
    assert [size(count) for count in (2 << 40, (2 << 40) + (1 << 30))] == ["2 TiB", "2049 GiB"]


def test_one_thing_is_not_said_to_be_several() -> None:
    assert [counted(count, "path") for count in (0, 1, 2)] == ["0 paths", "1 path", "2 paths"]


def test_a_listing_shows_what_is_known_and_dashes_for_the_rest() -> None:
    known = Entry(
        key="ab" * 32,
        derivation="/nix/store/00000000000000000000000000000000-nix-shell.drv",
        closure_paths=3,
        closure_bytes=5 * MIB,
        worker="builder-1",
        built_at="2026-11-26 11:00:00.5",
        builds=1,
        uses=4,
        hits=3,
        first_used_at="2026-11-26 11:00:01",
        last_used_at="2026-11-26 11:59:00",
        removed=False,
        removed_at=None,
        removal_reason=None,
        pinned=True,
        private_to=None,
        waiting=0,
    )
    of = Given(tenant="batch", id="s1", labels={"sheet": "2", "course": "c", "cutor": "x"})
    [line] = lines([known], {known.key: of}, NOW)
    assert tuple(line) == ("abababababab", "built, pinned", "5.0 MiB", "4", "3", "1 min ago", "course=c, sheet=2")
    assert (since(None, NOW), used_by(None)) == ("\N{EN DASH}", "\N{EN DASH}")
    assert since("2026-11-26 12:00:01", NOW) == "0 s ago", "clocks differ"
    assert used_by(msgspec.structs.replace(of, labels={"cutor": "env-build"})) == "nobody (env build)"
    assert used_by(msgspec.structs.replace(of, labels={"cutor": "mine"})) == "batch/s1"
    assert used_by(Given(tenant="default", id="s1", labels={})) == "s1"
    assert used_by(Given(tenant="default", id="s1", labels={"cutor": "env-build", "course": "c"})) == "course=c"
