"""Who uses CPU time and memory while a stack works: its server and roles, the engine, what runs in containers, all others.

CPU time of processes that live on is exact, with that of the children that they have waited for. A container's shim (with runc,
which it waits for) is looked at ten times a second: what one uses between the last look and its end is missed. What is in
containers is the counter of the group that Docker makes all its containers in, removed ones included: those of others on the
machine, too. Needs Linux; on control groups version 2 with the systemd driver that group is not to be had.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tests.bench.performance.figures import Memory

LOOK_S: Final = 0.1
TICKS: Final = os.sysconf("SC_CLK_TCK")
BUILDER, RUNNER, PROJECTOR = ROLES = ("builder", "runner", "projector")
SERVER: Final = "nats-server"
SUPERVISOR: Final = "cutor up"
CLIENT: Final = "producers and this benchmark"
ENGINE: Final = "engine (dockerd, containerd, shims, runc)"
CONTAINERS: Final = "containers (inits, jails, programs)"
PROGRAMS: Final = "of that, programs"
OTHERS: Final = "all others on this machine"
ENGINE_NAMES: Final = ("dockerd", "containerd")
SHIM: Final = "containerd-shim"
GROUPS: Final = (("cpuacct/docker/cpuacct.usage", 1e9), ("docker/cpu.stat", 1e6))
"""Where control groups of version 1 and 2 have the CPU time of all containers, and its unit in a second."""
MIB: Final = 1 << 20


class Watch:
    """Counts CPU time of a stack's processes and of the engine, from `begin` on."""

    def __init__(self, data: Path) -> None:
        self._data = str(data)
        self._known: set[int] = set()
        self._shims: dict[int, float] = {}

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look at what comes and goes while the block lasts."""
        task = asyncio.create_task(self._look_on(), name="looking at processes")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look_on(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        """Take the CPU time of every shim that is there, and of those that came."""
        there = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
        for pid in there - self._known:
            if name_of(pid).startswith(SHIM):
                self._shims[pid] = 0.0
        self._known = there
        for pid in self._shims:
            if pid in there and (cpu_s := cpu_of(pid)) is not None:
                self._shims[pid] = cpu_s

    def now(self) -> dict[str, float]:
        """Return CPU seconds of everybody, to be subtracted from a later look's."""
        self._look()
        found = {who: sum(cpu_of(pid) or 0.0 for pid in pids) for who, pids in self.roles().items()}
        found[CLIENT] = cpu_of(os.getpid()) or 0.0
        engine = [pid for pid in self._known if name_of(pid) in ENGINE_NAMES]
        found[ENGINE] = sum(cpu_of(pid) or 0.0 for pid in engine) + sum(self._shims.values())
        if (contained := containers_cpu_s()) is not None:
            found[CONTAINERS] = contained
        found[OTHERS] = machine_cpu_s() - sum(found.values())
        return found

    def roles(self) -> dict[str, list[int]]:
        """Return the processes of the stack, each with those that it has started, by who they are."""
        lines = {pid: line for pid in pids() if self._data in (line := command_of(pid))}
        found: dict[str, list[int]] = {SERVER: [], **{role: [] for role in ROLES}, SUPERVISOR: []}
        for pid, line in lines.items():
            found[who_is(line)].append(pid)
        parents = {pid: parent_of(pid) for pid in pids()}
        taken = {pid for some in found.values() for pid in some}
        for pid in sorted(parents):
            ancestor = parents.get(pid, 0)
            while pid not in taken and ancestor > 1 and ancestor not in taken:
                ancestor = parents.get(ancestor, 0)
            if pid not in taken and ancestor in taken:
                next(some for some in found.values() if ancestor in some).append(pid)
        return {who: some for who, some in found.items() if some}

    def memory(self) -> list[Memory]:
        """Return what every role and the engine hold."""
        engine = [pid for pid in pids() if name_of(pid) in ENGINE_NAMES]
        return [held(who, some) for who, some in {**self.roles(), "dockerd and containerd": engine}.items()]


def who_is(line: str) -> str:
    """Return who has a command line of the stack's."""
    if SERVER in line:
        return SERVER
    words = line.split("\0")
    return next((role for role in ROLES if role in words), SUPERVISOR)


def held(who: str, processes: list[int]) -> Memory:
    """Return what processes hold; of those that ended meanwhile, nothing."""
    peak_kib = sum(field(pid, "status", "VmHWM") for pid in processes)
    pss_kib = sum(field(pid, "smaps_rollup", "Pss") for pid in processes)
    return Memory(who, len(processes), round(peak_kib / 1024, 1), round(pss_kib / 1024, 1))


def field(pid: int, file: str, name: str) -> int:
    """Return a field in KiB of one of a process's files; 0 where it has ended, or is another user's."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


def pids() -> list[int]:
    """Return all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def command_of(pid: int) -> str:
    """Return a process's command line, its words between NUL characters; empty where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def name_of(pid: int) -> str:
    """Return the first 15 characters of what a process calls itself; empty where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def stat_of(pid: int) -> list[str]:
    """Return the fields of proc(5)'s stat from the third on; none where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def parent_of(pid: int) -> int:
    """Return who started a process; 0 where it has ended."""
    fields = stat_of(pid)
    return int(fields[1]) if fields else 0


def cpu_of(pid: int) -> float | None:
    """Return the CPU seconds of a process and of its children that it waited for; None where it has ended."""
    fields = stat_of(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else None


def machine_cpu_s() -> float:
    """Return the CPU seconds that the machine was busy."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / TICKS


def containers_cpu_s(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the CPU seconds of all that ever ran in containers; None where no group says that."""
    for name, unit in GROUPS:
        with suppress(OSError):
            words = (root / name).read_text().split()
            return int(words[1] if words[0] == "usage_usec" else words[0]) / unit
    return None
