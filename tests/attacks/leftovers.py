"""What is on the host because of a stack: looked at before the attacks, after them, and after the stack's end.

Other stacks may work on the same host. So processes are known by the stack's uids and mark, containers by the stack's label,
and their control groups, mounts, directories and volumes by the ids of the containers, which are noted as they are made.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.attacks.stack import AttackedStack
from tests.containers import container_ids
from tests.files import beneath
from tests.served import idle

SLOT_UIDS: Final = 8192
IDLE_PROCESSES: Final = 3
"""Of a container that waits: its init, nsjail, and jail-init."""
PATIENCE_S: Final = 180.0
"""How long what is being removed may still be there."""
OF_ONE_LIFE: Final = re.compile(r" --[a-z]+-fd \d+|(?<=queries\.process) \d+|(?<=/worker\.py) \d+")
"""What differs between two lives of a process: descriptors of roles, and the parents of what answers queries."""
DOCKER_ROOT: Final = Path("/var/lib/docker")
KERNEL_SETTINGS: Final = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/panic",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/file-max",
    "/proc/sys/kernel/random/boot_id",
)


class Census(NamedTuple):
    """What was there at one moment: each a name that a person can look for."""

    processes: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    directories: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    cgroups: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    kernel: frozenset[str] = frozenset()


def left(before: Census, after: Census) -> list[str]:
    """Return what was not there before, a line each; of the kernel's settings what has changed."""
    found = []
    for kind, earlier, later in zip(Census._fields, before, after, strict=True):
        found += [f"{kind}: {name}" for name in sorted(later - earlier)]
    return found


class Notes:
    """A file of lines about the engine's events, written until it is closed."""

    def __init__(self, file: Path, *filters: str, form: str) -> None:
        self._file = file
        wanted = [word for one in filters for word in ("--filter", one)]
        with file.open("wb") as notes:
            command = ["docker", "events", *wanted, "--format", form]
            self._events = subprocess.Popen(command, stdout=notes, stderr=subprocess.DEVNULL, start_new_session=True)

    def lines(self) -> list[str]:
        """Return the lines so far."""
        return self._file.read_text().splitlines()

    def close(self) -> None:
        """Write no more."""
        self._events.kill()
        self._events.wait()


class Watch:
    """Notes the id of every container that the stack makes, as long as it lives, and every volume that those mount."""

    def __init__(self, stack: AttackedStack) -> None:
        self._stack = stack
        self._label = f"label=cutor={stack.instance}"
        self._volumes_before = set(docker("volume", "ls", "-q"))
        made = '{{.ID}} {{index .Actor.Attributes "cutor.role"}}'
        self._made = Notes(stack.home / "containers", self._label, "event=create", form=made)
        self._mounted = Notes(
            stack.home / "volumes", "type=volume", "event=mount", form="{{.Actor.ID}} {{.Actor.Attributes.container}}"
        )

    def close(self) -> None:
        """Stop noting."""
        self._made.close()
        self._mounted.close()

    def ids(self) -> set[str]:
        """Return the ids of all containers so far, but of those that run because a runner does: others take their place."""
        made = {line.split()[0] for line in self._made.lines()}
        made |= set(container_ids(self._label, full=True))
        pause = container_ids(self._label, "label=cutor.role=pause", "status=running", full=True)
        return made - set(pause) - self._idle()

    def _idle(self) -> set[str]:
        """Return the containers that wait for a submission: nothing is handed in while it is looked what is left."""
        return idle(self._stack.data, reused=self._stack.reuse > 1)

    def volumes(self, ids: set[str]) -> set[str]:
        """Return the volumes that the containers have mounted, and marks, which are new since the watch began."""
        used = {line.split()[0] for line in self._mounted.lines() if line.split()[-1] in ids}
        used |= set(docker("volume", "ls", "-q", "--filter", self._label))
        return (used & set(docker("volume", "ls", "-q"))) - self._volumes_before

    def census(self) -> Census:
        """Look at everything once."""
        ids = self.ids()
        return Census(
            processes=frozenset(processes(self._stack, ids, self._idle())),
            containers=frozenset(ids & set(container_ids(self._label, full=True))),
            directories=frozenset(directories(self._stack, ids)),
            mounts=frozenset(named(Path("/proc/self/mountinfo").read_text().splitlines(), ids)),
            cgroups=frozenset(cgroups(ids)),
            volumes=frozenset(self.volumes(ids)),
            kernel=frozenset(kernel()),
        )

    def leftovers(self, before: Census) -> list[str]:
        """Return what stays beyond what was there before, after some patience."""
        end = time.monotonic() + PATIENCE_S
        while (found := left(before, self.census())) and time.monotonic() < end:
            time.sleep(0.5)
        return found


@contextmanager
def watching(stack: AttackedStack) -> Iterator[Watch]:
    """Note the stack's containers while the block runs."""
    watch = Watch(stack)
    try:
        yield watch
    finally:
        watch.close()


def docker(*args: str) -> list[str]:
    """Return the lines that a docker command prints."""
    return subprocess.run(["docker", *args], capture_output=True, text=True, check=True).stdout.split()


def processes(stack: AttackedStack, ids: set[str], idle_ids: set[str]) -> Iterator[str]:
    """Yield the processes of the stack: those with its mark, with a uid of its slots, or in a container that is not idle.

    Of one that is idle they are yielded where there are more than cutor's own.
    """
    alike = Counter(re.sub(OF_ONE_LIFE, "", line) for line in stack.processes().values())
    yield from (f"{count} of {line}" for line, count in alike.items())  # a role that was started again is the same
    waiting: dict[str, list[str]] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            uid = int((directory / "status").read_text().split("\nUid:\t")[1].split()[0])
            groups = (directory / "cgroup").read_text()
        except (OSError, IndexError):
            continue  # it has ended
        name = f"{directory.name} of uid {uid}"
        of_idle = next((identity for identity in idle_ids if identity in groups), None)
        if of_idle is not None:
            waiting.setdefault(of_idle, []).append(f"{name} in a container that waits")
        elif 0 <= uid - stack.uid_base < SLOT_UIDS or any(named([groups], ids)):
            yield name
    for some in waiting.values():
        yield from some if len(some) > IDLE_PROCESSES else ()


def named(lines: Iterable[str], ids: set[str]) -> Iterator[str]:
    """Yield the lines that name a container by its id."""
    for line in lines:
        if any(identity in line for identity in ids):
            yield line


def directories(stack: AttackedStack, ids: set[str]) -> Iterator[str]:
    """Yield the directories of the containers, and what the stack keeps outside of its streams, views and logs."""
    for kind in ("containers", "image/overlay2/layerdb/mounts"):
        yield from (f"{kind}/{identity}" for identity in sorted(ids) if (DOCKER_ROOT / kind / identity).exists())
    yield from map(str, beneath(stack.temporary))
    yield from (str(path) for path in stack.data.iterdir() if not path.name.startswith("projections."))


def cgroups(ids: set[str]) -> Iterator[str]:
    """Yield the control groups of the containers, of version 1 and 2."""
    root = Path("/sys/fs/cgroup")
    for pattern in ("docker/*", "*/docker/*", "system.slice/docker-*"):
        yield from named((str(path) for path in root.glob(pattern)), ids)


def kernel() -> Iterator[str]:
    """Yield what the kernel is set to, where attacks would like to set it."""
    for name in KERNEL_SETTINGS:
        if (setting := Path(name)).exists():
            yield f"{name} is {json.dumps(setting.read_text().strip())}"
