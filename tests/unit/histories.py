"""Short ways to write histories in tests: events with sequences and times, given / when / then."""

from typing import Any

import msgspec

from cutor.model.content import pack
from cutor.model.events import (
    CacheBuilt,
    EnvironmentRef,
    Event,
    Finished,
    Lease,
    Leased,
    Ran,
    Role,
    Stage,
    StoredFile,
    StoredRequest,
    StoredTestCase,
    Submitted,
)
from cutor.model.outcome import StageOutcome, SubmissionOutcome
from cutor.model.result import Result, result
from cutor.model.state import Stamp, Submission, fold
from cutor.model.subjects import Address

ADDRESS = Address("default", "s1")
REQUEST = StoredRequest(
    files=(StoredFile(name="shell.nix", content=pack(b"{}")), StoredFile(name="cutor-run.sh", content=pack(b"true"))),
    test_cases=(StoredTestCase(name="one"), StoredTestCase(name="two")),
    labels={"course": "a"},
)
COMPILING = msgspec.structs.replace(REQUEST, files=(*REQUEST.files, StoredFile(name="cutor-compile.sh", content=pack(b""))))
SUBMITTED = Submitted(request=REQUEST, digest="d1")
ENVIRONMENT = EnvironmentRef(key="k1", derivation="/nix/store/x.drv", hit=False)
OK = Stage(outcome="OK", exit_code=0)


def lease(role: Role, number: int = 1, token: str = "t") -> Lease:
    return Lease(role=role, worker="w", token=f"{token}{number}", number=number)


def leased(role: Role, number: int = 1, token: str = "t") -> Leased:
    return Leased(lease=lease(role, number, token))


def cache_built(number: int = 1) -> CacheBuilt:
    return CacheBuilt(lease=lease("builder", number), environment=ENVIRONMENT, stage=OK)


def ran(index: int, *outcomes: StageOutcome, number: int = 1) -> Ran:
    return Ran(lease=lease("runner", number), index=index, stages=tuple(Stage(outcome=outcome) for outcome in outcomes))


def finished(outcome: SubmissionOutcome = "OK", role: Role = "runner", number: int = 1) -> Finished:
    return Finished(lease=lease(role, number), outcome=outcome)


BUILT = (SUBMITTED, leased("builder"), cache_built())
RUNNING = (*BUILT, leased("runner"))


def after(*events: Event) -> Submission:
    """Return the state after events at the sequences 10, 20, … and the times 1 s, 2 s, …"""
    stamped = [(event, Stamp(sequence=10 * n, time_ns=n * 1_000_000_000)) for n, event in enumerate(events, 1)]
    state = fold(ADDRESS, stamped)
    assert state is not None
    return state


def ended(**fields: Any) -> Result:
    """Return the result of a submission that ended well, with other values in some of its fields."""
    known = result(after(*RUNNING, ran(0, "OK"), finished()))
    return msgspec.structs.replace(known, **fields)
