"""Limits of a stage: what a request may ask for, what the deployer configures, what is applied.

Three shapes of the same fields: `RequestedLimit` (any may be absent), `Limit` (all present: what a stage runs under),
and `LimitPolicy` (the deployer's default and maximum for one stage). `Policy` is what a stack publishes to its clients.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeVar, assert_never, get_args

import msgspec

from cutor.model.errors import InvalidPolicy, InvalidRequest
from cutor.model.quoting import shown_number

JailedStage = Literal["compile", "run"]
"""A stage of a runner's: user code in a jail of its container."""
StageKind = Literal["dependencies", JailedStage]
STAGE_KINDS: Final[tuple[StageKind, ...]] = get_args(StageKind)

Of_co = TypeVar("Of_co", covariant=True)


class ByStage(Protocol[Of_co]):
    """Whatever has a field for each kind of stage."""

    @property
    def dependencies(self) -> Of_co:
        """What there is for the build of the environment."""
        ...

    @property
    def compile(self) -> Of_co:
        """What there is for the compile script."""
        ...

    @property
    def run(self) -> Of_co:
        """What there is for the run script."""
        ...


def of_stage(stages: ByStage[Of_co], kind: StageKind) -> Of_co:
    """Return the field of a kind of stage. By this mypy names every struct that has none for a new kind."""
    match kind:
        case "dependencies":
            return stages.dependencies
        case "compile":
            return stages.compile
        case "run":
            return stages.run
        case _:
            assert_never(kind)


MIB: Final = 1 << 20
"""Bytes of a MiB."""
GIB: Final = 1 << 30
"""Bytes of a GiB."""

MAX_LIMIT: Final = 1 << 62
"""The largest number of a policy. Beyond it numbers are none of the kernel's, with what cutor itself needs beside a limit."""

MAX_REQUEST_BYTES: Final = 192 * MIB
"""The most that ``request_bytes`` may be. As base64 it is the 256 MiB of JSON that clients read; one content is stored up to
256 MiB; and a container is handed files, closure and variables in one frame of 256 MiB, which so has room for the last two."""

HANDED_TEXT_BYTES: Final = 960 << 10
"""What names, or arguments, take as JSON where a container is told of them, at the most: a frame's header has 1 MiB for all."""

ESCAPE_BYTES: Final = 6
"""What JSON makes of one byte of text at the most: ``\\u0001``."""


class Limit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The limits one stage runs under; all positive.

    ``wall_time_ms`` starts when the program starts, ``cpu_time_ms`` counts the whole process tree, ``memory_bytes`` what the
    stage's control group may hold (files in its box and /tmp included), ``processes`` processes and threads at one time.
    """

    wall_time_ms: int
    """milliseconds from the program's start on"""
    cpu_time_ms: int
    """milliseconds of CPU of the whole process tree"""
    memory_bytes: int
    """bytes of memory of the whole process tree, with the files in its box and in `/tmp`"""
    processes: int
    """processes and threads at one time"""
    stdout_bytes: int
    """bytes of standard output"""
    stderr_bytes: int
    """bytes of standard error"""
    file_size_bytes: int
    """bytes of a file that it writes"""
    open_files: int
    """open files of a process"""


def _without_unit(name: str) -> str:
    return name.removesuffix("_ms").removesuffix("_bytes").replace("_", " ")


def _unit(name: str) -> str:
    """Return the unit that a limit's name ends with; of one without it, what is counted."""
    return "milliseconds" if name.endswith("_ms") else "bytes" if name.endswith("_bytes") else _without_unit(name)


UNITS: Final[dict[str, str]] = {name: _unit(name) for name in Limit.__struct_fields__}
"""Every limit with its unit; the order is that of documents and tables."""
LIMIT_WORDS: Final[dict[str, str]] = {name: _without_unit(name).replace("cpu", "CPU") for name in Limit.__struct_fields__}
"""Every limit in words, without its unit."""


class RequestedLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a request asks for in one stage; a field left out takes the deployer's default."""

    wall_time_ms: int | None = None
    cpu_time_ms: int | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    file_size_bytes: int | None = None
    open_files: int | None = None


class RequestedLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The ``limits`` of a request: one optional `RequestedLimit` a stage kind."""

    dependencies: RequestedLimit = RequestedLimit()
    """of the build of the environment"""
    compile: RequestedLimit = RequestedLimit()
    """of the compile script"""
    run: RequestedLimit = RequestedLimit()
    """of the run script, in each test case by itself"""


class LimitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The deployer's default and maximum for one stage kind."""

    default: Limit
    """what holds where a request asks for nothing"""
    maximum: Limit
    """what a request may ask for at the most"""


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request may hold at the most, whatever its limits. Strict, because the configuration is read as this too."""

    request_bytes: int = 32 * MIB
    """bytes of a request's contents, names, arguments and labels together, decoded"""
    files: int = 256
    """files of a request"""
    file_name_bytes: int = 255
    """bytes of a file's name, directories included"""
    test_cases: int = 1000
    """test cases of a request"""
    test_case_name_bytes: int = 256
    """bytes of a test case's name"""
    args: int = 256
    """arguments of a test case"""
    arg_bytes: int = 64 << 10
    """bytes of a test case's arguments together"""
    labels: int = 32
    """labels of a request"""
    label_bytes: int = 256
    """bytes of a label, key and value together"""
    submission_wall_time_ms: int = 15 * 60_000
    """milliseconds of wall time of a submission's compile and run stages together"""


BOUND_CEILINGS: Final[dict[str, int]] = {
    "request_bytes": MAX_REQUEST_BYTES,
    "arg_bytes": HANDED_TEXT_BYTES // ESCAPE_BYTES,
}
"""The most that these bounds may be: whatever is within them reaches a container. The others need none: however high they are,
`cutor.model.request_checks.check` refuses a request whose texts no event holds, and one whose names no frame holds."""


class LimitPolicies(msgspec.Struct, frozen=True, kw_only=True):
    """One `LimitPolicy` a stage kind."""

    dependencies: LimitPolicy
    """of the build of the environment"""
    compile: LimitPolicy
    """of the compile script"""
    run: LimitPolicy
    """of the run script"""


def _limit(  # the numbers of one row of the table of defaults below
    wall_s: float, cpu_s: float, memory: int, processes: int, output: int, file_size: int, open_files: int
) -> Limit:
    return Limit(
        wall_time_ms=int(wall_s * 1000),
        cpu_time_ms=int(cpu_s * 1000),
        memory_bytes=memory,
        processes=processes,
        stdout_bytes=output,
        stderr_bytes=output,
        file_size_bytes=file_size,
        open_files=open_files,
    )


DEFAULT_LIMITS: Final = LimitPolicies(
    dependencies=LimitPolicy(
        default=_limit(120, 120, 1 * GIB, 256, MIB, 1 * GIB, 4096),
        maximum=_limit(600, 1200, 4 * GIB, 1024, 8 * MIB, 8 * GIB, 16384),
    ),
    compile=LimitPolicy(
        default=_limit(60, 30, 512 * MIB, 128, MIB, 64 * MIB, 512),
        maximum=_limit(300, 300, 2 * GIB, 512, 8 * MIB, 512 * MIB, 4096),
    ),
    run=LimitPolicy(
        default=_limit(10, 5, 256 * MIB, 64, MIB, 16 * MIB, 256),
        maximum=_limit(120, 120, 2 * GIB, 512, 16 * MIB, 512 * MIB, 4096),
    ),
)
"""What holds where the deployer configures nothing; `docs/explanation/limits.md` says why these numbers."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a stack accepts: limits, bounds and tenants. Published by the stack; clients and builders validate against it.

    ``versions``: of events that are written in another version than the first, by kind the newest that the stack has.
    """

    limits: LimitPolicies = DEFAULT_LIMITS
    """default and maximum of every limit, by stage"""
    bounds: Bounds = Bounds()
    """what one request may hold at the most"""
    tenants: dict[str, int] = msgspec.field(default_factory=lambda: {"default": 1})
    """the declared tenants, each with its weight, from 1 on"""
    max_leases: int = 3
    """leases of one role and submission, before it is parked"""
    versions: dict[str, int] = {}
    """of events written in another version than the first: by kind the newest that the stack has"""
    version: int = 1
    """of this document's shape"""


def resolve(kind: StageKind, requested: RequestedLimit, policy: LimitPolicy) -> Limit:
    """Return the limits that a stage of ``kind`` runs under.

    Raises `InvalidRequest` with field, value, maximum and unit for a value that is not positive or more than the maximum.
    """
    values: dict[str, int] = {}
    for name, unit in UNITS.items():
        wanted: int | None = getattr(requested, name)
        maximum: int = getattr(policy.maximum, name)
        if wanted is not None and wanted <= 0:
            raise InvalidRequest(f"limits.{kind}.{name} is {shown_number(wanted)}: it must be from 1 to {maximum} {unit}")
        if wanted is not None and wanted > maximum:
            raise InvalidRequest(f"limits.{kind}.{name} is {shown_number(wanted)}: more than the maximum of {maximum} {unit}")
        values[name] = getattr(policy.default, name) if wanted is None else wanted
    return Limit(**values)


def requested_limits(stored: dict[str, dict[str, int]]) -> RequestedLimits:
    """Return the limits that an event holds; stages and limits that this cutor does not know are left out."""
    known = {kind: stored.get(kind, {}) for kind in STAGE_KINDS}
    return RequestedLimits(
        **{kind: RequestedLimit(**{name: values[name] for name in UNITS if name in values}) for kind, values in known.items()}
    )


def stored_limits(requested: RequestedLimits) -> dict[str, dict[str, int]]:
    """Return what a request asks for, as an event holds it: nothing that is left out."""
    asked: dict[str, dict[str, int]] = msgspec.to_builtins(requested)
    return {kind: limits for kind, limits in asked.items() if limits}


def resolve_all(requested: RequestedLimits, policies: LimitPolicies) -> dict[StageKind, Limit]:
    """Return the limits of every stage kind; errors as in `resolve`."""
    return {kind: resolve(kind, of_stage(requested, kind), of_stage(policies, kind)) for kind in STAGE_KINDS}


def check_policy(policy: Policy) -> None:
    """Raise `InvalidPolicy` for a default above its maximum, and a value that is not positive or more than there can be."""
    for kind in STAGE_KINDS:
        stage = of_stage(policy.limits, kind)
        for name, unit in UNITS.items():
            default, maximum = getattr(stage.default, name), getattr(stage.maximum, name)
            check_number(f"limits.{kind}: {name}", min(default, maximum), unit)
            if default > maximum:
                raise InvalidPolicy(
                    f"limits.{kind}: the default {name} {shown_number(default)} is more than the maximum "
                    f"{shown_number(maximum)} {unit}"
                )
            check_number(f"limits.{kind}: the maximum {name}", maximum, unit)
    for name in Bounds.__struct_fields__:
        unit = "bytes" if name.endswith("_bytes") else ""
        check_number(f"bounds.{name}", getattr(policy.bounds, name), unit, BOUND_CEILINGS.get(name, MAX_LIMIT))
    for tenant, weight in policy.tenants.items():
        check_number(f"tenants.{tenant}: the weight", weight)
    check_number("max_leases", policy.max_leases)


def check_number(what: str, value: int, unit: str = "", most: int = MAX_LIMIT) -> None:
    """Raise `InvalidPolicy` for a number that is not from 1 to ``most``; ``what`` names the setting."""
    if value <= 0:
        raise InvalidPolicy(f"{what} must be positive{unit and f' ({unit})'}, found {shown_number(value)}")
    if value > most:
        raise InvalidPolicy(f"{what} {shown_number(value)} is more than {most}{unit and f' {unit}'}, the most there can be")
