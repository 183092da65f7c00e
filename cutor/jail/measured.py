"""What an init measured of a stage, as every child container reports it: hostile until it is checked. Pure."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cutor.jail.inside.protocol import ProtocolError
from cutor.model.limits import Limit
from cutor.model.outcome import KilledBy, StageReport

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Text = Annotated[str, Meta(max_length=8192)]

_LENGTHS: Final = ("stdout_bytes", "stderr_bytes")


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The numbers of a `StageReport`. Its outputs stand in the frame's body, stdout first; here are their lengths."""

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


def stage_report(measured: Measured, body: bytes, limit: Limit) -> tuple[StageReport, bytes]:
    """Return the report of a stage that ran under ``limit``, and the rest of the frame's body.

    Raises `ProtocolError` for a report that can't be true.
    """
    if measured.exit_code is not None and measured.signal_number is not None:
        raise ProtocolError("a report with both an exit code and a signal")
    for name, kept, total, most in (
        ("stdout", measured.stdout_bytes, measured.stdout_bytes_total, limit.stdout_bytes),
        ("stderr", measured.stderr_bytes, measured.stderr_bytes_total, limit.stderr_bytes),
    ):
        if kept != min(total, most):
            raise ProtocolError(f"a report that keeps {kept} of {total} bytes of {name} under a limit of {most}")
    stdout_end = measured.stdout_bytes
    stderr_end = stdout_end + measured.stderr_bytes
    if stderr_end > len(body):
        raise ProtocolError("a report whose outputs are not in its body")
    numbers = {name: getattr(measured, name) for name in Measured.__struct_fields__ if name not in _LENGTHS}
    return StageReport(**numbers, stdout=body[:stdout_end], stderr=body[stdout_end:stderr_end]), body[stderr_end:]
