"""cutor: a remote code execution engine, an event-sourced pipeline on NATS JetStream.

The names below are the Python interface: ``from cutor import Client``. They are loaded when they are first used, so that the
command line, and whatever needs one module only, starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cutor.release import RELEASE

if TYPE_CHECKING:
    from cutor.bus.errors import BusError, BusUnreachable
    from cutor.client.client import Client, Receipt, Update
    from cutor.errors import CutorError, WaitedTooLong
    from cutor.journal.errors import SubmissionConflict, SubmissionUnconfirmed, SubmissionUnknown
    from cutor.journal.parked import AlreadyDecided, Drop, NotParked, Retry
    from cutor.journal.stack_policy import PolicyMissing
    from cutor.model.build_progress import BuildProgress
    from cutor.model.errors import InvalidRequest
    from cutor.model.events import EnvironmentRef, Output, Signal, Stage
    from cutor.model.limits import Limit, Policy, RequestedLimit, RequestedLimits
    from cutor.model.parked import ParkedSubmission
    from cutor.model.request import File, Request, TestCase
    from cutor.model.result import Result
    from cutor.projections.errors import QueryError, QueryTimeout, QueryUnavailable
    from cutor.projections.queries.client import Table
    from cutor.stack.finding import NoStack

__version__ = RELEASE

_HOMES: Final = {
    "AlreadyDecided": "cutor.journal.parked",
    "BuildProgress": "cutor.model.build_progress",
    "BusError": "cutor.bus.errors",
    "BusUnreachable": "cutor.bus.errors",
    "Client": "cutor.client.client",
    "CutorError": "cutor.errors",
    "Drop": "cutor.journal.parked",
    "EnvironmentRef": "cutor.model.events",
    "File": "cutor.model.request",
    "InvalidRequest": "cutor.model.errors",
    "Limit": "cutor.model.limits",
    "NoStack": "cutor.stack.finding",
    "NotParked": "cutor.journal.parked",
    "Output": "cutor.model.events",
    "ParkedSubmission": "cutor.model.parked",
    "Policy": "cutor.model.limits",
    "PolicyMissing": "cutor.journal.stack_policy",
    "QueryError": "cutor.projections.errors",
    "QueryTimeout": "cutor.projections.errors",
    "QueryUnavailable": "cutor.projections.errors",
    "Receipt": "cutor.client.client",
    "Request": "cutor.model.request",
    "RequestedLimit": "cutor.model.limits",
    "RequestedLimits": "cutor.model.limits",
    "Result": "cutor.model.result",
    "Retry": "cutor.journal.parked",
    "Signal": "cutor.model.events",
    "Stage": "cutor.model.events",
    "SubmissionConflict": "cutor.journal.errors",
    "SubmissionUnconfirmed": "cutor.journal.errors",
    "SubmissionUnknown": "cutor.journal.errors",
    "Table": "cutor.projections.queries.client",
    "TestCase": "cutor.model.request",
    "Update": "cutor.client.client",
    "WaitedTooLong": "cutor.errors",
}
"""Every public name with the module that it comes from."""

__all__ = [
    "AlreadyDecided",
    "BuildProgress",
    "BusError",
    "BusUnreachable",
    "Client",
    "CutorError",
    "Drop",
    "EnvironmentRef",
    "File",
    "InvalidRequest",
    "Limit",
    "NoStack",
    "NotParked",
    "Output",
    "ParkedSubmission",
    "Policy",
    "PolicyMissing",
    "QueryError",
    "QueryTimeout",
    "QueryUnavailable",
    "Receipt",
    "Request",
    "RequestedLimit",
    "RequestedLimits",
    "Result",
    "Retry",
    "Signal",
    "Stage",
    "SubmissionConflict",
    "SubmissionUnconfirmed",
    "SubmissionUnknown",
    "Table",
    "TestCase",
    "Update",
    "WaitedTooLong",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cutor' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
