"""What must hold of a submission's messages in the stream, whatever was killed while they came. Pure.

Written from the promises, without cutor's own fold: messages are read as plain JSON. Each finding says which promise is broken:
``lost`` (something that was accepted did not come to its end), ``doubled`` (something took effect twice, or out of its turn),
``wrong`` (an end that this submission cannot have).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

TERMINAL: Final = ("finished", "cancelled", "rejected", "parked")
OF_A_LEASE: Final = ("cache-built", "compiled", "ran", "finished", "rejected", "cache-lost")
"""Kinds that name the lease under which they were appended."""


class Entry(NamedTuple):
    """One message of a submission, as it stands in the stream; ``body`` is its JSON, ``time_ns`` the stream's time."""

    sequence: int
    kind: str
    message_id: str
    body: dict[str, Any]
    time_ns: int = 0


class Expected(NamedTuple):
    """How a submission must end: one of these outcomes, and what its stages came to where it was FINISHED.

    ``runs`` are the outcomes of all test cases, None where they are not known; ``max_leases`` bounds each role's attempts.
    """

    outcomes: tuple[str, ...] = ("OK",)
    runs: tuple[str, ...] | None = None
    compiled: str | None = None
    max_leases: int = 3


class Finding(NamedTuple):
    """A promise that was broken, and how."""

    promise: Literal["lost", "doubled", "wrong"]
    text: str


def check(entries: Sequence[Entry], expected: Expected) -> list[Finding]:
    """Return what is wrong with a submission that was acknowledged, and had time to end."""
    if not entries:
        return [Finding("lost", "it was acknowledged, and is not in the stream")]
    found = [*_once(entries), *_leases(entries), *_runs(entries)]
    if not any(finding.promise == "doubled" for finding in found):
        found += _outcome(entries, expected)
    attempts = Counter(entry.body["lease"]["role"] for entry in entries if entry.kind == "leased")
    for role, count in attempts.items():
        if count > expected.max_leases:
            found.append(Finding("doubled", f"{count} leases of the {role}, at most {expected.max_leases}"))
    return found


def check_ids(message_ids: Sequence[str]) -> list[Finding]:
    """Return what is wrong with the message ids of a whole stream: none may be there twice."""
    counted = Counter(one for one in message_ids if one)
    return [Finding("doubled", f"the message id {one} is there {count} times") for one, count in counted.items() if count > 1]


class Judged:
    """All submissions that were looked at, so that they can be looked at again when more may have come. Each finding once."""

    def __init__(self) -> None:
        self._expected: dict[str, Expected] = {}
        self._said: set[tuple[str, Finding]] = set()

    def first(self, identity: str, entries: Sequence[Entry], expected: Expected) -> list[Finding]:
        """Return what is wrong with a submission that has had time to end."""
        self._expected[identity] = expected
        found = [finding for finding in check(entries, expected) if (identity, finding) not in self._said]
        self._said.update((identity, finding) for finding in found)
        return found

    def again(self, entries: Mapping[str, Sequence[Entry]]) -> list[tuple[str, Finding]]:
        """Return what is wrong by now with those of before, and was not then: what came behind their end."""
        return [
            (identity, finding)
            for identity, expected in self._expected.items()
            for finding in self.first(identity, entries.get(identity, ()), expected)
        ]


def _once(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Look at what must be there once, and where."""
    kinds = [entry.kind for entry in entries]
    if kinds[0] != "submitted":
        yield Finding("lost", f"its first message is {kinds[0]}, not submitted")
    for kind in ("submitted", "cleaned"):
        if kinds.count(kind) > 1:
            yield Finding("doubled", f"{kinds.count(kind)} messages {kind}")
    ends = [kind for kind in kinds if kind in TERMINAL]
    if not ends:
        yield Finding("lost", f"it has not ended; its last message is {kinds[-1]}")
        return
    if len(ends) > 1:
        yield Finding("doubled", f"it ended {len(ends)} times: {', '.join(ends)}")
    after = kinds[kinds.index(ends[0]) + 1 :]
    if "cleaned" not in kinds:
        yield Finding("lost", "it ended and was not cleaned")
    if "cleaned" in kinds[: kinds.index(ends[0])]:
        yield Finding("doubled", "it was cleaned before its end")
    if late := [kind for kind in after if kind != "cleaned" and kind not in TERMINAL]:
        yield Finding("doubled", f"after its end came {', '.join(late)}")
    if kinds[-1] != "cleaned" and "cleaned" in after:
        yield Finding("doubled", f"after cleaned came {kinds[-1]}")


def _leases(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Look whether leases are numbered without gaps, and whether only the newest was ever appended under."""
    numbers: Counter[str] = Counter()
    tokens: set[str] = set()
    newest: dict[str, Any] | None = None
    built = False
    for entry in entries:
        lease = entry.body.get("lease")
        built = entry.kind == "cache-built" or (built and entry.kind != "cache-lost")
        if entry.kind == "leased":
            assert lease is not None
            if (lease["role"] == "runner") is not built:
                yield Finding("doubled", f"the {lease['role']} took a lease at {entry.sequence}, which is not its turn")
            numbers[lease["role"]] += 1
            if lease["number"] != numbers[lease["role"]]:
                yield Finding("doubled", f"the {lease['role']}'s lease {numbers[lease['role']]} has number {lease['number']}")
            if lease["token"] in tokens:
                yield Finding("doubled", f"two leases have the token {lease['token']}")
            tokens.add(lease["token"])
            newest = lease
        elif entry.kind in OF_A_LEASE and lease != newest:
            yield Finding("doubled", f"{entry.kind} at {entry.sequence} names a lease that is not the newest")


def _runs(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Look whether under each lease compile comes once, then the test cases one after the other from 0, then one end."""
    next_index, compiled, over = 0, False, False
    for entry in entries:
        match entry.kind:
            case "leased":
                next_index, compiled, over = 0, False, False
                continue
            case "compiled":
                if compiled or next_index:
                    yield Finding("doubled", f"compiled at {entry.sequence} comes twice, or after a run")
                compiled = True
            case "ran":
                index, count = entry.body["index"], len(entry.body["stages"])
                if index != next_index:
                    yield Finding("doubled", f"ran at {entry.sequence} begins at test case {index}, not {next_index}")
                next_index = index + count
            case "cache-built" | "cache-lost":
                pass
            case _:
                continue
        if over:
            yield Finding("doubled", f"{entry.kind} at {entry.sequence} comes after the step of its lease was over")
        over = entry.kind in {"cache-built", "cache-lost"}


def _outcome(entries: Sequence[Entry], expected: Expected) -> Iterator[Finding]:
    """Look whether it ended as it had to."""
    end = next((entry for entry in entries if entry.kind in TERMINAL), None)
    if end is None:
        return
    outcome = end.body["outcome"] if end.kind == "finished" else end.kind.upper()
    if outcome not in expected.outcomes:
        yield Finding("wrong", f"{outcome} ({end.body.get('message')}), must be {' or '.join(expected.outcomes)}")
        return
    if end.kind != "finished":
        return
    newest = [entry for entry in entries if entry.kind in OF_A_LEASE and entry.body["lease"] == end.body["lease"]]
    runs = tuple(stage["outcome"] for entry in newest if entry.kind == "ran" for stage in entry.body["stages"])
    if expected.runs is not None and runs != expected.runs:
        yield Finding("wrong", f"the test cases of the last lease are {runs}, must be {expected.runs}")
    compiled = next((entry.body["stage"]["outcome"] for entry in newest if entry.kind == "compiled"), None)
    if expected.compiled is not None and compiled != expected.compiled:
        yield Finding("wrong", f"compile is {compiled}, must be {expected.compiled}")
