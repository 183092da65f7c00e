"""Pulling from a consumer with pulls of our own: short expiries, idle heartbeats, several in flight. Pure.

The server delivers a consumer's messages under their own subjects, so a message does not say which pull it answers. The
bookkeeping (`PullWindow`, pure) therefore counts messages owed over all pulls; the end of a pull says how many of its
messages will not come. Status lines do come under the pull's own reply subject. `PullInbox` is the shell: one subscription,
many pulls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cutor.bus.message import DeliveryPlace, Stored, from_delivery, is_delivery, parse_delivery

EXPIRES_S: Final = 5.0
"""How long a pull waits in the server. Short: what is lost with it is lost for this long at most."""
HEARTBEAT_S: Final = 1.0
"""How often the server says that an idle pull is still known to it. Half of the expiry at most (the server's rule)."""
SILENCE_S: Final = 3.0
"""After this long without a word the pulls count as lost (server restarted, consumer deleted unseen)."""
GRACE_S: Final = 1.0
"""How much later than its expiry the end of a pull may be heard."""
NS_PER_S: Final = 1_000_000_000
"""Nanoseconds of a second."""


@dataclass(slots=True)
class PullWindow:
    """How many messages are still owed by the pulls in flight, and whether they can be believed to be alive."""

    silence_s: float = SILENCE_S
    owed: int = 0
    _ends: dict[int, float] = field(default_factory=dict)
    _heard: float = 0.0

    def sent(self, number: int, batch: int, expires_s: float, now: float) -> None:
        """Pull `number` asks for `batch` messages."""
        if not self.owed:
            self._heard = now
        self._ends = {pull: end for pull, end in self._ends.items() if self.owed and end >= now}
        self._ends[number] = now + expires_s + GRACE_S
        self.owed += batch

    def delivered(self, now: float, count: int = 1) -> None:
        """So many messages came."""
        self.owed = max(0, self.owed - count)
        self._heard = now

    def alive(self, now: float) -> None:
        """A heartbeat came, or part of what is not whole yet."""
        self._heard = now

    def ended(self, number: int, undelivered: int | None, now: float) -> None:
        """Pull `number` is over; the server still owed it `undelivered` messages (None: not said)."""
        if self._ends.pop(number, None) is None:
            return
        self._heard = now
        self.owed = max(0, self.owed - (undelivered or 0)) if self._ends else 0

    def lost(self) -> None:
        """The connection or the consumer went away, and all pulls with it."""
        self.owed = 0
        self._ends.clear()

    def knows(self, number: int) -> bool:
        """Whether a pull is one of those in flight: not one of an earlier consumer, or from before a lost connection."""
        return number in self._ends

    def stale(self, now: float) -> bool:
        """Whether messages are owed by pulls that must be dead: silent for too long, or all past their end."""
        if not self.owed:
            return False
        return now - self._heard > self.silence_s or all(end < now for end in self._ends.values())


@dataclass(frozen=True, slots=True)
class PullEnd:
    """A status line that ended a pull: `status` 404 or 408 (nothing there, time is up), 409 (see `description`), 503
    (nobody listens).
    """

    number: int
    status: int
    description: str
    undelivered: int | None

    @property
    def consumer_gone(self) -> bool:
        """Whether the consumer is not there (any more), as opposed to a pull that simply ended."""
        return self.status == 503 or "deleted" in self.description.lower() or "leadership" in self.description.lower()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server still knows the pull `number`, and has nothing for it at this moment; `last_consumer_sequence` is the newest
    one that it has delivered on this consumer.
    """

    last_consumer_sequence: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivered message, its place in the consumer, and where to acknowledge it."""

    stored: Stored
    place: DeliveryPlace
    reply: str


def read_pull_answer(subject: str, reply: str, headers: Mapping[str, str] | None, data: bytes) -> Arrival | Heartbeat | PullEnd:
    """What a message that came to a pull's reply subject is."""
    if is_delivery(reply):
        place = parse_delivery(reply)
        return Arrival(from_delivery(subject, place, headers, data), place, reply)
    headers = headers or {}
    token = subject.rpartition(".")[2]
    number = int(token) if token.isdecimal() else 0
    status = int(headers.get("Status") or 0)
    if status == 100:
        return Heartbeat(int(headers.get("Nats-Last-Consumer") or 0), number)
    undelivered = headers.get("Nats-Pending-Messages")
    return PullEnd(
        number,
        status,
        headers.get("Description", "").partition("\n")[0].strip(),  # the library puts further header lines behind it
        int(undelivered) if undelivered is not None else None,
    )


def pull_request(batch: int, *, expires_s: float | None, max_bytes: int | None = None) -> bytes:
    """The body of a pull; `expires_s` None asks for what is there now and nothing else."""
    request: dict[str, int | bool] = {"batch": batch}
    if expires_s is None:
        request["no_wait"] = True
    else:
        request["expires"] = int(expires_s * NS_PER_S)
        heartbeat_s = min(HEARTBEAT_S, expires_s / 2)
        if heartbeat_s >= 0.1:
            request["idle_heartbeat"] = int(heartbeat_s * NS_PER_S)
    if max_bytes is not None:
        request["max_bytes"] = max_bytes
    return json.dumps(request).encode()
