"""What a deployer configures of builders and runners, and what of it cannot work. Pure."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cutor.model.errors import InvalidPolicy
from cutor.nix.inside.namespace import HOST_ID_BASE, ID_COUNT

FIRST_FREE_UID: Final = 65536
"""Below it are the uids of the host's own users; the uids of runner slots must not be any of them."""


SlotsPerTenant = (
    Annotated[
        int,
        Meta(
            ge=1, description="slots that one tenant may have at one time; without it all of them, while nobody else wants any"
        ),
    ]
    | None
)


class BuilderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A builder process."""

    slots: Annotated[int, Meta(ge=1, le=256, description="environment builds at one time")] = 1
    slots_per_tenant: SlotsPerTenant = None


class RunnerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runner process."""

    slots: Annotated[int, Meta(ge=1, le=1024, description="submissions at one time; no more than CPUs keeps times true")] = 2
    slots_per_tenant: SlotsPerTenant = None
    uid_base: Annotated[
        int,
        Meta(
            ge=FIRST_FREE_UID,
            le=2_000_000_000,
            description="lowest uid and gid of running submissions; each takes the next that is free on the host",
        ),
    ] = 300_000
    pool_minimum: (
        Annotated[
            int, Meta(ge=0, le=1024, description="containers that stand ready at the least; as many as `slots` unless set")
        ]
        | None
    ) = None
    pool_maximum: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=2048,
                description="containers that stand ready at the most, where many come at once; 0 for no pool;"
                " twice as many as `slots` unless set",
            ),
        ]
        | None
    ) = None

    submissions_per_container: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="submissions that a container serves in turn, while all end well; 1: each has one of its own",
        ),
    ] = 1

    @property
    def reuses(self) -> bool:
        """Whether a container may serve more than one submission."""
        return self.submissions_per_container > 1

    @property
    def least_ready(self) -> int:
        """How many containers stand ready at the least."""
        wanted = self.slots if self.pool_minimum is None else self.pool_minimum
        return wanted if self.pool_maximum is None else min(wanted, self.pool_maximum)

    @property
    def most_ready(self) -> int:
        """How many containers stand ready at the most."""
        return max(2 * self.slots, self.least_ready) if self.pool_maximum is None else self.pool_maximum

    @property
    def uids(self) -> int:
        """How many uids a runner claims: one for each slot, and one for each container that stands ready."""
        return self.slots + self.most_ready


def check_slots(name: str, settings: BuilderSettings | RunnerSettings) -> None:
    """Raise `InvalidPolicy` where a tenant may have more slots than there are: whoever wrote that wanted something else."""
    most, slots = settings.slots_per_tenant, settings.slots
    if most is not None and most > slots:
        raise InvalidPolicy(f"{name}.slots_per_tenant is {most}, and there are {slots} slots ({name}.slots)")


def check_runner(runner: RunnerSettings) -> None:
    """Raise `InvalidPolicy` where a container would have the uid of something inside a build container, or a pool no size."""
    if runner.pool_minimum is not None and runner.pool_minimum > runner.most_ready:
        raise InvalidPolicy(
            f"runner.pool_minimum: {runner.pool_minimum} are more than runner.pool_maximum, {runner.pool_maximum}"
        )
    if runner.reuses and not runner.most_ready:
        raise InvalidPolicy(
            f"runner.submissions_per_container: {runner.submissions_per_container} need a pool to wait in between, and"
            " runner.pool_maximum is 0"
        )
    first, last = runner.uid_base, runner.uid_base + runner.uids - 1
    if first < HOST_ID_BASE + ID_COUNT and last >= HOST_ID_BASE:
        taken = f"{HOST_ID_BASE} to {HOST_ID_BASE + ID_COUNT - 1}"
        raise InvalidPolicy(f"runner.uid_base: the runner's uids {first} to {last} overlap those of build containers, {taken}")
