"""How much memory a runner's container needs, for a submission and for each of its stages. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from cutor.jail.inside.resting import REST_SLACK_BYTES
from cutor.jail.report import Rested
from cutor.model.limits import MIB, Limit
from cutor.model.request import COMPILE_SCRIPT

INIT_MEMORY_BYTES: Final = 5 * MIB
"""What a container holds between stages but for the jail that waits (measured: 4.4 to 5.5 MiB): the first estimate of what it
rests at."""
OWN_MEMORY_BYTES: Final = 4 * MIB
"""What comes beside it while a stage runs: nsjail, jail-init, a jail's mounts (1.7 MiB), and what kernels differ in."""
KEPT_MEMORY_BYTES: Final = 2 * MIB
"""What the jail that is kept for a run takes while a compile stage has one of its own."""
NEW_ROOM_BYTES: Final = 2 * MIB
"""How much more than needed a changed limit gives: what comes next may need a little more, or a little less."""
FILE_BYTES: Final = 5 << 10
"""What a file takes in the box beside its size, at the most: its last page, and what the kernel holds for it."""


class Held(NamedTuple):
    """What a container holds between two stages, and what a run needs for its copy of the box beside it."""

    resting_bytes: int
    copy_bytes: int


def believed(rested: Rested, box: Held | None, memory_bytes: int) -> Held:
    """Return what a container is believed to hold: user code may have taken over the init that says so.

    ``box`` is what it held before its first run: no run leaves anything but noise, so every later word is believed up to
    that, with the slack that an init gives itself. Null says that the box has changed since the last word: there it is
    ``memory_bytes``, what the container was allowed while that happened. A copy is no more than what it is made from.
    """
    most_bytes = memory_bytes if box is None else box.resting_bytes + REST_SLACK_BYTES
    most_copy_bytes = memory_bytes if box is None else box.copy_bytes + REST_SLACK_BYTES
    resting_bytes = min(rested.resting_bytes, most_bytes, memory_bytes)
    return Held(resting_bytes, min(rested.copy_bytes, most_copy_bytes, resting_bytes))


def stage_memory_bytes(limit: Limit, resting_bytes: int, stdin_bytes: int) -> int:
    """Return the container's memory limit for a stage: what the stage may take, and beside it what is there without it.

    That is what the container holds between stages (the init, the box, the kernel's own for it; and a copy of the box where a
    run needs one), `OWN_MEMORY_BYTES`, the stage's input, and its output up to the caps.
    """
    return limit.memory_bytes + OWN_MEMORY_BYTES + resting_bytes + stdin_bytes + limit.stdout_bytes + limit.stderr_bytes


def first_memory_bytes(limit: Limit, files: Mapping[str, bytes], other_bytes: int, stdin_bytes: int) -> int:
    """Return the memory limit that a container is best made with: enough to take a submission, and to run its first stage.

    ``other_bytes`` are its variables and its closure's paths.
    """
    files_bytes = sum(map(len, files.values()))
    resting_bytes = INIT_MEMORY_BYTES + files_bytes + FILE_BYTES * len(files) + 2 * other_bytes
    resting_bytes += KEPT_MEMORY_BYTES if COMPILE_SCRIPT in files else 0
    stage_bytes = stage_memory_bytes(limit, resting_bytes, stdin_bytes) + NEW_ROOM_BYTES
    return max(stage_bytes, hand_over_memory_bytes(len(files), files_bytes + other_bytes))


def hand_over_memory_bytes(files: int, body_bytes: int) -> int:
    """Return what it takes to take a submission: the frame once, and once more in the box and as variables."""
    return INIT_MEMORY_BYTES + OWN_MEMORY_BYTES + 3 * FILE_BYTES * files + 2 * body_bytes + body_bytes // 8
