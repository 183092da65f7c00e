"""What a report tells without a plot: the numbers at its head, the tables of single things, and what it leaves out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from cutor.model.limits import STAGE_KINDS
from cutor.model.units import counted
from cutor.report.facts import Facts, Usage
from cutor.report.question import Scope
from cutor.report.sections import Table
from cutor.report.words import NONE, SENTENCE_COLUMNS, count, duration, fit, moment, share, size

MEASURES: Final = {"time": "took longest", "memory": "held most memory", "output": "printed most"}


class Tile(NamedTuple):
    """A number at the head, what it counts, and what somebody would ask next."""

    value: str
    name: str
    note: str


def tiles(facts: Facts) -> list[Tile]:
    """Return what somebody looks at first."""
    totals, whole = facts.totals, facts.latency("whole")
    used = facts.environments[0] if facts.environments else None
    parked, letters = facts.count_of("PARKED"), facts.letters[0].letters if facts.letters else 0
    unended = facts.count_of(None)
    return [
        Tile(count(totals.submissions), "submissions", f"of {counted(totals.tenants, 'tenant')}"),
        Tile(share(totals.ok, totals.ended), "OK", f"{count(totals.ok)} of {count(totals.ended)} that ended"),
        Tile(
            NONE if whole is None else duration(whole.quantiles_us[50] / 1000),
            "median to the end",
            ""
            if whole is None
            else f"p90 {duration(whole.quantiles_us[90] / 1000)}, p99 {duration(whole.quantiles_us[99] / 1000)}",
        ),
        Tile(*_busiest(facts)),
        Tile(
            NONE if used is None else share(used.all_hits, used.all_uses),
            "environment hits",
            "" if used is None else f"{count(used.all_hits)} of {count(used.all_uses)} times",
        ),
        Tile(count(unended), "not ended", _queues(facts)),
        Tile(count(parked), "parked", "given up after their leases"),
        Tile(count(letters), "dead letters", "of the whole stack"),
    ]


def _queues(facts: Facts) -> str:
    said = [f"{count(one.waiting)} wait for a {one.role}" for one in facts.unended if one.waiting]
    in_hand = sum(one.in_hand for one in facts.unended)
    return ", ".join([*said, *([f"{count(in_hand)} in hand"] if in_hand else [])]) or "nothing waits"


def _busiest(facts: Facts) -> tuple[str, str, str]:
    found = {one.what: one for one in facts.busiest}
    if "ended" not in found:
        return NONE, "ended in the busiest minute", ""
    ended = found["ended"]
    return count(ended.count), "ended in the busiest minute", moment(ended.begin_s * 1_000_000, seconds=False)


def usage(facts: Facts) -> Table:
    """What stages used: times and memory."""
    rows = [
        (stage, name, *cells)
        for stage in STAGE_KINDS
        for one in facts.usage
        if one.stage == stage
        for name, *cells in _usage_rows(one)
    ]
    return Table(("stage", "", "measured", "p50", "p90", "p99", "most"), rows, words=2)


def _usage_rows(one: Usage) -> Iterator[tuple[str, ...]]:
    yield "wall time", count(one.count), *(map(duration, one.wall_ms) if one.wall_ms else [NONE] * 4)
    yield "CPU time", count(one.timed), *(map(duration, one.cpu_ms) if one.cpu_ms else [NONE] * 4)
    yield "memory peak", count(one.weighed), *(map(size, one.memory_bytes) if one.memory_bytes else [NONE] * 4)


def tenants(facts: Facts) -> Table:
    """The tenants with most submissions."""
    return Table(
        ("tenant", "submissions", "ended", "OK", "median", "p90"),
        [
            (
                fit(one.name),
                count(one.submissions),
                count(one.ended),
                share(one.ok, one.ended),
                *((duration(us / 1000) for us in one.whole_us) if one.whole_us else (NONE, NONE)),
            )
            for one in facts.tenants
        ],
    )


def workers(facts: Facts) -> Table:
    """The workers with most leases."""
    return Table(
        ("worker", "role", "leases", "lost", "time at work", "last seen (UTC)"),
        [
            (
                fit(one.worker),
                fit(one.role),
                count(one.leases),
                count(one.lost),
                NONE if one.busy_ms is None else duration(one.busy_ms),
                moment(one.last_us, seconds=False),
            )
            for one in facts.workers
        ],
        words=2,
    )


def notable(facts: Facts) -> list[tuple[str, Table]]:
    """The submissions that took, held or printed most, a table a measure."""
    found = []
    for measure, title in MEASURES.items():
        rows = [
            (
                f"{fit(one.tenant, 32)}/{fit(one.id, 64)}",
                fit(one.outcome or "not ended"),
                duration(one.value / 1000) if measure == "time" else size(one.value),
            )
            for one in sorted(facts.notable, key=lambda one: (-one.value, one.id))
            if one.measure == measure
        ]
        if rows:
            found.append((title, Table(("submission", "outcome", ""), rows, words=2)))
    return found


def parked(facts: Facts) -> Table:
    """The submissions that were parked last."""
    return Table(
        ("submission", "stage", "why", "parked (UTC)"),
        [
            (
                f"{fit(one.tenant, 32)}/{fit(one.id, 64)}",
                fit(one.stage or NONE),
                fit(one.message or NONE, SENTENCE_COLUMNS),
                moment(one.parked_us, seconds=False),
            )
            for one in facts.parked
        ],
        words=3,
    )


def letters(facts: Facts) -> Table:
    """Messages that changed nothing, by the reason."""
    return Table(
        ("stream", "why", "number", "last (UTC)"),
        [
            (fit(one.stream), fit(one.reason, SENTENCE_COLUMNS), count(one.count), moment(one.last_us, seconds=False))
            for one in facts.letters
        ],
        words=2,
    )


def chosen(scope: Scope) -> str:
    """Return in words which submissions a report is about."""
    said = [
        f"of the tenant {fit(scope.tenant)}" if scope.tenant is not None else "",
        *(f"with {fit(name)} = {fit(value)}" for name, value in sorted(scope.labels.items())),
        f"submitted from {moment(scope.since_ns // 1000)} UTC on" if scope.since_ns is not None else "",
        f"submitted before {moment(scope.until_ns // 1000)} UTC" if scope.until_ns is not None else "",
    ]
    return ", ".join(part for part in said if part)


def left_out(facts: Facts, scope: Scope) -> list[str]:
    """Return what a report does not show, a sentence each."""
    return [sentence for sentence in _omissions(facts, scope) if sentence]


def _omissions(facts: Facts, scope: Scope) -> Iterator[str]:
    last = {one.stream: one.sequence for one in facts.moments[0]}
    after = count(last.get("EVENTS", 0))
    yield f"Events that came after number {after} of the log, and any that had expired before these views were made."
    if len(set(facts.moments)) > 1:
        yield "The views moved on while they were asked: figures of different sections may be a moment apart."
    for gap in facts.gaps:
        yield f"{counted(gap.messages, 'message')} of {gap.stream} that the server lost: the views were made without."
    if unended := facts.count_of(None):
        yield f"Times to the end of {counted(unended, 'submission')} that had not ended."
    yield "Submissions that were cancelled, rejected or parked, where times to the end are shown."
    yield "Stages of attempts that came to nothing, everywhere but in the leases of workers."
    for shown, of, things in (
        (len(facts.labels), facts.labels[0].labels if facts.labels else 0, "labels, those that fewest submissions have"),
        (len(facts.tenants), facts.totals.tenants, "tenants, those with fewest submissions"),
        (
            len(facts.environments),
            facts.environments[0].environments if facts.environments else 0,
            "environments, those used least",
        ),
        (len(facts.workers), facts.workers[0].workers if facts.workers else 0, "workers, those with fewest leases"),
        (len(facts.parked), facts.parked[0].parked if facts.parked else 0, "parked submissions, those parked first"),
    ):
        if of > shown:
            yield f"{count(of - shown)} of {count(of)} {things}."
    unweighed = sum(one.count - one.weighed for one in facts.usage)
    if unweighed:
        yield f"The memory peak of {count(unweighed)} of the stages: it was not measured."
    if facts.letters and (scope.tenant is not None or scope.labels):
        yield "Whose the dead letters are: they are those of the whole stack."
    yield f"The ends of long texts: names are cut at 40 columns, sentences at {SENTENCE_COLUMNS}."
