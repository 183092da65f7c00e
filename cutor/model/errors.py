"""Errors of the core: what a user sent that cannot be accepted. One plain line each."""


class InvalidRequest(ValueError):
    """A request that cutor refuses; the message names field, value, bound and unit, and what to do."""


class InvalidPolicy(ValueError):
    """Limits or bounds configured by the deployer that cannot work; the message names the setting."""
