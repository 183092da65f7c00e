"""What can be wrong about a submission's events: errors of the journal, for people and for who calls it."""

from __future__ import annotations

from cutor.errors import CutorError
from cutor.model.subjects import Address


class SubmissionConflict(CutorError):
    """The id is taken by a submission with another body, by what retention left of one, or by messages of others."""

    exit_code = 2


class SubmissionUnconfirmed(CutorError):
    """Nobody knows whether it is stored: the server went away before it said so. The same again under its id finds out.

    That is safe as often as wanted: the same id and body is one submission. ``details`` has id and tenant.
    """


class SubmissionUnknown(CutorError):
    """No submission of this tenant has the id."""

    exit_code = 2


class JournalBusy(CutorError):
    """Others append to one submission faster than this process can read: nothing of cutor's does that."""

    exit_code = 3


class PrefixLost(Exception):
    """The stream does not hold what a state was folded from."""


def unknown(address: Address) -> SubmissionUnknown:
    """Return the error of an address at which nothing stands."""
    return SubmissionUnknown(f"no submission {address.id!r} of the tenant {address.tenant!r} is known")
