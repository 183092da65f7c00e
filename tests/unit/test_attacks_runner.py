"""The command behind `make attacks`: which attacks it takes, what it counts, how it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.attacks import runner
from tests.attacks.attack import Attack
from tests.attacks.campaign import Verdict, load_attacks
from tests.attacks.runner import PASSES, Reporter, Scale, main, matching
from tests.attacks.stack import StackFailed

GOOD = Verdict("a/good.sh", "OK", "OK", 1.0)
WRONG = Verdict("a/wrong.sh", "OK", "run RE", 1.0, ("outcome: RUN_ERROR is not OK",))
Did = Callable[[Reporter], None]


def running(monkeypatch: pytest.MonkeyPatch, did: Did) -> list[tuple[Any, ...]]:
    """Let `main` run this instead of a stack; return what it asked for."""
    asked: list[tuple[Any, ...]] = []

    def run(attacks: Sequence[Attack], passes: Sequence[str], reporter: Reporter, scale: Scale) -> None:
        asked.append((len(attacks), tuple(passes), scale))
        did(reporter)

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(runner.signal, "signal", lambda *_: None)
    return asked


def raises(error: BaseException) -> Did:
    def did(_: Reporter) -> None:
        raise error

    return did


@pytest.mark.parametrize(
    ("did", "code", "said"),
    [
        (lambda reporter: reporter.show(GOOD), 0, "all as they must be"),
        (lambda reporter: reporter.left("after", []), 0, "left after: nothing"),
        (lambda reporter: reporter.show(WRONG), 1, "1 not as they must be"),
        (lambda reporter: reporter.left("after", ["volumes: x", "mounts: y"]), 1, "2 not as they must be"),
        (raises(StackFailed("cutor up: no engine")), 3, "attacks: cutor up: no engine"),
        (raises(KeyboardInterrupt()), 130, "interrupted; the stack is stopped"),
    ],
)
def test_it_ends_with_what_was_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], did: Did, code: int, said: str
) -> None:
    running(monkeypatch, did)
    assert main([]) == code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_it_takes_every_attack_in_both_passes_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = running(monkeypatch, lambda reporter: reporter.show(GOOD))
    assert main([]) == 0
    assert main(["kernel/*", "--pass", "alone", "--at-once", "4", "--crowd", "7"]) == 0
    every, some = asked
    assert every == (len(load_attacks()), PASSES, Scale())
    assert some == (len(matching(load_attacks(), ["kernel/*"])), ("alone",), Scale(4, crowd=7))


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["no/such"], 2), (["--pass", "third"], 2)])
def test_bad_usage_and_help_start_no_stack(monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int) -> None:
    asked = running(monkeypatch, lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code, asked) == (code, [])


def test_a_line_for_every_verdict_and_for_what_is_wrong_with_it() -> None:
    said: list[str] = []
    reporter = Reporter(said.append, terminal=False)
    reporter.begin("a pass", 2)
    reporter.show(GOOD)
    reporter.show(WRONG)
    assert [line[:2] for line in said[1:]] == ["  ", "! ", "  "]
    assert said[-1].strip() == WRONG.differences[0]
    assert reporter.wrong == 1
