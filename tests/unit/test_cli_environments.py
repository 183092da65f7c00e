"""What `cutor env build`, `test` and `refresh` print of a result: nothing that a terminal would obey, and nothing left out."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from rich.console import Console

from cutor.cli import env_build, env_refresh, env_show, env_test
from cutor.cli.env_pin import check_shared
from cutor.cli.env_submission import EnvironmentSubmission, facts, print_facts
from cutor.cli.options import Wanted
from cutor.model.catalogue import Entry
from cutor.model.environments import EnvironmentBuilding, EnvironmentBuilt
from cutor.model.events import Stage
from cutor.model.result import Result, result
from cutor.operations.catalogue import EnvironmentUnknown
from cutor.operations.environment_report import EnvironmentReport, Place
from tests.unit.histories import BUILT, SUBMITTED, after, finished, leased, ran
from tests.unit.test_environments import BUILT as ENV_BUILT

DONE = result(after(*BUILT, leased("runner"), ran(0, "OK", "OK"), finished()))
ATTEMPT = EnvironmentSubmission("env-build", None)
FAILED = result(after(SUBMITTED, leased("builder"), finished("DEPENDENCY_ERROR", role="builder")))


def stage(**more: object) -> Result:
    """Return a result with another dependencies stage."""
    assert DONE.dependencies is not None
    return msgspec.structs.replace(DONE, dependencies=msgspec.structs.replace(DONE.dependencies, **more))


def entry(**more: object) -> Entry:
    """Return what the views know of an environment, but for what is asked for."""
    fields = dict.fromkeys(Entry.__struct_fields__)
    counts = {"builds": 1, "uses": 1, "hits": 0, "waiting": 0, "removed": False, "pinned": False, "key": "k1"}
    return Entry(**fields | counts | more)


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())  # type: ignore[misc]


def test_a_built_one_and_one_that_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    built = msgspec.structs.replace(ENV_BUILT, closure_bytes=3 << 20, closure=("a", "b"))
    print_facts(stage(wall_time_ms=12_345), built)
    assert lines(capsys) == {
        "environment": "k1",
        "derivation": "/nix/store/x.drv",
        "size": "3.0 MiB in 2 store paths",
        "built": "yes in 12.3 s",
        "submission": "default/s1",
    }
    assert DONE.environment is not None
    print_facts(stage(), built, kept=False)
    assert lines(capsys)["environment"] == "k1 (of this try alone)"
    hit = msgspec.structs.replace(
        stage(message="it\x1b[2J was there"), environment=msgspec.structs.replace(DONE.environment, hit=True)
    )
    print_facts(hit, None, ("pinned", "yes"), kept=False)
    shown = lines(capsys)
    assert shown["environment"] == "k1", "it was there already, and is everybody's"
    assert shown["built"] == "no, it\\x1b[2J was there"
    assert shown["pinned"] == "yes"
    assert "size" not in shown, "where it may not be read, it is not there"


def test_documents_have_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Wanted()
    wanted.json = True
    env_build._report(wanted, ATTEMPT, DONE, ENV_BUILT, ("pinned", "yes"))
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {*facts(DONE, ENV_BUILT), "pinned", "result"}
    env_build._report(wanted, ATTEMPT, FAILED, None)
    assert set(json.loads(capsys.readouterr().out)) == {"result"}


def refreshed(before: Entry, found: Result, built: EnvironmentBuilt | None = None) -> env_refresh.Refreshed:
    return env_refresh.Refreshed(before, found, built)


def test_a_refresh_says_what_it_was_and_whether_the_key_changed(capsys: pytest.CaptureFixture[str]) -> None:
    env_refresh._report(Wanted(), refreshed(entry(derivation="/nix/store/x.drv"), DONE), ATTEMPT)
    assert lines(capsys)["before"] == "the same derivation"
    env_refresh._report(Wanted(), refreshed(entry(derivation="/nix/store/old.drv", key="k0"), DONE), ATTEMPT)
    said = capsys.readouterr().out
    assert "before      /nix/store/old.drv\n" in said
    assert said.endswith("the key was k0: package set, Nix or settings have changed since\n")


@pytest.mark.parametrize(
    ("stands", "told"),
    [(True, "is what it was: submissions are given that"), (False, "is not known: submissions that need it build it")],
)
def test_a_refresh_that_failed_says_what_became_of_the_old_one(
    capsys: pytest.CaptureFixture[str], stands: bool, told: str
) -> None:
    env_refresh._report(Wanted(), refreshed(entry(key="0123456789abcdef"), FAILED)._replace(stands=stands), ATTEMPT)
    said = capsys.readouterr()
    assert "DEPENDENCY_ERROR" in said.out
    assert said.err == f"cutor: 0123456789ab {told}\n"


def test_what_an_environment_gives_is_text_and_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(directory="/nix/store/x\x1b[2J/bin", package=None, programs=tuple(f"p{n:02}" for n in range(20)))
    found = EnvironmentReport(
        variables={"A\x07": "one\ntwo", "LONG": "x" * 5000}, path=(place,), versions={"lua": "Lua\x1b]0;x\x07 5.4"}, whole=False
    )
    monkeypatch.setattr(
        env_test, "console", lambda: Console(force_terminal=True, color_system=None, width=100, highlight=False)
    )
    env_test._print(found, everything=False)
    shown = capsys.readouterr().out
    assert "p11 and 8 more" in shown
    assert "this is not all" in shown
    assert not {"\x1b", "\x07"} & {*shown}
    assert sum("xx" in line for line in shown.splitlines()) == 1
    assert all(len(line) <= 100 for line in shown.splitlines())
    env_test._print(found, everything=True)
    whole = capsys.readouterr().out
    assert "p19" in whole
    assert whole.count("x") >= 5000


def test_where_nobody_s_terminal_has_a_width_nothing_is_cut_or_folded(capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(directory="/bin", package="\N{HIRAGANA LETTER A}", programs=("a",))
    found = EnvironmentReport(variables={"LONG": "x" * 5000}, path=(place,), versions={"lua": "Lua " * 100}, whole=True)
    env_test._print(found, everything=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        *("", "package  programs", "\N{HIRAGANA LETTER A}       a"),
        *("", "program  says of itself", f"lua      {'Lua ' * 100}".rstrip()),
        *("", "variable  value", f"LONG      {'x' * 5000}"),
    ]


def test_without_a_whole_report_it_does_not_work() -> None:
    report = EnvironmentReport(variables={}, path=(), versions={}, whole=False)
    assert env_test._exit_code(DONE, report) == 1
    assert env_test._exit_code(DONE, msgspec.structs.replace(report, whole=True)) == 0
    assert env_test._exit_code(DONE, None) == 1
    assert env_test._exit_code(FAILED, None) == 1
    assert env_test._report(msgspec.structs.replace(DONE, run=(Stage(outcome="SKIPPED"),))) is None


def test_show_names_who_has_the_claim() -> None:
    claim = EnvironmentBuilding(key="k1", tenant="default", id="s\x1b1", lease_token="t", worker="w1")
    detail = env_show.Detail(environment=entry(), history=[], newest_uses=[], closure=None, programs=None, building=claim)
    shown = list(env_show.lines(detail, datetime.now(UTC)))
    assert "claimed      by default/s\\x1b1, on w1: others wait until that ends" in shown
    free = list(env_show.lines(msgspec.structs.replace(detail, building=None), datetime.now(UTC)))
    assert not any("claimed" in line for line in free)


def test_what_one_submission_has_for_itself_is_not_pinned() -> None:
    check_shared([entry(), entry(key="k2")])
    with pytest.raises(EnvironmentUnknown, match=r"k2 is of default/s1 alone \(`cache: false`\)"):
        check_shared([entry(), entry(key="k2", private_to="default/s1")])
