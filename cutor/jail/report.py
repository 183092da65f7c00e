"""A stage's report as it comes out of a child container, decoded as what it is: hostile until every field is checked. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from cutor.jail.inside.protocol import Frame, ProtocolError
from cutor.jail.measured import Count, Measured, Text, stage_report
from cutor.model.limits import JailedStage, Limit
from cutor.model.outcome import StageReport
from cutor.model.request import UNREADABLE, explain

MAX_HEADER_BYTES: Final = 64 << 10
"""Of every frame that a child container sends."""


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
    """The submission is in the box.

    ``missing`` is a store path of its environment that this host's store does not hold, or null where all are there.
    """

    missing: Text | None


class Report(Measured, frozen=True, kw_only=True, tag_field="type", tag="report"):
    """A stage ended: what was measured of it.

    ``missing`` is a store path of its environment that is not what it was before the first stage, or not there any more: then
    the rest says nothing of the submission.
    """

    kind: JailedStage
    index: Count
    missing: Text | None = None


class Rested(_Header, frozen=True, kw_only=True, tag="rested"):
    """The init has let go of what it received and sent last.

    ``resting_bytes`` is what the container holds until the next command; ``copy_bytes`` what a copy of its box takes in every
    run, 0 where the box needs none.
    """

    resting_bytes: Count
    copy_bytes: Count


class Fault(_Header, frozen=True, kw_only=True, tag="fault"):
    """The init itself failed, and ends."""

    message: Text


WorkerFrame = Ready | Accepted | Report | Rested | Fault

_DECODER: Final[msgspec.json.Decoder[WorkerFrame]] = msgspec.json.Decoder(WorkerFrame)


def decode_frame(frame: Frame) -> WorkerFrame:
    """Return a frame's header as a value. Raises `ProtocolError` for anything that a runner's init would not send."""
    try:
        header = _DECODER.decode(frame.header)
    except UNREADABLE as error:
        raise ProtocolError(f"a header that no runner's init sends: {explain(error)}") from error
    if frame.body and not isinstance(header, Report):
        raise ProtocolError("a body where there is none")
    return header


def report_of(header: Report, body: bytes, limit: Limit) -> StageReport:
    """Return the report of a stage that ran under ``limit``. Raises `ProtocolError` for one that can't be true."""
    report, rest = stage_report(header, body, limit)
    if rest:
        raise ProtocolError("a report whose outputs are not its body")
    return report
