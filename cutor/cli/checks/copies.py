"""What `cutor doctor` says of the copies of the streams: a node may only be taken down where all others have all there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.cli.checks.findings import Finding, fail, ok, warn

REMEDY: Final = "wait for them before another node is taken down"


async def check_copies(bus: Bus, streams: Sequence[str]) -> Finding | None:
    """Check that every copy of every stream is there and has all; None for a server that stands alone."""
    if not bus.link.clustered:
        return None
    found: dict[str, dict[str, Any]] = {}
    for stream in streams:
        try:
            found[stream] = await bus.stream_info(stream)
        except StreamMissing:
            continue  # `check_streams` tells of it
    return judge_copies(found)


def judge_copies(streams: dict[str, dict[str, Any]]) -> Finding:
    """What the server's answers about some streams, by name, say of their copies."""
    behind = [f"{stream} on {node}" for stream, info in streams.items() for node in _behind(info)]
    leaderless = [stream for stream, info in streams.items() if not info.get("cluster", {}).get("leader")]
    copies = sorted({int(info["config"]["num_replicas"]) for info in streams.values()})
    if leaderless:
        return fail("copies", f"no node leads {', '.join(leaderless)}: too many nodes are away", "start them")
    if behind:
        return warn("copies", f"not current: {', '.join(behind)}", REMEDY)
    if copies and copies[0] == 1:
        single = [stream for stream, info in streams.items() if info["config"]["num_replicas"] == 1]
        return warn(
            "copies", f"one alone of {', '.join(single)}, in a cluster", "`replicas = 3` in [server], and `cutor streams apply`"
        )
    return ok("copies", f"{' to '.join(map(str, copies))} of every stream, all current")


def _behind(info: dict[str, Any]) -> list[str]:
    """The nodes whose copy is away, or lacks messages."""
    copies = info.get("cluster", {}).get("replicas") or []
    return [str(copy.get("name")) for copy in copies if copy.get("offline") or not copy.get("current")]
