"""A re-judging: its name, the ids that follow from it, and what becomes of each submission. Pure.

Whoever hands in the same submissions under the same name again comes to the same ids: nothing is judged twice by it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from cutor.model.errors import InvalidRequest
from cutor.model.moments import NS_PER_S
from cutor.model.quoting import shown

LABEL: Final = "rejudge"
"""The label that the new submissions have, beside those of the old ones: its value is the name."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,24}", re.ASCII)
_LONGEST_ID: Final = 64
"""Characters that a submission's id may have."""
_HASH_DIGITS: Final = 12
"""Hexadecimal digits (48 bits) of the old id's hash, in the new id of one that is cut: cut alone, two might be the same."""

Action = Literal["planned", "submitted", "before", "skipped", "refused"]
"""planned: it would be handed in; before: it was handed in under this name already; skipped: there is nothing to judge yet."""


class Rejudged(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one submission: ``submission`` is the new id, ``why`` says why there is none.

    ``outcome`` is that of before; ``outcome_after`` that of the new one, null until somebody has waited for it.
    """

    id: str
    tenant: str
    action: Action
    outcome: str | None = None
    submission: str | None = None
    outcome_after: str | None = None
    why: str | None = None

    @property
    def changed(self) -> bool:
        """Whether the new outcome is known, and another one."""
        return self.outcome_after is not None and self.outcome_after != self.outcome


def check_name(name: str) -> str:
    """Return a name of a re-judging. Raises `InvalidRequest` for what can be none."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"name {shown(name)}: it must be 1 to 24 characters of A-Z, a-z, 0-9, '_' and '-'")
    return name


def name_of_now(now_ns: int) -> str:
    """Return the name of a re-judging that was given none: ``20261126-230000``, in UTC."""
    return f"{datetime.fromtimestamp(now_ns // NS_PER_S, UTC):%Y%m%d-%H%M%S}"


def rejudged_id(submission_id: str, name: str) -> str:
    """Return the id of the new submission: ``ID-rejudge-NAME``; a long id is cut, and has a part of its hash instead."""
    suffix = f"-rejudge-{name}"
    if len(submission_id) + len(suffix) <= _LONGEST_ID:
        return submission_id + suffix
    mark = "-" + hashlib.sha256(submission_id.encode()).hexdigest()[:_HASH_DIGITS]
    return submission_id[: _LONGEST_ID - len(mark) - len(suffix)] + mark + suffix


def labelled(labels: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the labels of the new submission."""
    return {**labels, LABEL: name}


def count(done: Iterable[Rejudged]) -> dict[Action, int]:
    """Return how many there are of each action, the most frequent first."""
    return dict(Counter(one.action for one in done).most_common())


def outcomes(done: Iterable[Rejudged]) -> dict[str, int]:
    """Return how many of those with a new submission had which outcome, the most frequent first."""
    return dict(Counter(str(one.outcome) for one in done if one.submission is not None).most_common())
