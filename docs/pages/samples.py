"""One life of a submission, and what stands beside it: the examples of the pages, held against the code that reads them."""

from __future__ import annotations

from typing import Final

import msgspec

from cutor.metrics.statistics import Statistics
from cutor.model.build_progress import BuildProgress
from cutor.model.codec import decode, decode_decision, decode_environment, encode
from cutor.model.content import Content, pack
from cutor.model.decide import event_message_id
from cutor.model.decisions import ParkedResolved
from cutor.model.environments import (
    EnvironmentBuilding,
    EnvironmentBuilt,
    EnvironmentEvent,
    EnvironmentPinned,
    EnvironmentRemoved,
    EnvironmentUnpinned,
    Programs,
)
from cutor.model.events import (
    EVENT_TYPES,
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    EnvironmentRef,
    Event,
    Finished,
    Interrupted,
    Lease,
    Leased,
    Parked,
    Ran,
    Rejected,
    Stage,
    StoredFile,
    StoredRequest,
    StoredTestCase,
    Submitted,
    output,
)
from cutor.model.limits import DEFAULT_LIMITS, Policy
from cutor.model.request import File, Request, TestCase, digest
from cutor.model.request_checks import validate
from cutor.model.result import Result, result
from cutor.model.state import Stamp, fold
from cutor.model.subjects import Address

ADDRESS: Final = Address("default", "6f1c2a")
KEY: Final = "8b1a9953c4611296a827abf8c47804d7f3a1b2c3d4e5f60718293a4b5c6d7e8f"
DERIVATION: Final = "/nix/store/g2m8kfw7kpgpph05v2fxcx4d5an09hl3-shell.drv"
BASH: Final = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-bash-5.2"
TOOLS: Final = "/nix/store/7dpxg7ki7g8ynkdwcqf493p2x8divb4i-coreutils-9.5"
FIRST_SEQUENCE: Final = 41
FIRST_NS: Final = 1_769_860_800_000_000_000

REQUEST: Final = Request(
    id=ADDRESS.id,
    files=(
        File(name="shell.nix", content="{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.gcc ]; }"),
        File(name="cutor-compile.sh", content="gcc -O2 -o main main.c\n"),
        File(name="cutor-run.sh", content='exec ./main "$@"\n'),
        File(name="main.c", content="int main(void) { return 0; }\n"),
    ),
    test_cases=(TestCase(name="empty"), TestCase(name="answer", input="6 7\n", args=("-v",), expected_output="42\n")),
    labels={"course": "introduction"},
)

_MADE_UP: Final = ("0f4ad3c1e8b25d76", "9d31b07ac42f5e18")
_BUILDER: Final = Lease(role="builder", worker="builder-3c9a", token=_MADE_UP[0], number=1)
_RUNNER: Final = Lease(role="runner", worker="runner-3c9a", token=_MADE_UP[1], number=1)
_COMPILED: Final = Stage(
    outcome="OK",
    exit_code=0,
    cpu_time_ms=61,
    wall_time_ms=74,
    memory_peak_bytes=29_360_128,
    limits=DEFAULT_LIMITS.compile.default,
)
_EMPTY: Final = Stage(
    outcome="OK", name="empty", exit_code=0, cpu_time_ms=2, wall_time_ms=3, memory_peak_bytes=1_052_672,
    limits=DEFAULT_LIMITS.run.default,
)  # fmt: skip
_ANSWER: Final = Stage(
    outcome="WA", name="answer", exit_code=0, cpu_time_ms=2, wall_time_ms=4, memory_peak_bytes=1_118_208,
    stdout=output(b"41\n", 3), limits=DEFAULT_LIMITS.run.default,
)  # fmt: skip
_PRINTED: Final = f"building '{DERIVATION}'...\n".encode()
_FAILED: Final = "2 runner leases ended without a result"


def _submitted() -> Submitted:
    valid = validate(REQUEST, Policy(), made_up_id="")
    stored = StoredRequest(
        files=tuple(StoredFile(name=name, content=pack(data)) for name, data in sorted(valid.files.items())),
        test_cases=tuple(
            StoredTestCase(
                name=case.name,
                input=pack(case.input),
                args=case.args,
                expected_output=None if case.expected_output is None else pack(case.expected_output),
            )
            for case in valid.test_cases
        ),
        labels=valid.labels,
    )
    return Submitted(request=stored, digest=digest(valid))


LIFE: Final[tuple[Event, ...]] = (
    _submitted(),
    Leased(lease=_BUILDER),
    CacheBuilt(
        lease=_BUILDER,
        environment=EnvironmentRef(key=KEY, derivation=DERIVATION, hit=False),
        stage=Stage(
            outcome="OK",
            exit_code=0,
            cpu_time_ms=412,
            wall_time_ms=1630,
            memory_peak_bytes=88_080_384,
            stderr=output(_PRINTED, len(_PRINTED)),
            limits=DEFAULT_LIMITS.dependencies.default,
        ),
    ),
    Leased(lease=_RUNNER),
    Compiled(lease=_RUNNER, stage=_COMPILED),
    Ran(lease=_RUNNER, index=0, stages=(_EMPTY, _ANSWER)),
    Finished(lease=_RUNNER, outcome="WRONG_ANSWER"),
    Cleaned(worker=_RUNNER.worker, by="worker"),
)
"""A submission from its first event to its last."""

_STOPPED: Final = Interrupted(
    stage="run", index=1, stages=(msgspec.structs.replace(_ANSWER, outcome="CANCELLED", exit_code=None),)
)
OTHER_WAYS: Final[tuple[Event, ...]] = (
    Cancelled(reason="the deadline has passed"),
    Rejected(lease=_BUILDER, message="limits.run.wall_time_ms is 900000: more than the maximum of 120000 milliseconds"),
    Parked(role="runner", message=_FAILED, stage="run"),
    CacheLost(lease=_RUNNER, key=KEY, missing=TOOLS, environment_sequence=7),
    Cleaned(worker=_RUNNER.worker, by="worker", interrupted=_STOPPED),
)
"""Events of which that one has none, and the last one after a cancel."""

ENVIRONMENT: Final[tuple[EnvironmentEvent, ...]] = (
    EnvironmentBuilding(
        key=KEY, tenant=ADDRESS.tenant, id=ADDRESS.id, lease_token=_BUILDER.token, worker=_BUILDER.worker, lease_number=1,
        submission_sequence=FIRST_SEQUENCE,
    ),
    EnvironmentBuilt(
        key=KEY, derivation=DERIVATION, closure=(BASH, TOOLS), closure_bytes=41_943_040,
        variables=Content(data=f"PATH={TOOLS}/bin\0GREETING=two\nlines\0"),
        programs=Programs(bash=f"{BASH}/bin/bash", sh=f"{BASH}/bin/sh", env=f"{TOOLS}/bin/env"),
        worker=_BUILDER.worker,
    ),
    EnvironmentPinned(key=KEY),
    EnvironmentUnpinned(key=KEY, pin_sequence=9),
    EnvironmentRemoved(key=KEY, reason="collected: not used for 30 days"),
)  # fmt: skip

DECISION: Final = ParkedResolved(action="retried", submission="6f1c2a-r2")
PROGRESS: Final = BuildProgress(lease=1, text=_PRINTED.decode())
STATISTICS: Final = Statistics(
    role="runner", worker="runner-3c9a", instance="3c9a", version="0.1.0", started_ms=1_769_860_790_000, ready=True,
    slots=2, busy=1, leases=17, submissions={"OK": 14, "WRONG_ANSWER": 2},
)  # fmt: skip


def finished() -> Result:
    """Return the result that the life comes to. Raises AssertionError where an event of it is a stray."""
    state = fold(ADDRESS, [(event, Stamp(FIRST_SEQUENCE + n, FIRST_NS + n * 20_000_000)) for n, event in enumerate(LIFE)])
    assert state is not None
    assert (state.strays, state.status, state.outcome) == (0, "FINISHED", "WRONG_ANSWER")
    assert state.cleaned_ns is not None
    return result(state)


def message_id_of(event: Event) -> str:
    """Return the message id that an example is appended with. Who cancels makes up a token for it."""
    index = event.index if isinstance(event, Ran) else 0
    return event_message_id(ADDRESS, event, index=index, token=_MADE_UP[1])


def samples_of(kind: type[msgspec.Struct]) -> list[Event | EnvironmentEvent | ParkedResolved]:
    """Return the examples of a kind of event, which its reader has read. Raises AssertionError where there is none."""
    found = [one for one in (*LIFE, *OTHER_WAYS, *ENVIRONMENT, DECISION) if type(one) is kind]
    read = decode if kind in EVENT_TYPES else decode_decision if kind is ParkedResolved else decode_environment
    assert found, f"{kind.__name__} needs an example"
    assert [read(encode(one)) for one in found] == found
    return found
