"""What goes over the wire between who wants the views made anew and the projector that does it; without DuckDB.

A message on `SUBJECT`, an `Order`, begins a rebuild; the answer, a `RebuildReport`, has its ``id``. From then on messages on
`subject_of` that id are answered with how far it has come; an `Order` with ``cancel`` ends it. Nobody's wish is worked on:
where no message came for `PATIENCE_S`, the rebuild is given up.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

SUBJECT: Final = "cutor.projector.rebuild"
PATIENCE_S: Final = 15.0
"""So long a rebuild goes on without anybody who asks how far it is."""
ANSWER_S: Final = 10.0
"""Longest wait for an answer."""

State = Literal["working", "done", "failed", "busy"]


class Order(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is asked of a rebuild: of one that is to begin, to fold ``from_events`` alone; of one under way, to ``cancel``."""

    cancel: bool = False
    from_events: bool = False


class RebuildReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far a rebuild is: in ``stream`` up to ``sequence`` of ``last``; ``messages`` and ``body_bytes`` of all streams.

    ``busy``: there is one already, for somebody else. ``error`` is the one line of one that failed. ``took_s``, ``positions``
    (the last sequence of each stream), ``begins`` (the first, of streams whose beginning could not be had) and ``from_fold``
    (what came from the sealed fold of an archive, first and last sequence) come with ``done``.
    """

    state: State
    id: str = ""
    error: str = ""
    stream: str = ""
    sequence: int = 0
    last: int = 0
    messages: int = 0
    body_bytes: int = 0
    took_s: float = 0.0
    positions: dict[str, int] = {}
    begins: dict[str, int] = {}
    from_fold: dict[str, tuple[int, int]] = {}


def subject_of(rebuild_id: str) -> str:
    """Return where a rebuild is asked how far it is."""
    return f"{SUBJECT}.{rebuild_id}"
