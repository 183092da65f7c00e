"""What a role has in hand, as notes in its data directory: so that its next life can hand it back at once.

A worker that is killed answers nothing: without its note, the server would wait for its sign of life until ``ack_wait`` has run
out (30 s) before somebody else gets the delivery. ``<data>/in-hand/<role>/<sequence>`` is written as soon as the delivery is
there, written again before a lease is appended behind another one of the role, and removed once the delivery is answered. Its
time is that of the last heartbeat that the server confirmed, and being written again does not change it. Until there was a
heartbeat it is that of the taking up, before which the server's clock began: by the delivery's way here. It is not synchronised
to the disk: a machine that dies loses the notes, which costs that wait and nothing else. For the same reason nothing depends on
one being there, whole or true: what is read is checked, and a hand-back is decided by the log (`decide_in_hand`).
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
import weakref
from pathlib import Path
from typing import Final

import msgspec

from cutor import notes
from cutor.bus.delivery import Delivery
from cutor.bus.errors import BusError
from cutor.bus.message import is_delivery, parse_delivery
from cutor.model.errors import InvalidRequest
from cutor.model.events import Role
from cutor.model.subjects import EVENTS, Address, check_address
from cutor.text import escape

log = logging.getLogger(__name__)

NAME: Final = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
NOTE_BYTES: Final = 4096
"""Longer than any note: names of tenant, submission and consumer are bounded."""
CLOCK_SLACK_S: Final = 0.1
"""The kernel gives files the time of its last tick."""


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A delivery in hand: where it is answered, the event's ``sequence``, the submission.

    ``token`` is that of the lease which is taken for it; ``seen`` that of the newest lease before, empty for none.
    """

    ack_subject: str
    sequence: int
    tenant: str
    id: str
    token: str
    seen: str = ""

    @property
    def address(self) -> Address:
        """The submission."""
        return Address(self.tenant, self.id)


def note_of(delivery: Delivery, address: Address, token: str, *, seen: str = "") -> Note:
    """Return the note of a delivery, for which a lease with this token is taken."""
    sequence = delivery.stored.sequence
    return Note(ack_subject=delivery.ack_subject, sequence=sequence, **address._asdict(), token=token, seen=seen)


class InHand:
    """The notes of one role process; only who holds the data directory's lock may use them. Null: nothing is noted."""

    def __init__(self, data: Path | None, role: Role) -> None:
        self._role = role
        self._path = None if data is None else data / notes.DIRECTORY / role
        self._directory: int | None = None
        self._complained = False
        if self._path is not None:
            try:
                self._directory = notes.opened(self._path)
            except OSError as error:
                self._complain(error)
            else:
                weakref.finalize(self, os.close, self._directory)

    def note(self, note: Note, *, again: bool = False) -> None:
        """Write a note (70 µs); ``again``: with the time that it has. Where that fails, the work goes on without it."""
        if self._directory is None:
            return
        name, then_ns = str(note.sequence), None
        try:
            try:
                descriptor = os.open(name, notes.WRITE, 0o600, dir_fd=self._directory)
            except FileExistsError:  # or a delivery that could not be answered, and has come again
                then_ns = os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_mtime_ns
                os.unlink(name, dir_fd=self._directory)
                descriptor = os.open(name, notes.WRITE, 0o600, dir_fd=self._directory)
            try:
                os.write(descriptor, msgspec.json.encode(note))
                if again and then_ns is not None:
                    os.utime(descriptor, ns=(then_ns, then_ns))
            finally:
                os.close(descriptor)
        except OSError as error:
            self._complain(error)

    def forget(self, sequence: int) -> None:
        """Remove a note, where there is one: its delivery is answered (10 µs)."""
        if self._directory is None:
            return
        try:
            os.unlink(str(sequence), dir_fd=self._directory)
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain(error)

    def renew(self, sequence: int) -> None:
        """Give a note the time of now: the server has confirmed its delivery."""
        if self._directory is None:
            return
        try:
            os.utime(str(sequence), dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain(error)

    def age_s(self, sequence: int) -> float:
        """Return how long ago the server last confirmed a note's delivery; infinity where nobody can say."""
        if self._directory is None:
            return math.inf
        try:
            age_s = time.time() - os.stat(str(sequence), dir_fd=self._directory, follow_symlinks=False).st_mtime
        except OSError:
            return math.inf
        return math.inf if age_s < -CLOCK_SLACK_S else max(age_s, 0.0)  # a time that is yet to come: of another clock

    def left(self) -> list[Note]:
        """Return the notes of a former life, by sequence. What has a note's name and is none is removed, and said; anything
        else there is not this role's, and is left alone.
        """
        if self._directory is None:
            return []
        try:
            names = os.listdir(self._directory)  # noqa: PTH208 - of a descriptor, no path
        except OSError as error:
            self._complain(error)
            return []
        found = (self._read(self._directory, name) for name in sorted(names))
        return sorted((note for note in found if note is not None), key=lambda note: note.sequence)

    def _read(self, directory: int, name: str) -> Note | None:
        if not NAME.fullmatch(name):
            log.warning("%s/%s is no note of a delivery: its name is no sequence; it is left alone", self._path, escape(name))
            return None
        try:
            return _checked(name, notes.content(directory, name, NOTE_BYTES), self._role)
        except (OSError, ValueError, BusError, InvalidRequest, msgspec.DecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            log.warning("%s/%s is no note of a delivery, removed: %s", self._path, name, why)
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:  # a directory, say
            log.warning("%s/%s: %s; remove it", self._path, name, error.strerror)
        return None

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.warning("what is in hand cannot be noted: %s; after a crash it comes again only after its ack_wait", error)


def _checked(name: str, content: bytes, role: Role) -> Note:
    """Return the note in a file. Raises ValueError and others for what this role cannot have written."""
    note = msgspec.json.decode(content, type=Note)
    check_address(note.tenant, note.id)
    subject = note.ack_subject
    if not is_delivery(subject) or not subject.isascii() or not subject.isprintable() or set(subject) & set(" *>"):
        raise ValueError("it does not say where to answer")
    place = parse_delivery(subject)
    wanted = (EVENTS, f"{role}-{note.tenant}", int(name), note.sequence)
    if (place.stream, place.consumer, place.stream_sequence, place.stream_sequence) != wanted:
        raise ValueError("it is of another stream, consumer or event")
    return note
