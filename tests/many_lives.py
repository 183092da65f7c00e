"""Many lives of submissions, of realistic shape and length, folded into a file of views: what a report is tried on."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cutor.model.codec import encode
from cutor.model.content import pack
from cutor.model.environments import EnvironmentBuilt, Programs
from cutor.model.events import (
    CacheBuilt,
    Cancelled,
    Cleaned,
    Compiled,
    EnvironmentRef,
    Event,
    Finished,
    Lease,
    Leased,
    Output,
    Parked,
    Ran,
    Rejected,
    Role,
    Signal,
    Stage,
    StoredFile,
    StoredRequest,
    StoredTestCase,
    Submitted,
    kind_of,
)
from cutor.model.outcome import StageOutcome, SubmissionOutcome
from cutor.model.subjects import ENVIRONMENTS, EVENTS, Address, environment_subject, event_subject
from cutor.projections.store import Store
from tests.unit.views import Written

SECOND_NS: Final = 1_000_000_000
BATCH: Final = 5000
COURSES: Final = ("algorithms", "compilers", "databases", "intro-python", "networks", "operating-systems", "statistics")
LANGUAGES: Final = ("python", "c", "c++", "javascript", "lua")
ENVIRONMENTS_COUNT: Final = 24


class Happened(NamedTuple):
    """An event of a submission, and when."""

    time_ns: int
    address: Address
    event: Event


class Life:
    """The events of one submission, one after the other, each some time behind the last."""

    def __init__(self, chance: random.Random, address: Address, at_ns: int) -> None:
        self.chance = chance
        self.address = address
        self.now_ns = at_ns
        self.happened: list[Happened] = []

    def add(self, event: Event, *, after_ms: float = 0.0) -> None:
        self.now_ns += 1000 + int(after_ms * 1_000_000)
        self.happened.append(Happened(self.now_ns, self.address, event))

    def about_ms(self, median_ms: float, spread: float = 0.5) -> float:
        return median_ms * math.exp(self.chance.gauss(0, spread))

    def lease(self, role: Role, number: int = 1) -> Lease:
        worker = f"{role}-{self.chance.randrange(4)}"
        return Lease(role=role, worker=worker, token=f"{self.chance.getrandbits(64):x}", number=number)

    def stage(self, outcome: StageOutcome, cpu_ms: float, memory_bytes: float, **fields: object) -> Stage:
        wall_ms = cpu_ms * self.chance.uniform(1.0, 1.4) + 3
        return Stage(
            outcome=outcome,
            cpu_time_ms=int(cpu_ms),
            wall_time_ms=int(wall_ms),
            memory_peak_bytes=int(memory_bytes) if self.chance.random() < 0.97 else None,
            stdout=Output(data="42\n", bytes_total=3 + int(self.about_ms(100, 2))),
            **fields,  # type: ignore[arg-type]
        )


def life(chance: random.Random, address: Address, at_ns: int, load: float, seen: set[str]) -> list[Happened]:
    """Return what happens to a submission; ``load`` is how long the queues are, 1 for an idle stack."""
    one = Life(chance, address, at_ns)
    language = chance.choices(LANGUAGES, (50, 15, 20, 10, 5))[0]
    labels = {"course": chance.choices(COURSES, (30, 10, 14, 25, 6, 9, 6))[0], "language": language}
    if chance.random() < 0.3:
        labels["week"] = str(1 + chance.randrange(12))
    cases = 1 + chance.randrange(12)
    request = StoredRequest(
        files=(StoredFile(name="shell.nix", content=pack(b"{}")), StoredFile(name="cutor-run.sh", content=pack(b"true"))),
        test_cases=tuple(StoredTestCase(name=f"case {n}") for n in range(cases)),
        labels=labels,
    )
    one.add(Submitted(request=request, digest=f"{chance.getrandbits(256):064x}"))
    if chance.random() < 0.004:
        one.add(Leased(lease=(lease := one.lease("builder"))), after_ms=one.about_ms(14) * load)
        one.add(Rejected(lease=lease, message="limits.run.memory_bytes: 64 GiB is more than 2 GiB"), after_ms=9)
        return one.happened
    if chance.random() < 0.012:
        one.add(Cancelled(reason="no longer wanted"), after_ms=one.about_ms(4000))
        one.add(Cleaned(worker="builder-1", by="worker"), after_ms=40)
        return one.happened
    if build(one, load, seen):
        run(one, load, language, cases)
    return one.happened


def build(one: Life, load: float, seen: set[str]) -> bool:
    """Have the environment built, or found; returns whether it stands then."""
    lease = one.lease("builder")
    one.add(Leased(lease=lease), after_ms=one.about_ms(14) * load)
    if one.chance.random() < 0.006:
        one.add(Leased(lease=(lease := one.lease("builder", 2))), after_ms=30_000)
    if one.chance.random() < 0.01:
        stage = one.stage("RE", one.about_ms(1500), 80e6, exit_code=1, message="error: undefined variable 'pyhton3'")
        one.add(Finished(lease=lease, outcome="DEPENDENCY_ERROR", dependencies=stage), after_ms=stage.wall_time_ms or 0)
        one.add(Cleaned(worker=lease.worker, by="worker"), after_ms=60)
        return False
    key = f"{min(int(one.chance.paretovariate(0.8)), ENVIRONMENTS_COUNT) * 7919:064x}"[::-1]
    hit = key in seen
    seen.add(key)
    stage = one.stage("OK", 4 if hit else one.about_ms(11_000), 1e6 if hit else 400e6, exit_code=0)
    ref = EnvironmentRef(key=key, derivation=f"/nix/store/{key[:32]}-shell.drv", hit=hit)
    one.add(CacheBuilt(lease=lease, environment=ref, stage=stage), after_ms=(stage.wall_time_ms or 0) + 20)
    return True


def run(one: Life, load: float, language: str, cases: int) -> None:
    """Compile and run, to the end."""
    lease = one.lease("runner")
    one.add(Leased(lease=lease), after_ms=one.about_ms(22) * load)
    if one.chance.random() < 0.002:
        for number in (2, 3):
            one.add(Leased(lease=one.lease("runner", number)), after_ms=30_000)
        one.add(Parked(role="runner", message="3 leases, and no result came of them", stage="run"), after_ms=30_000)
        return
    if language in {"c", "c++"}:
        broken = one.chance.random() < 0.09
        stage = one.stage("RE" if broken else "OK", one.about_ms(700), 160e6, exit_code=int(broken))
        one.add(Compiled(lease=lease, stage=stage), after_ms=250 + (stage.wall_time_ms or 0))
        if broken:
            end(one, lease, "COMPILE_ERROR")
            return
    fails_at = one.chance.randrange(cases) if one.chance.random() < 0.28 else None
    stages = [test_case(one, language, fails=n == fails_at) for n in range(cases if fails_at is None else fails_at + 1)]
    one.add(Ran(lease=lease, index=0, stages=tuple(stages)), after_ms=260 + sum(stage.wall_time_ms or 0 for stage in stages))
    last = stages[-1].outcome
    end(one, lease, "OK" if last == "OK" else "WRONG_ANSWER" if last == "WA" else "RUN_ERROR")


def test_case(one: Life, language: str, *, fails: bool) -> Stage:
    cpu_ms = one.about_ms({"python": 70, "javascript": 90}.get(language, 6), 1.0)
    memory_bytes = one.about_ms({"python": 11e6, "javascript": 45e6}.get(language, 2e6), 0.4)
    if not fails:
        return one.stage("OK", cpu_ms, memory_bytes, exit_code=0)
    outcomes: tuple[StageOutcome, ...] = ("WA", "RE", "TLE_CPU", "TLE_WALL", "MLE", "SG", "OLE")
    outcome = one.chance.choices(outcomes, (60, 18, 12, 2, 4, 3, 1))[0]
    ends: dict[str, dict[str, object]] = {"RE": {"exit_code": 1}, "WA": {"exit_code": 0}}
    ends["SG"] = {"signal": Signal(number=11, name="SIGSEGV")}
    cpu_ms, memory_bytes = (2000.0, memory_bytes) if outcome.startswith("TLE") else (cpu_ms, memory_bytes)
    return one.stage(outcome, cpu_ms, 256e6 if outcome == "MLE" else memory_bytes, **ends.get(outcome, {}))


def end(one: Life, lease: Lease, outcome: SubmissionOutcome) -> None:
    one.add(Finished(lease=lease, outcome=outcome), after_ms=4)
    one.add(Cleaned(worker=lease.worker, by="worker"), after_ms=one.about_ms(90, 0.3))


def lives(count: int, *, begin_ns: int, days: float, seed: int = 1) -> Iterator[Happened]:
    """Yield the events of many submissions, in the order of their time: more by day than by night, and an evening's crowd."""
    chance = random.Random(seed)
    seen: set[str] = set()
    happened: list[Happened] = []
    for number, day in enumerate(sorted(moment(chance, days) for _ in range(count))):
        crowd = abs(day - 4.1) < 0.06
        tenant = "contest" if crowd else chance.choices(("default", "teaching"), (3, 1))[0]
        address = Address(tenant, f"s{number:06x}")
        at_ns = begin_ns + int(day * 86_400 * SECOND_NS)
        happened += life(chance, address, at_ns, chance.uniform(20, 400) if crowd else chance.uniform(0.7, 2), seen)
    yield from sorted(happened)


def moment(chance: random.Random, days: float) -> float:
    """Return when somebody hands something in, in days: rather by day than by night, and many on one evening."""
    day = chance.random() * days
    hour = (day % 1) * 24
    if chance.random() < 0.06:
        return min(days, 4.1) + chance.gauss(0, 0.03) * min(1.0, days / 7)
    if chance.random() > 0.25 + 0.75 * max(0.0, math.sin((hour - 6) / 24 * math.tau)):
        day = math.floor(day) + chance.gauss(0.62, 0.1)
    return min(max(0.0, day), days)


def environments_of(happened: list[Happened], chance: random.Random) -> Iterator[Written]:
    """Yield the making of every environment that submissions were given, as the stream ENVIRONMENTS tells it."""
    made: dict[str, Happened] = {}
    for one in happened:
        if isinstance(one.event, CacheBuilt):
            made.setdefault(one.event.environment.key, one)
    for sequence, (key, one) in enumerate(made.items(), 1):
        assert isinstance(one.event, CacheBuilt)
        built = EnvironmentBuilt(
            key=key,
            derivation=one.event.environment.derivation,
            closure=tuple(f"/nix/store/{n:032}-p" for n in range(20 + chance.randrange(60))),
            closure_bytes=int(150e6 * math.exp(chance.gauss(0, 0.7))),
            variables=pack(b""),
            programs=Programs(bash="/nix/store/b/bin/bash", sh="/nix/store/b/bin/sh", env="/nix/store/c/bin/env"),
            worker=one.event.lease.worker,
        )
        yield Written(sequence, environment_subject(key), encode(built), time_ns=one.time_ns)


def write_views(path: Path, count: int, *, begin_ns: int, days: float = 7, seed: int = 1) -> None:
    """Fold the lives of so many submissions into a new file of views."""
    happened = list(lives(count, begin_ns=begin_ns, days=days, seed=seed))
    store = Store.open(path)
    try:
        messages = [
            Written(sequence, event_subject(one.address, kind_of(one.event)), encode(one.event), time_ns=one.time_ns)
            for sequence, one in enumerate(happened, 1)
        ]
        for start in range(0, len(messages), BATCH):
            store.apply(EVENTS, messages[start : start + BATCH])
        if built := list(environments_of(happened, random.Random(seed))):
            store.apply(ENVIRONMENTS, built)
    finally:
        store.close()
