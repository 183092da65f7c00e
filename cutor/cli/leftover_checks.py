"""What ``cutor doctor`` says of containers that dead stacks left on this host. It removes none: they may be another user's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from cutor.cli.findings import Finding, ok, warn
from cutor.cli.options import Wanted
from cutor.config import Config
from cutor.containers.engine import ContainerSummary, Engine
from cutor.errors import CutorError
from cutor.stack import current
from cutor.stack.data import DataDirectory
from cutor.stack.lock import is_free

WHAT: Final = "leftovers"


class Place(NamedTuple):
    """Where an instance has its data, and whether a process of it lives."""

    data: Path
    lives: bool


async def check_leftovers(engine: Engine, wanted: Wanted, config: Config) -> list[Finding]:
    """Check that every container of cutor's on this host is of a stack that lives."""
    found = await engine.list()
    return list(judge(found, known_places(wanted, config)))


def judge(found: Sequence[ContainerSummary], places: Mapping[str, Place]) -> Iterator[Finding]:
    """Yield a finding for each dead instance that has containers, and one for those that are not known. Pure."""
    counts = Counter(container.labels.get("cutor", "") for container in found)
    dead = {
        places[instance].data: count for instance, count in counts.items() if instance in places and not places[instance].lives
    }
    for data, count in sorted(dead.items()):
        yield warn(
            WHAT, f"{_containers(count)} of the stack of {data}, which is dead", f"`cutor down --data {data}` removes them"
        )
    unknown = {instance: count for instance, count in counts.items() if instance not in places}
    if unknown:
        who = (
            "another user's stack, or one whose data is gone" if len(unknown) == 1 else "of other users, or their data is gone"
        )
        many = f"{_containers(sum(unknown.values()))} of {_named(sorted(unknown))}: {who}"
        yield warn(WHAT, many, "`docker ps -a --filter label=cutor` shows them; remove those of no stack that runs")
    if not dead and not unknown:
        yield ok(WHAT, "no container of a dead stack")


def _containers(count: int) -> str:
    return f"{count} container{'' if count == 1 else 's'}"


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
