"""A stage's report as it comes out of a child container, decoded as what it is: hostile until every field is checked. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from cutor.jail.protocol import Frame, ProtocolError
from cutor.model.limits import Limit
from cutor.model.outcome import KilledBy, StageReport

MAX_HEADER_BYTES: Final = 64 << 10
"""Of every frame that a child container sends."""

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Text = Annotated[str, Meta(max_length=8192)]


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """A frame's header."""


class Ready(_Header, frozen=True, kw_only=True, tag="ready"):
    """The init is up. ``box`` says how a run's changes are thrown away, ``store`` whether its names are hidden."""

    protocol: int
    cgroup: Literal["v1", "v2"]
    kernel: Annotated[str, Meta(max_length=80)]
    box: Literal["overlay", "copy"]
    store: Literal["masked", "plain"]


class Accepted(_Header, frozen=True, kw_only=True, tag="accepted"):
    """The submission is in the box, which takes ``box_bytes`` of memory.

    ``missing`` is a store path of its environment that this host's store does not hold, or null where all are there.
    """

    box_bytes: Count
    missing: Text | None


class Report(_Header, frozen=True, kw_only=True, tag="report"):
    """A stage ended: the fields of `StageReport`, its outputs as the lengths of the body's two parts.

    ``box_bytes`` is what the box takes now.
    """

    kind: Literal["compile", "run"]
    index: Count
    box_bytes: Count
    exit_code: Annotated[int, Meta(ge=0, le=255)] | None
    signal_number: Annotated[int, Meta(ge=1, le=64)] | None
    killed_by: KilledBy | None
    oom_kills: Count
    cpu_time_ms: Count | None
    wall_time_ms: Count | None
    memory_peak_bytes: Count | None
    stdout_bytes: Count
    stdout_bytes_total: Count
    stderr_bytes: Count
    stderr_bytes_total: Count
    fault: Text | None


class Fault(_Header, frozen=True, kw_only=True, tag="fault"):
    """The init itself failed, and ends."""

    message: Text


WorkerFrame = Ready | Accepted | Report | Fault

_DECODER: Final[msgspec.json.Decoder[WorkerFrame]] = msgspec.json.Decoder(WorkerFrame)


def decode_frame(frame: Frame) -> WorkerFrame:
    """Return a frame's header as a value. Raises `ProtocolError` for anything that a runner's init would not send."""
    try:
        header = _DECODER.decode(frame.header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a header that no runner's init sends: {str(error)[:200]}") from error
    if frame.body and not isinstance(header, Report):
        raise ProtocolError("a body where there is none")
    return header


def stage_report(header: Report, body: bytes, limit: Limit) -> StageReport:
    """Return the report of a stage that ran under ``limit``. Raises `ProtocolError` for one that can't be true."""
    if header.exit_code is not None and header.signal_number is not None:
        raise ProtocolError("a report with both an exit code and a signal")
    if header.stdout_bytes + header.stderr_bytes != len(body):
        raise ProtocolError("a report whose outputs are not its body")
    for name, kept, total, most in (
        ("stdout", header.stdout_bytes, header.stdout_bytes_total, limit.stdout_bytes),
        ("stderr", header.stderr_bytes, header.stderr_bytes_total, limit.stderr_bytes),
    ):
        if kept != min(total, most):
            raise ProtocolError(f"a report that keeps {kept} of {total} bytes of {name} under a limit of {most}")
    return StageReport(
        exit_code=header.exit_code,
        signal_number=header.signal_number,
        killed_by=header.killed_by,
        oom_kills=header.oom_kills,
        cpu_time_ms=header.cpu_time_ms,
        wall_time_ms=header.wall_time_ms,
        memory_peak_bytes=header.memory_peak_bytes,
        stdout=body[: header.stdout_bytes],
        stdout_bytes_total=header.stdout_bytes_total,
        stderr=body[header.stdout_bytes :],
        stderr_bytes_total=header.stderr_bytes_total,
        fault=header.fault,
    )
