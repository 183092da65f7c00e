"""What ``cutor doctor`` says of limits and disks that fill up: JetStream's, the streams', and those of archive and views."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.model.units import about

WARNING_PERCENT: Final = 80
"""The check warns of a storage or disk of which so much is used."""
FULL_PERCENT: Final = 97
"""With less than this left, the next large submission may be refused."""
MORE_ROOM: Final = "the log only grows: give it a larger disk or limit, or have old events go (docs/how-to/archive.md)"


class Filled(NamedTuple):
    """Something with a limit: what it is, how many bytes are in it, and how many may be."""

    name: str
    used_bytes: int
    limit_bytes: int

    @property
    def percent(self) -> int:
        """How much of the limit is used, rounded up."""
        return -(-100 * self.used_bytes // self.limit_bytes) if self.limit_bytes else 100

    def __str__(self) -> str:
        return f"{self.name}: {about(self.used_bytes)} of {about(self.limit_bytes)}, {self.percent} %"


async def check_storage(bus: Bus, streams: Iterable[str]) -> AsyncIterator[Finding]:
    """Check how full JetStream and the streams are that have a limit: a full one refuses what comes."""
    info = await bus.api.info()
    configs = {}
    for name in streams:
        try:
            configs[name] = await bus.stream_info(name)
        except StreamMissing:  # told of elsewhere
            continue
    if (found := judge_storage(filled(info, configs))) is not None:
        yield found


def filled(info: dict[str, Any], streams: dict[str, dict[str, Any]]) -> list[Filled]:
    """Return what has a limit: the account, and streams that refuse what comes when they are full."""
    found = []
    if (limit := int(info.get("limits", {}).get("max_storage", -1))) > 0:
        found.append(Filled("JetStream", int(info.get("storage", 0)), limit))
    for name, stream in streams.items():
        if (limit := int(stream["config"].get("max_bytes", -1))) > 0 and stream["config"].get("discard") == "new":
            found.append(Filled(name, int(stream["state"]["bytes"]), limit))
    return found


def judge_storage(limits: list[Filled]) -> Finding | None:
    """Return what so much of each limit means; None where nothing has one."""
    if not limits:
        return None
    worst = max(limits, key=lambda one: one.percent)
    detail = "; ".join(map(str, limits))
    if worst.percent >= FULL_PERCENT:
        return fail("storage", f"{detail}: what comes is refused when it is full", MORE_ROOM)
    return warn("storage", detail, MORE_ROOM) if worst.percent >= WARNING_PERCENT else ok("storage", detail)


def check_disks(data: Path, places: dict[str, Path]) -> Iterator[Finding]:
    """Check file systems of other places than the data directory, each once; nothing is said of what is not on this host."""
    seen = {_there(data).stat().st_dev}
    for what, place in places.items():
        there = _there(place)
        if (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(there)
        yield judge_disk(what, Filled(str(place), usage.used, usage.used + usage.free))


def judge_disk(what: str, disk: Filled) -> Finding:
    """Return what so full a file system means for what lies there."""
    if disk.percent >= WARNING_PERCENT:
        return warn(f"{what} disk", f"{disk} used", f"make room there: a full disk stops the {what}, and nothing else")
    return ok(f"{what} disk", f"{disk} used")


def _there(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())
