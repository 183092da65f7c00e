"""What ``cutor doctor`` finds: a line about one thing, and what to do where it is not as it should be. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from cutor.cli.limits_table import ShownLimits

Verdict = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found: ``detail`` says what is there, ``remedy`` what to do where it is not as it should be.

    ``limits`` are those that hold, in the one finding that is about them.
    """

    what: str
    verdict: Verdict
    detail: str
    remedy: str = ""
    limits: ShownLimits | UnsetType = UNSET


def ok(what: str, detail: str, limits: ShownLimits | UnsetType = UNSET) -> Finding:
    """Return that all is well."""
    return Finding(what=what, verdict="ok", detail=detail, limits=limits)


def warn(what: str, detail: str, remedy: str, limits: ShownLimits | UnsetType = UNSET) -> Finding:
    """Return that something works, but not as it should."""
    return Finding(what=what, verdict="warn", detail=detail, remedy=remedy, limits=limits)


def fail(what: str, detail: str, remedy: str, limits: ShownLimits | UnsetType = UNSET) -> Finding:
    """Return that something does not work."""
    return Finding(what=what, verdict="fail", detail=detail, remedy=remedy, limits=limits)
