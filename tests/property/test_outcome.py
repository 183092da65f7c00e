"""Every combination of facts about a stage has the outcome that the list of precedence says, by an oracle of its own."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cutor.jail.inside.measure import KilledBy as KilledByInside
from cutor.jail.inside.measure import Output, Result
from cutor.jail.inside.protocol import FrameReader, encode
from cutor.jail.report import Report, decode_frame, report_of
from cutor.model.events import Stage
from cutor.model.limits import DEFAULT_LIMITS
from cutor.model.outcome import KilledBy, StageOutcome, StageReport, classify
from cutor.model.stages import judge

LIMIT: Final = DEFAULT_LIMITS.run.default
ORDER: Final = ("XX", "CANCELLED", "MLE", "OLE", "FSE", "TLE_CPU", "TLE_WALL", "SG", "RE", "WA", "OK")
"""By precedence: the first whose condition holds is the outcome."""

KILLS: Final = {
    "cancel": "CANCELLED",
    "memory": "MLE",
    "stdout": "OLE",
    "stderr": "OLE",
    "store": "FSE",
    "cpu_time": "TLE_CPU",
    "wall_time": "TLE_WALL",
}
"""What each kill of cutor's says of the program. A new one needs its line here."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that an outcome may depend on. ``as_expected`` is null where no output was expected."""

    exit_code: int | None = None
    signal_number: int | None = None
    killed_by: Any = None
    oom_kills: int = 0
    fault: str | None = None
    as_expected: bool | None = None

    @property
    def unknown(self) -> bool:
        """Whether nothing at all is known of the program's end."""
        return (self.exit_code, self.signal_number, self.killed_by, self.oom_kills) == (None, None, None, 0)

    def report(self, stdout: bytes = b"printed", stderr: bytes = b"") -> StageReport:
        facts = {name: getattr(self, name) for name in self.__struct_fields__ if name != "as_expected"}
        return StageReport(
            **facts, stdout=stdout, stderr=stderr, stdout_bytes_total=len(stdout), stderr_bytes_total=len(stderr)
        )

    def judged(self, report: StageReport | None = None) -> Stage:
        report = self.report() if report is None else report
        expected = {None: None, True: report.stdout, False: report.stdout + b"more"}[self.as_expected]
        return judge(report, LIMIT, expected_output=expected)


CONDITIONS: Final[dict[str, Callable[[Facts], bool]]] = {
    "XX": lambda facts: facts.fault is not None or facts.unknown,
    "MLE": lambda facts: facts.oom_kills > 0,
    "FSE": lambda facts: facts.signal_number == signal.SIGXFSZ,
    "SG": lambda facts: facts.signal_number is not None,
    "RE": lambda facts: facts.exit_code not in (None, 0),
    "WA": lambda facts: facts.as_expected is False,
    "OK": lambda facts: True,
}


def holding(facts: Facts) -> set[str]:
    """Return every outcome whose condition holds."""
    by_kill = {KILLS[facts.killed_by]} if facts.killed_by else set()
    return by_kill | {outcome for outcome, holds in CONDITIONS.items() if holds(facts)}


def without(facts: Facts, outcome: str) -> Facts:
    """Return the same facts but for that which decided; a program of which nothing would be left to know ended with 0."""
    changes: dict[str, Any] = {
        "XX": {"fault": None},
        "MLE": {"oom_kills": 0, "killed_by": None if facts.killed_by == "memory" else facts.killed_by},
        "FSE": {
            "signal_number": None if facts.signal_number == signal.SIGXFSZ else facts.signal_number,
            "killed_by": None if facts.killed_by == "store" else facts.killed_by,
        },
        "SG": {"signal_number": None},
        "RE": {"exit_code": 0},
        "WA": {"as_expected": True},
    }
    left = msgspec.structs.replace(facts, **changes.get(outcome, {"killed_by": None}))
    return msgspec.structs.replace(left, exit_code=0) if left.unknown else left


def every_combination() -> Iterator[Facts]:
    """Yield all facts that one report can hold: an end is an exit code, a signal or unknown, never two of them."""
    ends: list[dict[str, int]] = [{}, *({"exit_code": code} for code in (0, 1, 126, 137, 139, 153, 255))]
    ends += [{"signal_number": int(number)} for number in (1, 6, 9, 11, signal.SIGXCPU, signal.SIGXFSZ, 64)]
    kills = (None, *get_args(KilledBy))
    for end, killed_by, oom_kills, fault, expected in itertools.product(
        ends, kills, (0, 1, 7), (None, "", "no nsjail"), (None, True, False)
    ):
        if killed_by != "memory" or oom_kills:  # a kill for memory follows the kernel's
            yield Facts(**end, killed_by=killed_by, oom_kills=oom_kills, fault=fault, as_expected=expected)


COMBINATIONS: Final = tuple(every_combination())


def test_every_kill_and_every_outcome_has_its_place() -> None:
    assert set(KILLS) == set(get_args(KilledBy)) == set(get_args(KilledByInside))
    assert {*ORDER, "SKIPPED"} == set(get_args(StageOutcome))
    assert set(ORDER) == {*CONDITIONS, *KILLS.values()}


def test_the_outcome_is_the_first_of_the_list_whose_condition_holds() -> None:
    seen = set()
    for facts in COMBINATIONS:
        stage = facts.judged()
        assert stage.outcome == min(holding(facts), key=ORDER.index), facts
        assert classify(facts.report()) == (stage.outcome if stage.outcome != "WA" else "OK"), facts
        seen.add(stage.outcome)
    assert seen == set(ORDER)


def test_an_exit_code_and_a_signal_are_never_both_there_and_are_those_of_the_report() -> None:
    for facts in COMBINATIONS:
        stage = facts.judged()
        assert stage.exit_code is None or stage.signal is None
        assert (stage.exit_code, stage.signal and stage.signal.number) == (facts.exit_code, facts.signal_number)
    both = judge(StageReport(exit_code=1, signal_number=9), LIMIT)  # no container gets such a report through
    assert (both.exit_code, both.signal) == (1, None)


def test_without_the_fact_that_decided_the_outcome_is_further_down_the_list() -> None:
    for facts in COMBINATIONS:
        outcome = facts.judged().outcome
        if outcome == "OK" or (outcome == "XX" and facts.fault is None):
            continue  # nothing decided
        left = without(facts, outcome)
        assert ORDER.index(left.judged().outcome) > ORDER.index(outcome), (facts, left)


def test_an_outcome_survives_the_way_out_of_the_container() -> None:
    """What a container reports as a frame is judged as if it had been measured here."""
    for facts in COMBINATIONS:
        report = facts.report(stderr=b"e")
        measured = {name: getattr(facts, name) for name in Facts.__struct_fields__ if name != "as_expected"}
        outputs = {"stdout": Output([report.stdout], len(report.stdout)), "stderr": Output([b"e"], 1)}
        result = Result(**measured, **outputs)  # type: ignore[arg-type]
        (frame,) = FrameReader().feed(
            encode({"type": "report", "kind": "run", "index": 0, **result.header()}, b"".join(result.body()))
        )
        header = decode_frame(frame)
        assert isinstance(header, Report)
        assert facts.judged(report_of(header, frame.body, LIMIT)) == facts.judged(report)


LIES: Final = (
    b"",
    b"time limit exceeded",
    b"Killed",
    b"Out of memory",
    b"Segmentation fault (core dumped)",
    b"XX",
    b"\0\xff" * 9,
)


def check_silent(facts: Facts, stdout: bytes, stderr: bytes) -> None:
    """What was printed changes nothing, but for the comparison with the expected output, which is told here as a fact."""
    told, silent = facts.judged(facts.report(stdout, stderr)), facts.judged(facts.report(b"", b""))
    outcomes = [(stage.outcome, stage.exit_code, stage.signal, stage.message) for stage in (told, silent)]
    assert outcomes[0] == outcomes[1], (facts, stdout, stderr)


def test_no_text_that_sounds_like_an_outcome_decides_anything() -> None:
    for facts, lie in itertools.product([facts for facts in COMBINATIONS if facts.fault is None], LIES):
        check_silent(facts, b"", lie)
        check_silent(facts, lie, b"")


@given(st.sampled_from(COMBINATIONS), st.binary(max_size=50), st.binary(max_size=50))
def test_no_bytes_decide_anything(facts: Facts, stdout: bytes, stderr: bytes) -> None:
    check_silent(facts, stdout, stderr)


ENDINGS: Final = {
    "exit 139": Facts(exit_code=139),
    "a segmentation fault": Facts(signal_number=signal.SIGSEGV),
    "a program that kills itself": Facts(signal_number=signal.SIGKILL),
    "a kill by cutor": Facts(signal_number=signal.SIGKILL, killed_by="wall_time"),
    "a kill by the kernel": Facts(signal_number=signal.SIGKILL, killed_by="memory", oom_kills=1),
}


def test_five_endings_are_told_apart() -> None:
    stages = [facts.judged() for facts in ENDINGS.values()]
    told = [(stage.outcome, stage.exit_code, stage.signal and stage.signal.name, stage.message) for stage in stages]
    assert len(set(told)) == len(ENDINGS)
    assert [(outcome, code, name) for outcome, code, name, _ in told] == [
        ("RE", 139, None),
        ("SG", None, "SIGSEGV"),
        ("SG", None, "SIGKILL"),
        ("TLE_WALL", None, "SIGKILL"),
        ("MLE", None, "SIGKILL"),
    ]
    assert told[3][3] == "took longer than 10000 ms"
    assert told[4][3] == "needed more than 256 MiB of memory"
