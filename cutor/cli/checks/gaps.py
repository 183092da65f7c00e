"""What ``cutor doctor`` says of messages that the log should hold and does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from cutor.bus.connection import Bus
from cutor.cli.checks.findings import Finding, fail, ok
from cutor.errors import CutorError
from cutor.model.units import counted
from cutor.projections.queries.client import query

SHOWN: Final = 3
"""Gaps that the line of the check names; the others are counted."""
_GAPS: Final = "SELECT stream, from_sequence, to_sequence FROM gaps ORDER BY ALL"


async def check_gaps(bus: Bus) -> AsyncIterator[Finding]:
    """Check whether the views miss anything that the streams should hold. Where no projector answers, its check says so."""
    with suppress(CutorError):
        yield judge((await query(bus, _GAPS)).rows)


def judge(gaps: Sequence[Sequence[object]]) -> Finding:
    """Return what gaps mean, each of a stream, its first and its last sequence."""
    if not gaps:
        return ok("gaps", "the streams lack nothing that they should hold")
    named = "; ".join(f"{stream} {first}" + (f" to {last}" if last != first else "") for stream, first, last in gaps[:SHOWN])
    more = f" and {counted(len(gaps) - SHOWN, 'more gap')}" if len(gaps) > SHOWN else ""
    remedy = "nobody may delete these, so the server's disk lost them: look after it; a backup from before has them"
    return fail("gaps", f"messages are missing in the midst of streams: {named}{more}", remedy)
