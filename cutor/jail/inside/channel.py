"""What the stage routine and jail-init say to each other (``cutor/setup/image/jail_init.c`` is the other end): pure encoding.

A job goes over as a memory file and the program's three descriptors, because variables may be 128 KiB each; reports come back
as one packet of 16 bytes each. Both ends are on one machine: host byte order.
"""

from __future__ import annotations

import struct

from cutor.jail.inside.lean import Final, Mapping, NamedTuple, Sequence

_JOB: Final = struct.Struct("=IIII")
_LIMIT: Final = struct.Struct("=QQQ")
_REPORT: Final = struct.Struct("=IiQ")
REPORT_BYTES: Final = _REPORT.size

# resource numbers of Linux (asm-generic/resource.h); Debian's python3-minimal has no module "resource"
FSIZE, STACK, CORE, NPROC, NOFILE = 1, 3, 4, 6, 7
UNLIMITED: Final = (1 << 64) - 1
"""RLIM_INFINITY of setrlimit(2), 64 bits."""


class Kind:
    """What jail-init reports. ``value`` is an errno for EXEC_FAILED and BROKEN, the raw wait status for ENDED, else 0."""

    READY = 1
    STARTED = 2
    EXEC_FAILED = 3
    ENDED = 4
    BROKEN = 5
    ALL = (READY, STARTED, EXEC_FAILED, ENDED, BROKEN)


class Report(NamedTuple):
    """One report; ``monotonic_ns`` is the kernel's monotonic clock when it happened."""

    kind: int
    value: int
    monotonic_ns: int


class Program(NamedTuple):
    """What is executed: ``arguments[0]`` is its absolute path in the jail.

    ``variables`` are exactly these, as one block (`pack_variables`): an object for each would take many times their size.
    """

    arguments: Sequence[bytes]
    variables: bytes
    directory: bytes = b"/box"


def pack_job(program: Program, limits: Mapping[int, tuple[int, int]]) -> bytes:
    """Return a job: the program, and its rlimits as resource → (soft, hard).

    Raises ValueError for a NUL byte in an argument, which no process can have, or variables that do not end with one.
    """
    strings = [program.directory, *program.arguments]
    if any(b"\0" in string for string in strings):
        raise ValueError("a NUL byte in an argument")
    if program.variables and not program.variables.endswith(b"\0"):
        raise ValueError("the block of variables does not end with a NUL byte")
    return b"".join(
        (
            _JOB.pack(len(limits), len(program.arguments), program.variables.count(b"\0"), 0),
            *(_LIMIT.pack(resource, soft, hard) for resource, (soft, hard) in limits.items()),
            *(string + b"\0" for string in strings),
            program.variables,
        )
    )


def pack_variables(variables: Mapping[bytes, bytes]) -> bytes:
    """Return variables as one block: ``NAME=VALUE`` and a NUL byte, each.

    Raises ValueError for a NUL byte, or a name that is empty or holds ``=``: no process can have those.
    """
    for name, value in variables.items():
        if not name or b"=" in name:
            raise ValueError(f"not a name of a variable: {name[:40]!r}")
        if b"\0" in name + value:
            raise ValueError("a NUL byte in a variable")
    return b"".join(name + b"=" + value + b"\0" for name, value in variables.items())


def parse_report(packet: bytes) -> Report:
    """Return a report. Raises ValueError for a packet of another form."""
    if len(packet) != REPORT_BYTES:
        raise ValueError(f"a report of {len(packet)} bytes")
    report = Report(*_REPORT.unpack(packet))
    if report.kind not in Kind.ALL:
        raise ValueError(f"a report of an unknown kind: {report.kind}")
    return report
