"""The events: every state change of a submission, as it stands in the stream.

One frozen struct a kind, JSON, the kind as an explicit tag in the field ``kind``. Events tolerate unknown fields, and new
fields have defaults; a changed shape is a new ``version`` with a pure upcaster in ``codec``. Tenant and id stand in the
subject, the time is the stream's own.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from cutor.model.content import BodyRef, Content, StoredEncoding, encode_text
from cutor.model.limits import Limit, StageKind
from cutor.model.outcome import Compare, StageOutcome, SubmissionOutcome

Role = Literal["builder", "runner"]
CleanedBy = Literal["worker", "sweep", "takeover"]


class Lease(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The right to take a submission's next step; ``number`` is 1 + the leases of that role before it in the log."""

    role: Role
    worker: str
    token: str
    number: int


class Output(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a stage printed: the prefix that was kept, and how much there was.

    In events, a prefix over 64 KiB is a ``body`` reference and ``data`` is empty; results show it resolved.
    """

    encoding: StoredEncoding = "utf8"
    data: str = ""
    bytes_total: int = 0
    truncated: bool = False
    body: BodyRef | msgspec.UnsetType = msgspec.UNSET


class Signal(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The signal that ended a program."""

    number: int
    name: str


class Stage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The result of one stage; the same shape for dependencies, compile and every run.

    ``exit_code`` and ``signal`` are never both set; times and memory are null where they were not measured, never 0 for
    unknown.
    """

    outcome: StageOutcome
    name: str | None = None
    exit_code: int | None = None
    signal: Signal | None = None
    cpu_time_ms: int | None = None
    wall_time_ms: int | None = None
    memory_peak_bytes: int | None = None
    stdout: Output = Output()
    stderr: Output = Output()
    limits: Limit | None = None
    message: str | None = None


class EnvironmentRef(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The environment that a submission runs in: its key, its derivation, whether it was there already."""

    key: str
    derivation: str
    hit: bool


class StoredFile(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A file of a submission, as the event holds it."""

    name: str
    content: Content


class StoredTestCase(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A test case, as the event holds it."""

    __test__ = False

    name: str | None = None
    input: Content = Content()
    args: tuple[str, ...] = ()
    expected_output: Content | None = None


StoredLimits = dict[str, dict[str, int]]
"""The ``limits`` of a request as an event holds them: stage kind, then limit, then value; only what was asked for."""


class StoredRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A validated request, as ``submitted`` holds it: enough for a builder and a runner that know nothing else."""

    files: tuple[StoredFile, ...]
    test_cases: tuple[StoredTestCase, ...]
    environment_files: tuple[str, ...] = ()
    cache: bool = True
    limits: StoredLimits = {}
    compare: Compare = "trailing_whitespace"
    stop_on_failure: bool = True
    labels: dict[str, str] = {}


class _Event(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind"):
    version: int = 1


class Submitted(_Event, frozen=True, gc=False, kw_only=True, tag="submitted"):
    """A producer handed in a request. First event of a submission.

    ``fault`` is set where the message could not be read at all (`cutor.model.messages`): such a submission is rejected.
    """

    request: StoredRequest
    digest: str
    caused_by: str | None = None
    fault: str | msgspec.UnsetType = msgspec.UNSET


class Leased(_Event, frozen=True, gc=False, kw_only=True, tag="leased"):
    """A worker took the submission's next step."""

    lease: Lease


class CacheBuilt(_Event, frozen=True, gc=False, kw_only=True, tag="cache-built"):
    """The environment stands in the store; ``stage`` is the dependencies stage."""

    lease: Lease
    environment: EnvironmentRef
    stage: Stage


class Compiled(_Event, frozen=True, gc=False, kw_only=True, tag="compiled"):
    """The compile script ended. Only where there is one."""

    lease: Lease
    stage: Stage


class Ran(_Event, frozen=True, gc=False, kw_only=True, tag="ran"):
    """One or more consecutive test cases ended: ``stages[0]`` is the test case numbered ``index``, from 0."""

    lease: Lease
    index: int
    stages: tuple[Stage, ...]


class Finished(_Event, frozen=True, gc=False, kw_only=True, tag="finished"):
    """Every stage that was to run has run. Terminal. ``dependencies`` only after a failed build."""

    lease: Lease
    outcome: SubmissionOutcome
    dependencies: Stage | None = None
    message: str | None = None


class Cancelled(_Event, frozen=True, gc=False, kw_only=True, tag="cancelled"):
    """A producer or an operator stopped the submission. Terminal."""

    reason: str | None = None


class Rejected(_Event, frozen=True, gc=False, kw_only=True, tag="rejected"):
    """The first event breaks the stack's rules. Terminal."""

    lease: Lease
    message: str


class Parked(_Event, frozen=True, gc=False, kw_only=True, tag="parked"):
    """The leases of a role are used up, and no result came of them. Terminal; retrying makes a new submission."""

    role: Role
    message: str
    stage: StageKind | None = None


class CacheLost(_Event, frozen=True, gc=False, kw_only=True, tag="cache-lost"):
    """The environment vanished between build and run: the builder takes the submission up again.

    ``environment_sequence`` is that of the ``env-built`` whose paths were missed, 0 where none stood: only a newer one counts
    now. It is left out in events from before it was told.
    """

    lease: Lease
    key: str
    missing: str
    environment_sequence: int | msgspec.UnsetType = msgspec.UNSET


class Interrupted(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a worker had of its submission when a cancel stopped it: what ended and was not appended yet, then what it stopped.

    ``stages[0]`` is the test case numbered ``index``, from 0; of dependencies and compile there is one stage, and no index.
    """

    stage: StageKind
    stages: tuple[Stage, ...]
    index: int = 0


class Cleaned(_Event, frozen=True, gc=False, kw_only=True, tag="cleaned"):
    """Container and directory of the submission are gone from the worker's host. Follows the terminal event.

    ``interrupted`` only after a cancel, and only from the worker that it stopped.
    """

    worker: str
    by: CleanedBy
    interrupted: Interrupted | msgspec.UnsetType = msgspec.UNSET


Event = Submitted | Leased | CacheBuilt | Compiled | Ran | Finished | Cancelled | Rejected | Parked | CacheLost | Cleaned
EVENT_TYPES: Final[tuple[type[_Event], ...]] = (
    Submitted,
    Leased,
    CacheBuilt,
    Compiled,
    Ran,
    Finished,
    Cancelled,
    Rejected,
    Parked,
    CacheLost,
    Cleaned,
)
PASSING_KINDS: Final = frozenset({"submitted", "leased", "cache-built", "cache-lost", "compiled", "ran"})
"""Kinds of events with which no submission ends."""
TERMINAL_KINDS: Final = frozenset({"finished", "cancelled", "rejected", "parked"})


def kind_of(event: Event) -> str:
    """Return the kind of an event, as it stands in the subject and in the body."""
    return str(type(event).__struct_config__.tag)


KINDS: Final = tuple(str(event_type.__struct_config__.tag) for event_type in EVENT_TYPES)


def output(kept: bytes, bytes_total: int) -> Output:
    """Return the inline output of a kept prefix of ``bytes_total`` bytes."""
    encoding, data = encode_text(kept)
    return Output(encoding=encoding, data=data, bytes_total=bytes_total, truncated=len(kept) < bytes_total)
