"""What became of a parked submission: the one record that an operator's decision leaves, in the stream PARKED.

A parked submission is dealt with once. Whoever decides appends behind whatever is under its subject already; the first record
that can be read counts, and who comes second learns what the first did. What cannot be read is nobody's decision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Final, Literal

import msgspec

from cutor.model.subjects import SUBMISSION_ID

Action = Literal["retried", "dropped"]


class ParkedResolved(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="parked-resolved"):
    """An operator's decision about a parked submission. ``submission`` is the id of the new one, where it was retried.

    Appended by `cutor parked retry` and `cutor parked drop`, or by a client.
    """

    version: int = 1
    """of this kind's shape; 1 where it is left out"""
    action: Action
    """what was decided"""
    submission: str | None = None
    """id of the new submission, where it was retried; else null"""
    reason: str | None = None
    """the operator's words, up to 1024 bytes, or null"""


_GENERATION: Final = re.compile(r"(?P<base>.+)-r(?P<number>[0-9]{1,6})", re.ASCII)
_LONGEST_ID: Final = 64
"""Characters that a submission's id may have."""
FIRST_RETRY: Final = 2
"""Number of the first retry, in its id: the parked submission itself is the first attempt."""


def retry_ids(submission_id: str) -> Iterator[str]:
    """Yield the ids that a retry of a submission may have, in the order in which they are tried: ``a-r2``, ``a-r3`` …

    The retry of ``a-r2`` is ``a-r3``. A long id is cut, so that every one of these is an id.
    """
    found = _GENERATION.fullmatch(submission_id)
    base, last = (found["base"], int(found["number"])) if found else (submission_id, FIRST_RETRY - 1)
    for number in count(max(last + 1, FIRST_RETRY)):
        suffix = f"-r{number}"
        yield base[: _LONGEST_ID - len(suffix)] + suffix


def check_decision(event: ParkedResolved) -> str | None:
    """Return what is wrong with a record whose types are right, or None."""
    if event.action == "retried" and (event.submission is None or not SUBMISSION_ID.fullmatch(event.submission)):
        return "parked-resolved: retried, without the id of the new submission"
    return None
