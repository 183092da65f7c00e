"""What the server's answer to a publish means, and the headers of a fenced append. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cutor.bus.errors import BusError
from cutor.bus.message import EXPECTED, EXPECTED_SUBJECT, MESSAGE_ID

WRONG_LAST_SEQUENCE: Final = 10071
"""Error code of the JetStream API of NATS: the subject's last sequence is another one than the fence expects."""
NOT_COMPARED_YET: Final = 10164
"""Error code of the JetStream API of NATS: a wrong last sequence, which the answer does not name."""
_PASSING: Final = frozenset({NOT_COMPARED_YET, 10008, 10009, 10158, 10167})
"""Ask again, nothing is stored by this attempt: a write under the same fence is in flight; no leader (two codes); an earlier
attempt at this very message is in flight, which a cluster that lost its majority keeps; too many requests."""


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


def read_ack(body: bytes) -> Appended | Conflict | Passing | Refused:
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
