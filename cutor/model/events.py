"""The events: every state change of a submission, as it stands in the stream.

One frozen struct a kind, JSON, the kind as an explicit tag in the field ``kind``. Events tolerate unknown fields, and new
fields have defaults; a changed shape is a new ``version`` with a pure upcaster in ``codec``. Tenant and id stand in the
subject, the time is the stream's own.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from cutor.model.content import BodyRef, Content, StoredEncoding, encode_text
from cutor.model.limits import Limit, StageKind
from cutor.model.outcome import Compare, StageOutcome, SubmissionOutcome

Role = Literal["builder", "runner"]
CleanedBy = Literal["worker", "sweep", "takeover"]


class Lease(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The right to take a submission's next step; ``number`` is 1 + the leases of that role before it in the log."""

    role: Role
    """whose step it is"""
    worker: str
    """name of the worker that took it"""
    token: str
    """random, 16 hexadecimal digits: tells apart two leases of one number that were wanted at one time"""
    number: int
    """from 1 on: one more than the leases of this role that the submission had"""


class Output(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a stage printed: the prefix that was kept, and how much there was.

    In events, a prefix over 64 KiB is a ``body`` reference and ``data`` is empty; results show it resolved.
    """

    encoding: StoredEncoding = "utf8"
    """`base64` where what was kept is not UTF-8"""
    data: str = ""
    """what was kept, in that encoding; empty where it is a `body`"""
    bytes_total: int = 0
    """bytes that were printed, kept or not"""
    truncated: bool = False
    """whether fewer bytes were kept than were printed"""
    body: BodyRef | msgspec.UnsetType = msgspec.UNSET
    """where what was kept is, over 64 KiB; else left out, and in results always"""


class Signal(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The signal that ended a program."""

    number: int
    """as in `kill -l`: 11"""
    name: str
    """`SIGSEGV`; `SIGRTMIN+N` in the real-time range, `SIG` and the number for one without a name"""


class Stage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The result of one stage; the same shape for dependencies, compile and every run.

    ``exit_code`` and ``signal`` are never both set; times and memory are null where they were not measured, never 0 for
    unknown.
    """

    outcome: StageOutcome
    """how it ended: [outcomes](result.md#outcomes-of-a-stage)"""
    name: str | None = None
    """of a run: the test case's, if it has one"""
    exit_code: int | None = None
    """0 to 255; null where the program did not end by itself, or by a signal"""
    signal: Signal | None = None
    """the signal that ended the program; null where none did, and where cutor or the OOM killer ended it"""
    cpu_time_ms: int | None = None
    """milliseconds of CPU of the whole process tree; null where not measured"""
    wall_time_ms: int | None = None
    """milliseconds from the program's start to its end; null where not measured"""
    memory_peak_bytes: int | None = None
    """most memory held at one time, to about 2 MiB; null where the kernel does not tell"""
    stdout: Output = Output()
    """what it printed on its standard output"""
    stderr: Output = Output()
    """what it printed on its standard error"""
    limits: Limit | None = None
    """what was applied; null where the stage never began, or where that is not known"""
    message: str | None = None
    """one sentence for people, or null"""


class EnvironmentRef(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The environment that a submission runs in: its key, its derivation, whether it was there already."""

    key: str
    """64 hexadecimal digits: the environment's name in ENVIRONMENTS"""
    derivation: str
    """store path of the derivation that `shell.nix` evaluates to"""
    hit: bool
    """false where this submission built it; true where it stood, or was built for another meanwhile"""


class StoredFile(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A file of a submission, as the event holds it."""

    name: str
    """relative path, with `/` between its segments"""
    content: Content
    """its bytes"""


class StoredTestCase(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A test case, as the event holds it."""

    __test__ = False

    name: str | None = None
    """null where the request has none"""
    input: Content = Content()
    """standard input, to the byte; empty where the request has none"""
    args: tuple[str, ...] = ()
    """arguments of the run script"""
    expected_output: Content | None = None
    """what standard output is compared with; null where nothing is compared"""


StoredLimits = dict[str, dict[str, int]]
"""The ``limits`` of a request as an event holds them: stage kind, then limit, then value; only what was asked for."""


class StoredRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A validated request, as ``submitted`` holds it: enough for a builder and a runner that know nothing else."""

    files: tuple[StoredFile, ...]
    """all files, `shell.nix` and the scripts among them, by name"""
    test_cases: tuple[StoredTestCase, ...]
    """one at least, in the request's order"""
    environment_files: tuple[str, ...] = ()
    """names of files that `shell.nix` imports, sorted"""
    cache: bool = True
    """whether the built environment is kept for later submissions"""
    limits: StoredLimits = {}
    """what was asked for: stage, then limit, then value; not what the deployer fills in"""
    compare: Compare = "trailing_whitespace"
    """how output is compared"""
    stop_on_failure: bool = True
    """whether test cases behind the first that is not OK are skipped"""
    labels: dict[str, str] = {}
    """the producer's own words"""


class _Event(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind"):
    version: int = 1
    """of this kind's shape; 1 where it is left out"""


class Submitted(_Event, frozen=True, gc=False, kw_only=True, tag="submitted"):
    """A producer handed in a request. First event of a submission.

    Appended by a client, on the condition that the id has no events yet; it calls for a builder. ``fault`` is set where the
    message could not be read at all (`cutor.model.messages`): such a submission is rejected.
    """

    request: StoredRequest
    """all that a builder and a runner need"""
    digest: str
    """SHA-256 of the validated request without its id, in hexadecimal"""
    caused_by: str | None = None
    """id of the submission that this one repeats: a retry or a re-judging; else null"""
    fault: str | msgspec.UnsetType = msgspec.UNSET
    """never on the wire: why a reader could not read the message"""


class Leased(_Event, frozen=True, gc=False, kw_only=True, tag="leased"):
    """A worker took the submission's next step.

    Appended by a builder or a runner before it begins; the next one of that role takes the step over from it. A runner's makes
    a new attempt: what the one before it told of compile and runs counts no more.
    """

    lease: Lease
    """the new lease; later events name it"""


class CacheBuilt(_Event, frozen=True, gc=False, kw_only=True, tag="cache-built"):
    """The environment stands in the store; ``stage`` is the dependencies stage.

    Appended by a builder; it calls for a runner. A build that failed ends in ``finished``.
    """

    lease: Lease
    """the builder's"""
    environment: EnvironmentRef
    """what was built, or found"""
    stage: Stage
    """the stage `dependencies`, always OK: of a hit, the look-up"""


class Compiled(_Event, frozen=True, gc=False, kw_only=True, tag="compiled"):
    """The compile script ended. Only where there is one.

    Appended by a runner. Where it is not OK, ``finished`` comes next.
    """

    lease: Lease
    """the runner's"""
    stage: Stage
    """the stage `compile`, whatever its outcome"""


class Ran(_Event, frozen=True, gc=False, kw_only=True, tag="ran"):
    """One or more consecutive test cases ended: ``stages[0]`` is the test case numbered ``index``, from 0.

    Appended by a runner, several times in an attempt: those that end while an append is under way go together in the next one.
    """

    lease: Lease
    """the runner's"""
    index: int
    """number of the first of these test cases, from 0 on"""
    stages: tuple[Stage, ...]
    """one for each test case, in the request's order; one at least"""


class Finished(_Event, frozen=True, gc=False, kw_only=True, tag="finished"):
    """Every stage that was to run has run. Terminal. ``dependencies`` only after a failed build.

    Appended by a runner; after a failed build by the builder.
    """

    lease: Lease
    """of who ended it: the builder's after a failed build, else the runner's"""
    outcome: SubmissionOutcome
    """of the submission: [outcomes](result.md#outcomes-of-a-submission)"""
    dependencies: Stage | None = None
    """the stage of a build that failed, else null"""
    message: str | None = None
    """one sentence for people, or null"""


class Cancelled(_Event, frozen=True, gc=False, kw_only=True, tag="cancelled"):
    """A producer or an operator stopped the submission. Terminal.

    Appended by a client. Who works on it stops within a second and tells in ``cleaned`` what that interrupted.
    """

    reason: str | None = None
    """the words of who cancelled, up to 1024 bytes, or null"""


class Rejected(_Event, frozen=True, gc=False, kw_only=True, tag="rejected"):
    """The first event breaks the stack's rules. Terminal.

    Appended by a builder in the place of a build: clients check before they append, and who does not use cutor's may not.
    """

    lease: Lease
    """the builder's"""
    message: str
    """which rule it breaks, in one line"""


class Parked(_Event, frozen=True, gc=False, kw_only=True, tag="parked"):
    """The leases of a role are used up, and no result came of them. Terminal; retrying makes a new submission.

    Appended by a builder or a runner, whichever was due.
    """

    role: Role
    """whose leases are used up"""
    message: str
    """why, in one line: what the last lease ended with"""
    stage: StageKind | None = None
    """the stage that it did not get past; null where that is not known"""


class CacheLost(_Event, frozen=True, gc=False, kw_only=True, tag="cache-lost"):
    """The environment vanished between build and run: the builder takes the submission up again.

    Appended by a runner. ``environment_sequence`` is that of the ``env-built`` whose paths were missed, 0 where none stood:
    only a newer one counts now. It is left out in events from before it was told.
    """

    lease: Lease
    """the runner's"""
    key: str
    """of the environment"""
    missing: str
    """what was missed: a store path, or why the environment cannot be had"""
    environment_sequence: int | msgspec.UnsetType = msgspec.UNSET
    """of the `env-built` whose paths were missed; 0 where none stood"""


class Interrupted(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a worker had of its submission when a cancel stopped it: what ended and was not appended yet, then what it stopped.

    ``stages[0]`` is the test case numbered ``index``, from 0; of dependencies and compile there is one stage, and no index.
    """

    stage: StageKind
    """the stage that was going on"""
    stages: tuple[Stage, ...]
    """one for each stage; the last is the one that was stopped, if that had begun"""
    index: int = 0
    """of runs: number of the first test case, from 0 on"""


class Cleaned(_Event, frozen=True, gc=False, kw_only=True, tag="cleaned"):
    """Container and directory of the submission are gone from the worker's host. Follows the terminal event.

    Appended by the worker that had it last, and where there is none, by whoever gets its delivery. ``interrupted`` only
    after a cancel, and only from the worker that it stopped.
    """

    worker: str
    """who says so"""
    by: CleanedBy
    """`worker`: who worked on it; `sweep`: the same, started again; `takeover`: another, which vouches for its own host"""
    interrupted: Interrupted | msgspec.UnsetType = msgspec.UNSET
    """what a cancel interrupted; else left out"""


Terminal = Finished | Cancelled | Rejected | Parked
"""With which a submission ends: exactly one of them."""
Event = Submitted | Leased | CacheBuilt | Compiled | Ran | Terminal | CacheLost | Cleaned
"""Every event of a submission: what is listed here is one, and whoever handles all of them is checked against it."""

EVENT_TYPES: Final[tuple[type[_Event], ...]] = get_args(Event)
KINDS: Final = tuple(str(event_type.__struct_config__.tag) for event_type in EVENT_TYPES)
TERMINAL_KINDS: Final = frozenset(str(event_type.__struct_config__.tag) for event_type in get_args(Terminal))
PASSING_KINDS: Final = frozenset(KINDS) - TERMINAL_KINDS - {str(Cleaned.__struct_config__.tag)}
"""Kinds of events with which no submission ends, and behind which one may still."""


def kind_of(event: Event) -> str:
    """Return the kind of an event, as it stands in the subject and in the body."""
    return str(type(event).__struct_config__.tag)


def output(kept: bytes, bytes_total: int) -> Output:
    """Return the inline output of a kept prefix of ``bytes_total`` bytes."""
    encoding, data = encode_text(kept)
    return Output(encoding=encoding, data=data, bytes_total=bytes_total, truncated=len(kept) < bytes_total)
