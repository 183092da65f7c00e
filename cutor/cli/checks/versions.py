"""What ``cutor doctor`` says of versions of events that the stack has and this cutor does not know."""

from __future__ import annotations

from contextlib import suppress

from cutor.bus.connection import Bus
from cutor.cli.checks.findings import Finding, fail
from cutor.journal.stack_policy import PolicyMissing, read_policy
from cutor.model.versions import ahead


async def check_versions(bus: Bus) -> Finding | None:
    """Check whether a newer cutor has written on this stack; None where this one can read all that there may be."""
    with suppress(PolicyMissing):
        if unknown := ahead(await read_policy(bus)):
            told = ", ".join(map(str, unknown))
            return fail("versions", f"events of the stack cannot be read here: {told}", "upgrade cutor on this host")
    return None
