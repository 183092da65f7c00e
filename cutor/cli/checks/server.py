"""What ``cutor doctor`` sees of the server: its answer, its streams and how they are kept, the limits that stand there."""

from __future__ import annotations

from pathlib import Path

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.bus.server_file import ALWAYS_SYNC, sync_interval_of
from cutor.bus.topology import plan
from cutor.cli.changes import change_text, fields_text, policy_changes
from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.cli.failures import line_of
from cutor.cli.limits_table import shown_limits
from cutor.config import Config
from cutor.errors import CutorError
from cutor.journal.stack_policy import read_policy
from cutor.model.limits import Policy
from cutor.model.spill import EVENT_BYTES
from cutor.model.subjects import EVENTS
from cutor.model.versions import announcing
from cutor.stack.streams import wanted as wanted_streams


async def check_server(bus: Bus) -> Finding:
    """Check that JetStream answers, in a cluster its leader, and that the server takes messages as large as events can be."""
    if bus.link.clustered:  # else it answered when the connection was made
        await bus.api.info()
    detail = f"JetStream answers at {bus.address}"
    if (largest := bus.link.max_message_bytes) < EVENT_BYTES:
        taken = f"{detail}, and takes messages of {largest} bytes; events can have {EVENT_BYTES}"
        return fail("server", taken, f"set `max_payload: {EVENT_BYTES}` in the server's configuration")
    return ok("server", detail)


async def check_streams(bus: Bus, config: Config) -> Finding:
    """Check that the server's streams and consumers are as `streams.yaml` wants them."""
    changes = await plan(bus, wanted_streams(config))
    if changes:
        return fail("streams", "; ".join(map(change_text, changes)), "`cutor streams apply` makes them so")
    return ok("streams", "streams and consumers are as wanted")


async def check_durability(bus: Bus, store: Path | None) -> Finding:
    """Tell how many copies of every event there are, and when they are on the disk; clients are not told of the latter."""
    try:
        copies = _copies(int((await bus.stream_info(EVENTS))["config"]["num_replicas"]))
    except StreamMissing:
        return warn("durability", "there is no stream of events", "")
    sync_interval = None if store is None else sync_interval_of(store)
    if sync_interval is None:
        return ok("durability", f"{copies}; when they are forced to the disk, the server's sync_interval says")
    if sync_interval == ALWAYS_SYNC:
        return ok("durability", f"{copies}, on the disk before it is acknowledged (sync_interval always)")
    taken = f"a power failure can take the last {sync_interval}; `server.sync_interval` decides"
    return ok("durability", f"{copies}, forced to the disk every {sync_interval}: {taken}")


def _copies(number: int) -> str:
    return "one copy of every event" if number == 1 else f"{number} copies of every event"


async def check_policy(bus: Bus, config: Config) -> Finding:
    """Check that the stack publishes the limits of this configuration; the finding holds those that it publishes."""
    try:
        published: Policy = await read_policy(bus)
    except CutorError as error:
        return fail("limits", line_of(error), "", shown_limits("configuration", config.policy()))
    shown = shown_limits("stack", published)
    if changes := policy_changes(published, announcing(config.policy(), published)):
        detail = f"the stack publishes others than this configuration: {fields_text(changes)}"
        return warn("limits", detail, "start it again, or `cutor streams apply` and start its roles again", shown)
    return ok("limits", "published as configured", shown)
