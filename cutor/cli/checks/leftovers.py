"""What ``cutor doctor`` says of containers and marks that dead stacks left on this host. It removes none: they may be others'.

Whether a stack lives, the lock in its data directory says; where that is, this user's files say, or the container's label. Of a
directory that this user may not look into nothing is claimed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from cutor.cli.checks.findings import Finding, ok, warn
from cutor.cli.options import Wanted
from cutor.config import Config
from cutor.containers.engine import ContainerSummary, Engine
from cutor.containers.host_config import VolumeSpec
from cutor.containers.labels import DATA_LABEL, INSTANCE_LABEL
from cutor.errors import CutorError
from cutor.model.units import counted
from cutor.stack import current
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.lock import is_free

WHAT: Final = "leftovers"


Left = ContainerSummary | VolumeSpec
"""A container, or a mark of an environment that a runner uses."""


class Place(NamedTuple):
    """Where an instance has its data, and whether a process of it lives; None: its lock is not for this user to see."""

    data: Path
    lives: bool | None


async def check_leftovers(engine: Engine, wanted: Wanted, config: Config) -> list[Finding]:
    """Check that every container and mark of cutor's on this host is of a stack that lives."""
    found: list[Left] = [*await engine.list(), *await engine.marks()]
    return list(judge(found, labelled_places(found) | known_places(wanted, config)))


def judge(found: Sequence[Left], places: Mapping[str, Place]) -> Iterator[Finding]:
    """Yield a finding for each dead instance that has any, and one for those that are not known. Pure."""
    of: dict[str, list[Left]] = defaultdict(list)
    for one in found:
        of[one.labels.get(INSTANCE_LABEL, "")].append(one)
    there = {instance: left for instance, left in of.items() if instance in places}
    dead = {places[instance].data: left for instance, left in there.items() if places[instance].lives is False}
    for data, left in sorted(dead.items()):
        yield warn(
            WHAT,
            f"{_many(left)} of the stack of {data}, which is dead",
            f"`{command_for('down', data)}` removes them",
        )
    unknown = {instance: left for instance, left in of.items() if instance not in places}
    if unknown:
        who = (
            "another user's stack, or one whose data is gone" if len(unknown) == 1 else "of other users, or their data is gone"
        )
        all_of_them = [one for left in unknown.values() for one in left]
        shows = " and ".join(
            f"`docker {command} --filter label=cutor`"
            for command, kind in (("ps -a", ContainerSummary), ("volume ls", VolumeSpec))
            if any(isinstance(one, kind) for one in all_of_them)
        )
        many = f"{_many(all_of_them)} of {_named(sorted(unknown))}: {who}"
        old = (
            "; `cutor gc` removes a mark once it is a day old"
            if any(isinstance(one, VolumeSpec) for one in all_of_them)
            else ""
        )
        yield warn(WHAT, many, f"{shows} shows them; remove those of no stack that runs{old}")
    hidden = {places[instance].data: left for instance, left in there.items() if places[instance].lives is None}
    if hidden:
        where = ", ".join(map(str, sorted(hidden)))
        many = f"{_many([one for left in hidden.values() for one in left])} of stacks that this user cannot look into ({where})"
        yield ok(WHAT, f"{many}: whether they live, `cutor doctor` of their users says")
    if not dead and not unknown and not hidden:
        yield ok(WHAT, "no container of a dead stack")


def _many(left: Sequence[Left]) -> str:
    containers = sum(isinstance(one, ContainerSummary) for one in left)
    counts = ((containers, "container"), (len(left) - containers, "mark"))
    return " and ".join(counted(count, what) for count, what in counts if count)


def _named(instances: Sequence[str]) -> str:
    if len(instances) == 1:
        return f"the instance {instances[0]}, which is not this user's"
    return f"{len(instances)} instances that are not this user's"


def known_places(wanted: Wanted, config: Config) -> dict[str, Place]:
    """Return this user's instances: stacks that were started, the default directory, and roles by themselves beneath it."""
    default = wanted.surroundings.data_directory(config)
    paths = [default, *(default / "roles" / role for role in ("builder", "runner"))]
    with suppress(current.CurrentStackDamaged):
        paths += [Path(stack.data) for stack in current.known(wanted.surroundings.current_stack)]
    places = {}
    for data in map(DataDirectory, paths):
        with suppress(CutorError):
            if (instance := data.instance()) is not None:
                places[instance] = Place(data.path, lives=not is_free(data.lock))
    return places


def labelled_places(found: Sequence[Left]) -> dict[str, Place]:
    """Return the instances whose containers or marks say where their data is, and have it there: this user's and others'."""
    named = {(one.labels.get(INSTANCE_LABEL, ""), one.labels[DATA_LABEL]) for one in found if DATA_LABEL in one.labels}
    places = {}
    for instance, path in sorted(named):
        data = DataDirectory(Path(path))
        try:
            if data.instance() == instance:
                places[instance] = Place(data.path, lives=not is_free(data.lock))
        except CutorError:
            places[instance] = Place(data.path, lives=None)
    return places
