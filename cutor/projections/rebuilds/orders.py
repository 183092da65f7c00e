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
    """end the rebuild that the subject names"""
    from_events: bool = False
    """begin with the first event, whatever sealed fold an archive has"""


class RebuildReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far a rebuild is: in ``stream`` up to ``sequence`` of ``last``; ``messages`` and ``body_bytes`` of all streams.

    ``busy``: there is one already, for somebody else. ``error`` is the one line of one that failed. ``took_s``, ``positions``
    (the last sequence of each stream), ``begins`` (the first, of streams whose beginning could not be had) and ``from_fold``
    (what came from the sealed fold of an archive, first and last sequence) come with ``done``.
    """

    state: State
    """`busy`: there is a rebuild already, for somebody else"""
    id: str = ""
    """the last word of the subject on which it is asked"""
    error: str = ""
    """why it failed, in one line"""
    stream: str = ""
    """the one that is folded now"""
    sequence: int = 0
    """up to which that is folded"""
    last: int = 0
    """up to which that is to be folded"""
    messages: int = 0
    """folded so far, of all streams"""
    body_bytes: int = 0
    """of their bodies"""
    took_s: float = 0.0
    """how long all of it took, in seconds, once it is `done`"""
    positions: dict[str, int] = {}
    """the last sequence of each stream that the views hold, once it is `done`"""
    begins: dict[str, int] = {}
    """the first one, of streams whose beginning could not be had"""
    from_fold: dict[str, tuple[int, int]] = {}
    """first and last sequence of each stream that came from the sealed fold of an archive"""


def subject_of(rebuild_id: str) -> str:
    """Return where a rebuild is asked how far it is."""
    return f"{SUBJECT}.{rebuild_id}"
