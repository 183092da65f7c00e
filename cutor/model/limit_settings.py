"""What a deployer configures of limits: a default and a maximum for each, of every stage kind. Pure."""

from __future__ import annotations

import msgspec

from cutor.model.limits import (
    DEFAULT_LIMITS,
    STAGE_KINDS,
    UNITS,
    Limit,
    LimitPolicies,
    LimitPolicy,
    RequestedLimit,
    StageKind,
    of_stage,
)


class StageLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Default and maximum of the limits of one stage kind; a limit left out keeps its built-in value."""

    default: RequestedLimit = RequestedLimit()
    maximum: RequestedLimit = RequestedLimit()


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `StageLimits` a stage kind."""

    dependencies: StageLimits = StageLimits()
    compile: StageLimits = StageLimits()
    run: StageLimits = StageLimits()

    def policies(self) -> LimitPolicies:
        """Return what is published: these limits, filled up with the built-in ones."""
        return LimitPolicies(**{kind: _policy_of(kind, of_stage(self, kind)) for kind in STAGE_KINDS})


def _policy_of(kind: StageKind, stage: StageLimits) -> LimitPolicy:
    """Return the built-in policy with what is configured in its place; a built-in default gives way to a lower maximum."""
    built_in = of_stage(DEFAULT_LIMITS, kind)
    maximum = {name: _either(getattr(stage.maximum, name), getattr(built_in.maximum, name)) for name in UNITS}
    default = {
        name: _either(getattr(stage.default, name), min(getattr(built_in.default, name), maximum[name])) for name in UNITS
    }
    return LimitPolicy(default=Limit(**default), maximum=Limit(**maximum))


def _either(configured: int | None, built_in: int) -> int:
    return built_in if configured is None else configured
