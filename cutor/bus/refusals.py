"""What the server refused to one connection's user: who waits for it is told, what nobody waits for is logged."""

from __future__ import annotations

import logging
from typing import Final

from cutor.bus.errors import NotPermitted
from cutor.bus.permission import Violation, describe

log = logging.getLogger("cutor.bus")

COMPLAINTS: Final = 64
"""Most refusals that nobody waits for and that are logged; the first of each kind of subject is."""
SUBSCRIPTIONS: Final = 1024
"""Most refused subscriptions that are remembered; of more, the oldest are forgotten: who confirms one does so at once."""


class Refusals:
    """The refusals of one connection to the server that ``address`` names; ``user`` is who connected."""

    def __init__(self, address: str) -> None:
        self.user: str | None = None
        self._address = address
        self._subscriptions: dict[str, Violation] = {}
        self._complained: set[str] = set()

    def error(self, violation: Violation, subject: str) -> NotPermitted:
        """The error for who asked for ``subject``."""
        return NotPermitted(describe(violation, subject, user=self.user, address=self._address))

    def note_subscription(self, violation: Violation) -> None:
        """Remember a refused subscription for who confirms it."""
        self._subscriptions.pop(violation.subject, None)
        if len(self._subscriptions) >= SUBSCRIPTIONS:
            del self._subscriptions[next(iter(self._subscriptions))]
        self._subscriptions[violation.subject] = violation

    def forget_subscription(self, subject: str) -> None:
        """Forget what was refused: the subscription is asked for anew, or has ended."""
        self._subscriptions.pop(subject.lower(), None)

    def check_subscription(self, subject: str) -> None:
        """NotPermitted where the subscription to `subject` was refused."""
        if (violation := self._subscriptions.get(subject.lower())) is not None:
            raise self.error(violation, subject)

    def complain(self, violation: Violation) -> None:
        """Log what was refused although nobody waits for it: an acknowledgement, a pull; subjects of one kind count as one."""
        kind = f"{violation.kind} {'.'.join(violation.subject.split('.')[:5])}"
        if kind not in self._complained and len(self._complained) < COMPLAINTS:
            self._complained.add(kind)
            log.error("%s", self.error(violation, violation.subject))
