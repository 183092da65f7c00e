"""Errors of the core: what a user sent that cannot be accepted. One plain line each."""

from cutor.errors import REFUSED, CutorError


class InvalidRequest(CutorError, ValueError):
    """A request that cutor refuses; the message names field, value, bound and unit, and what to do."""

    exit_code = REFUSED


class InvalidPolicy(CutorError, ValueError):
    """Limits or bounds configured by the deployer that cannot work; the message names the setting."""

    exit_code = REFUSED
