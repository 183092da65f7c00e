"""Appending one message under a fence, exactly once as far as a log allows it.

What an answer means is decided by `judge`, a pure function; the loop around it repeats the same message, with the same id,
for as long as nothing definite was heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cutor.bus.api import Api, Deadline
from cutor.bus.errors import AppendRefused, AppendUnconfirmed, BusError, FenceConflict
from cutor.bus.link import Link, NoAnswer, NoResponders
from cutor.bus.message import MESSAGE_ID
from cutor.bus.reading import Reading

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
DEFAULT_TIMEOUT_S: Final = 10.0
HEADER_ROOM_BYTES: Final = 1024
"""What headers may add to a body when the size is checked before sending."""

WRONG_LAST_SEQUENCE: Final = 10071
NOT_COMPARED_YET: Final = 10164
_PASSING: Final = frozenset({NOT_COMPARED_YET, 10008, 10009, 10167})
"""Nothing was stored, ask again: a write under the same fence is in flight; no leader (two codes); too many requests."""


class Appended(msgspec.Struct, frozen=True):
    """The message is in the log at `sequence`; `duplicate` if an earlier attempt or another process had put it there."""

    sequence: int
    duplicate: bool


class Conflict(msgspec.Struct, frozen=True):
    """The server's comparison failed; `last_sequence` is the newest under the fence, in `stream`."""

    stream: str
    last_sequence: int


class Passing(msgspec.Struct, frozen=True):
    """Nothing was stored, and the same append may work in a moment."""

    code: int
    description: str


class Refused(msgspec.Struct, frozen=True):
    """Nothing was stored, and asking again would not help."""

    code: int
    description: str


class _AnswerError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _AnswerError | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def judge(body: bytes) -> Appended | Conflict | Passing | Refused:
    """What the server's acknowledgement of a publish means."""
    try:
        answer = _decode_answer(body)
    except msgspec.DecodeError as error:
        return Refused(0, f"the acknowledgement cannot be read: {error}")
    if answer.error is None:
        return Appended(answer.seq, answer.duplicate) if answer.seq > 0 else Refused(0, "the acknowledgement has no sequence")
    code = answer.error.err_code or answer.error.code
    if code == WRONG_LAST_SEQUENCE:
        last = answer.error.description.rpartition(":")[2].strip()
        return Conflict(answer.stream, int(last)) if last.isdecimal() else Refused(code, answer.error.description)
    if code in _PASSING:
        return Passing(code, answer.error.description)
    return Refused(code, answer.error.description)


def fence_headers(message_id: str, fence: str, expected_sequence: int, headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers of a fenced append. The fence is compared as a string by a cluster: always give the identical one."""
    own = dict(headers or {})
    if any(name.lower().startswith("nats-") for name in own):
        raise BusError("headers that start with Nats- belong to the server: choose other names")
    return own | {MESSAGE_ID: message_id, EXPECTED: str(expected_sequence), EXPECTED_SUBJECT: fence}


class Appending:
    """The write side of a bus."""

    def __init__(self, link: Link, api: Api, reading: Reading) -> None:
        self._link = link
        self._api = api
        self._reading = reading

    async def fenced(self, subject: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Appended:
        """Send until something definite is heard; errors as in `Bus.append`."""
        verdict = await self._send(subject, body, headers, timeout_s)
        if isinstance(verdict, Appended):
            return verdict
        if verdict.last_sequence > 0:
            newest = await self._reading.leader(verdict.stream, {"seq": verdict.last_sequence})
            if newest is not None and newest.subject == subject and newest.message_id == headers[MESSAGE_ID]:
                return Appended(newest.sequence, duplicate=True)
        raise FenceConflict(verdict.last_sequence)

    async def once(self, subject: str, body: bytes, *, timeout_s: float) -> bool:
        """Write to a subject that holds one message for ever: True if it was stored now, False if one was there already."""
        verdict = await self._send(subject, body, {EXPECTED: "0"}, timeout_s)
        return isinstance(verdict, Appended)

    async def plain(self, subject: str, body: bytes, *, timeout_s: float) -> Appended:
        """Write without a fence; after a lost answer it may be stored twice."""
        verdict = await self._send(subject, body, {}, timeout_s)
        if isinstance(verdict, Appended):
            return verdict
        raise FenceConflict(verdict.last_sequence)

    async def _send(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Appended | Conflict:
        self._check_size(body)
        deadline = Deadline(timeout_s)
        unanswered = False
        checked = False
        reason = Refused(0, "no answer in time")
        while True:
            try:
                verdict = judge((await self._link.ask(subject, body, until=deadline.attempt(), headers=headers)).data)
            except NoAnswer as error:
                unanswered = True
                reason = Refused(0, str(error))
            except NoResponders:
                reason = Refused(503, f"no stream takes {subject} at {self._link.address}: run `cutor streams apply`")
                if not checked and await self._api.stream_of(subject) is None:
                    self._give_up(subject, reason, unanswered)
                checked = True
            else:
                if isinstance(verdict, Appended | Conflict):
                    return verdict
                reason = Refused(verdict.code, verdict.description)
                if isinstance(verdict, Refused):
                    self._give_up(subject, reason, unanswered)
            if deadline.passed:
                self._give_up(subject, reason, unanswered)
            await deadline.pause()

    def _give_up(self, subject: str, reason: Refused, unanswered: bool) -> None:
        if unanswered:
            raise AppendUnconfirmed(
                f"no confirmation for {subject} from {self._link.address}: {reason.description}: "
                "it may or may not be stored; the same append can be repeated safely"
            )
        raise AppendRefused(reason.code, reason.description)

    def _check_size(self, body: bytes) -> None:
        most = self._link.max_message_bytes - HEADER_ROOM_BYTES
        if len(body) > most:
            raise AppendRefused(0, f"the message has {len(body)} bytes, the server takes at most {most}")


__all__ = ["Appended", "Appending", "Conflict", "Passing", "Refused", "fence_headers", "judge"]
