"""What a server says about something that a user may not do. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

_VIOLATION: Final = re.compile(r"permissions violation for (publish|subscription)[a-z ]* \"?([^\s\"]+)", re.IGNORECASE)
_WORDS: Final = {"publish": "publish to", "subscription": "subscribe to"}


class Violation(NamedTuple):
    """What was tried; the client library hands on the subject in lower case."""

    kind: Literal["publish", "subscription"]
    subject: str

    def concerns(self, subject: str) -> bool:
        """Whether it is about this subject."""
        return self.subject == subject.lower()


def read_violation(said: str) -> Violation | None:
    """Read `Permissions Violation for Publish to "cutor.ev…"`; None for another error."""
    found = _VIOLATION.search(said)
    if found is None:
        return None
    return Violation("publish" if found[1].lower() == "publish" else "subscription", found[2].lower())


def describe(violation: Violation, subject: str, *, user: str | None, address: str) -> str:
    """One line: who may not do what where, and what to do; `subject` is spelled as it was asked for."""
    who = f"the user {user!r}" if user is not None else "this user"
    return (
        f"NATS at {address} does not let {who} {_WORDS[violation.kind]} {subject}: "
        "take the credential of a user who may, or permit it there"
    )
