"""What a deployer configures of builders and runners, and what of it cannot work. Pure."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cutor.model.errors import InvalidPolicy
from cutor.nix.inside.namespace import HOST_ID_BASE, ID_COUNT

FIRST_FREE_UID: Final = 65536
"""Below it are the uids of the host's own users; the uids of runner slots must not be any of them."""


class BuilderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A builder process."""

    slots: Annotated[int, Meta(ge=1, le=256, description="environment builds at one time")] = 1


class RunnerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runner process."""

    slots: Annotated[int, Meta(ge=1, le=1024, description="submissions at one time; no more than CPUs keeps times true")] = 2
    uid_base: Annotated[
        int,
        Meta(
            ge=FIRST_FREE_UID,
            le=2_000_000_000,
            description="lowest uid and gid of running submissions; each takes the next that is free on the host",
        ),
    ] = 300_000


def check_runner(runner: RunnerSettings) -> None:
    """Raise `InvalidPolicy` where a slot would have the uid of something inside a build container."""
    first, last = runner.uid_base, runner.uid_base + runner.slots - 1
    if first < HOST_ID_BASE + ID_COUNT and last >= HOST_ID_BASE:
        taken = f"{HOST_ID_BASE} to {HOST_ID_BASE + ID_COUNT - 1}"
        raise InvalidPolicy(f"runner.uid_base: the slots' uids {first} to {last} overlap those of build containers, {taken}")
