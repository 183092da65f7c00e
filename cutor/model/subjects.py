"""Subjects, fences and message ids: every name on the wire is made here and nowhere else."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cutor.model.errors import InvalidRequest
from cutor.model.quoting import shown

EVENTS: Final = "EVENTS"
BODIES: Final = "BODIES"
ENVIRONMENTS: Final = "ENVIRONMENTS"
STACK: Final = "STACK"
PARKED: Final = "PARKED"
DEADLETTERS: Final = "DEADLETTERS"
POLICY_SUBJECT: Final = "cutor.stack.policy"

DEFAULT_TENANT: Final = "default"
"""Whose a submission is that names no tenant."""
TENANT: Final = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
SUBMISSION_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Address(NamedTuple):
    """A submission's name: unique in a stack."""

    tenant: str
    id: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.id}"


class EventSubject(NamedTuple):
    """An event's subject, taken apart."""

    address: Address
    kind: str


def check_address(tenant: str, submission_id: str) -> Address:
    """Return the address; raises `InvalidRequest` for a tenant or id outside of its pattern."""
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest(f"tenant {shown(tenant)}: it must be 1 to 32 characters of a-z, 0-9 and '-'")
    if not SUBMISSION_ID.fullmatch(submission_id):
        raise InvalidRequest(f"id {shown(submission_id)}: it must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'")
    return Address(tenant, submission_id)


def event_subject(address: Address, kind: str) -> str:
    """Return ``cutor.ev.<tenant>.<id>.<kind>``."""
    return f"cutor.ev.{address.tenant}.{address.id}.{kind}"


def fence(address: Address) -> str:
    """Return the subject filter of a submission's events.

    Every append carries this identical string as ``Nats-Expected-Last-Subject-Sequence-Subject``: with three replicas the
    server compares writes in flight by that string.
    """
    return event_subject(address, ">")


def parse_event_subject(subject: str) -> EventSubject | None:
    """Return tenant, id and kind of an event's subject, or None for a subject of another form."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[:2] != ["cutor", "ev"] or not TENANT.fullmatch(tokens[2]):
        return None
    if not SUBMISSION_ID.fullmatch(tokens[3]):
        return None
    return EventSubject(Address(tokens[2], tokens[3]), tokens[4])


def progress_subject(address: Address) -> str:
    """Return ``cutor.progress.<tenant>.<id>``: what Nix prints meanwhile, in no stream."""
    return f"cutor.progress.{address.tenant}.{address.id}"


def environment_subject(key: str) -> str:
    """Return ``cutor.env.<key>``: the fence of an environment's events, too."""
    return f"cutor.env.{key}"


def message_id(address: Address, kind: str, *, role: str, lease: str | int, index: int = 0) -> str:
    """Return ``tenant/id/kind/role/lease/index``: what makes a second append of the same event a duplicate.

    ``lease`` is the number of the lease that the event belongs to; for ``leased`` itself its token.
    """
    return f"{address}/{kind}/{role}/{lease}/{index}"


def submitted_message_id(address: Address, digest: str) -> str:
    """Return ``tenant/id/submitted/DIGEST``: equal bodies under different ids are different submissions."""
    return f"{address}/submitted/{digest}"


def parked_subject(address: Address) -> str:
    """Return ``cutor.dead.parked.<tenant>.<id>``: where it stands what became of a parked submission; its fence, too."""
    return f"cutor.dead.parked.{address.tenant}.{address.id}"


def parse_parked_subject(subject: str) -> Address | None:
    """Return the submission that a record of the stream PARKED is about, or None for a subject of another form."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[:3] != ["cutor", "dead", "parked"]:
        return None
    address = Address(tokens[3], tokens[4])
    return address if TENANT.fullmatch(address.tenant) and SUBMISSION_ID.fullmatch(address.id) else None


def letter_subject(stream: str, sequence: int | str) -> str:
    """Return ``cutor.dead.message.<stream>.<sequence>``: the one letter about a message. ``*`` stands for any sequence."""
    return f"cutor.dead.message.{stream}.{sequence}"


def parse_environment_subject(subject: str) -> str | None:
    """Return the key in ``cutor.env.<key>``, or None for a subject of another form."""
    tokens = subject.split(".")
    return tokens[2] if len(tokens) == 3 and tokens[:2] == ["cutor", "env"] else None
