"""Appending one message under a fence, exactly once as far as a log allows it.

What an answer means, `read_ack` decides; the loop here repeats the same message, with the same id, for as long as nothing
definite was heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

from cutor.bus.api import ATTEMPT_S, Api, Deadline
from cutor.bus.errors import ApiRefused, AppendRefused, AppendUnconfirmed, BusUnreachable, FenceConflict
from cutor.bus.link import Link
from cutor.bus.message import EXPECTED, MESSAGE_ID
from cutor.bus.publish_ack import Appended, Conflict, Passing, Refused, read_ack
from cutor.bus.reading import Reading
from cutor.bus.waiting import NoAnswer, NoResponders, NotConnected

DEFAULT_TIMEOUT_S: Final = 15.0
"""A cluster needs up to 9 s to choose a new leader (the longest election timeout of NATS)."""
HEADER_ROOM_BYTES: Final = 1024
"""What headers may add to a body when the size is checked before sending."""
NO_RESPONDERS: Final = 503
"""Status code of NATS: nobody listens to the subject, so no stream takes it, or none has a leader."""
NOT_SENT: Final = 0
"""In the place of a server's code, where no answer came: no server has this one."""


class Appending:
    """The write side of a bus."""

    def __init__(self, link: Link, api: Api, reading: Reading) -> None:
        self._link = link
        self._api = api
        self._reading = reading

    async def fenced(self, subject: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Appended:
        """Send until something definite is heard; errors as in `Bus.append`."""
        ack = await self._send(subject, body, headers, timeout_s)
        if isinstance(ack, Appended):
            return ack
        if ack.last_sequence > 0:
            newest = await self._reading.leader(ack.stream, {"seq": ack.last_sequence})
            if newest is not None and newest.subject == subject and newest.message_id == headers[MESSAGE_ID]:
                return Appended(newest.sequence, duplicate=True)
        raise FenceConflict(ack.last_sequence)

    async def once(self, subject: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> bool:
        """Write to a subject that holds one message for ever: True if it was stored now, False if one was there already."""
        return isinstance(await self._send(subject, body, {**headers, EXPECTED: "0"}, timeout_s), Appended)

    async def plain(self, subject: str, body: bytes, *, timeout_s: float) -> Appended:
        """Write without a fence; after a lost answer it may be stored twice."""
        ack = await self._send(subject, body, {}, timeout_s)
        if isinstance(ack, Appended):
            return ack
        raise FenceConflict(ack.last_sequence)

    async def _send(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Appended | Conflict:
        """Repeat one publish until the server has stored it, or has said that it cannot; no less than the link's patience."""
        self._check_size(body)
        deadline = Deadline(max(timeout_s, self._link.patience_s))
        unanswered = False
        while True:
            try:
                ack = await self._attempt(subject, body, headers, deadline.at)
            except NoAnswer as error:
                unanswered = unanswered or not isinstance(error, NotConnected)
                ack = Passing(NOT_SENT, str(error))
            match ack:
                case Appended() | Conflict():
                    return ack
                case Refused():
                    self._give_up(subject, ack, unanswered)
                case Passing() if deadline.passed:
                    self._give_up(subject, ack, unanswered)
                case Passing():
                    await deadline.pause()

    async def _attempt(
        self, subject: str, body: bytes, headers: Mapping[str, str], until: float
    ) -> Appended | Conflict | Passing | Refused:
        try:
            answer = await self._link.ask(subject, body, until=until, headers=headers, again_every_s=ATTEMPT_S)
            return read_ack(answer.data)
        except NoResponders:
            return await self._nobody_listens(subject)

    async def _nobody_listens(self, subject: str) -> Passing | Refused:
        """Tell a stream that is not there from one that has no leader at the moment."""
        nobody = f"no stream takes {subject} at {self._link.address}: run `cutor streams apply`"
        try:
            missing = await self._api.stream_of(subject) is None
        except (BusUnreachable, ApiRefused):
            missing = False
        return Refused(NO_RESPONDERS, nobody) if missing else Passing(NO_RESPONDERS, "the stream has no leader at the moment")

    def _give_up(self, subject: str, reason: Passing | Refused, unanswered: bool) -> NoReturn:
        if unanswered:
            raise AppendUnconfirmed(
                f"no confirmation for {subject} from {self._link.address}: {reason.description}: "
                "it may or may not be stored; the same append can be repeated safely"
            )
        if reason.code == NOT_SENT:
            raise self._link.unreachable(f"{reason.description}; nothing was stored")
        raise AppendRefused(reason.code, reason.description)

    def _check_size(self, body: bytes) -> None:
        most = self._link.max_message_bytes - HEADER_ROOM_BYTES
        if len(body) > most:
            raise AppendRefused(0, f"the message has {len(body)} bytes, the server takes at most {most}")
