"""The store of this host, for commands: which engine and volumes, and under which name their containers run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli.options import Wanted
from cutor.config import Config, check_docker_host
from cutor.containers.engine import Engine
from cutor.errors import CutorError
from cutor.model.quoting import shown
from cutor.operations.collection import WAIT_S, Collector, Place
from cutor.stack.data import DataDirectory
from cutor.stack.dead_marks import remove_dead_marks

NO_STACK_HERE: Final = "command"
"""Label of the containers of a command whose stack runs elsewhere: roles here have instances of their own."""


def place_of(wanted: Wanted) -> Place:
    """Return the store of the stack's configuration. Raises `InvalidConfig`, `CurrentStackDamaged`."""
    settings = wanted.loaded_of_stack.config.nix
    if wanted.own_stack is None:
        return Place(settings, NO_STACK_HERE)
    data, instance = DataDirectory(Path(wanted.own_stack.data)), None
    with suppress(CutorError):
        instance = data.instance()
    return Place(settings, instance or NO_STACK_HERE, data.path)


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """Which store a command works on: its volumes, and the address of their engine; null is the usual socket."""

    store_volume: str
    var_volume: str
    engine: str | None

    @classmethod
    def of(cls, config: Config) -> Store:
        """Return the store of a configuration."""
        return cls(store_volume=config.nix.store_volume, var_volume=config.nix.var_volume, engine=config.docker.host)

    def __str__(self) -> str:
        engine = shown(self.engine) if self.engine else "the engine here"
        return f"volumes {shown(self.store_volume)} and {shown(self.var_volume)} of {engine}"


def store_of(wanted: Wanted) -> Store:
    """Return the store that a command works on. Raises `InvalidConfig`, `CurrentStackDamaged`."""
    return Store.of(wanted.loaded_of_stack.config)


def warn_of_another_store(wanted: Wanted) -> None:
    """Say on stderr where the stack that runs here has another store than the configuration that was named."""
    with suppress(CutorError):  # who cannot know, has nothing to say
        began = wanted.started_with
        if began is not None and Store.of(began.config) != store_of(wanted):
            click.echo(
                f"note: this works on the store of {shown(str(wanted.loaded_of_stack.file))}: {store_of(wanted)}; "
                f"the stack that runs here has another one: {Store.of(began.config)}",
                err=True,
            )


@asynccontextmanager
async def collecting(wanted: Wanted, *, wait_s: float = WAIT_S) -> AsyncIterator[Collector]:
    """Lend a collector of this host's store, for the stack that the command line means; what dead stacks marked is free before.

    Raises `EngineUnreachable`, `BusUnreachable`, `NoStack` and others that are made for users.
    """
    place = place_of(wanted)
    host = wanted.loaded_of_stack.config.docker.host
    check_docker_host(host)
    async with (
        Bus.connect(wanted.find_server(), name="cutor gc") as bus,
        Engine.connect(host) as engine,
    ):
        await remove_dead_marks(engine, place.settings.store_volume)
        yield Collector(bus, engine, place, wait_s=wait_s)
