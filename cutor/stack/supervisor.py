"""The supervisor: what ``cutor up`` runs. It starts the server and the roles, keeps them running, and ends them.

Its start, each step undone in reverse order when a later one fails: `streams.yaml` read · lock · what Docker must have ·
leftovers of a dead life removed · server · a backup restored, if one was given · streams and policy · deliveries that a power
failure took · roles · all ready · current-stack file. A process that dies is started again. Where that is hopeless before the
stack was ready, the whole stack ends with one line; a stack that was ready goes on, with a line in ``supervisor.log`` and on
the terminal for every attempt (`restarts`). Where another program took the server's port meanwhile, the server takes another
one, and the roles are started again with its address (`server`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cutor.bus.connection import Bus
from cutor.bus.embedded import wait_unused
from cutor.bus.topology import apply
from cutor.bus.topology_diff import Topology
from cutor.config import Config, environment_for_role
from cutor.containers.connecting import connected
from cutor.containers.errors import ContainerError
from cutor.errors import CutorError
from cutor.journal.stack_policy import publish_policy
from cutor.model.units import counted
from cutor.private_files import write_privately
from cutor.stack import current, images, restoring, streams
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.keeper import Keeper, Orders, first_of
from cutor.stack.leftovers import remove_leftovers
from cutor.stack.lock import Lock, read_holder
from cutor.stack.logs import Log, stamped
from cutor.stack.power_failure import see_to_deliveries
from cutor.stack.server import KeptServer, StoppedAtItsStart
from cutor.stack.stop_times import FORMER_SWEEP_S, HALTED_SWEEP_S, SWEEP_S, StopTimes
from cutor.stack.sweep import CONTAINER_ROLES, ContainersStuck, remove_containers
from cutor.text import escape

if TYPE_CHECKING:
    from cutor.containers.engine import Engine

ROLES: Final = ("builder", "runner", "projector")
ARCHIVER: Final = "archiver"
"""Runs beside a projector where an archive is configured."""
SUPERVISOR: Final = "cutor"
"""Its name before the lines that it shows."""
READY_TIMEOUT_S: Final = 60.0
"""A role serves within seconds. A choice for a busy machine; what goes wrong ends it sooner."""


class NotReady(CutorError):
    """A role did not get ready in time; the message names it and its log."""


class ContainersLeft(CutorError):
    """Containers of the stack could not be removed at its end."""


@dataclass(frozen=True)
class StackSettings:
    """What a stack is started with. ``config_raw`` is the configuration file as it was read: the roles get the same.

    ``restore`` is the directory of a backup that becomes the streams of a new data directory.
    """

    data: DataDirectory
    config: Config
    config_raw: bytes
    current_file: Path
    port: int | None = None
    roles: Sequence[str] = ROLES
    restore: Path | None = None

    @property
    def all_roles(self) -> list[str]:
        """Those that are started: with the archiver, where there is something for it to do."""
        archives = "projector" in self.roles and self.config.archive.directory is not None
        return [*self.roles, ARCHIVER] if archives else list(self.roles)


@dataclass(frozen=True)
class Ready:
    """A stack that serves: the server's address without its credential, where its data is, and what will not work."""

    address: str
    data: Path
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"cutor is ready at {self.address}, data in {self.data}"


Show = Callable[[str, bytes], None]
"""Takes the name of a process and a line that it printed."""


class Supervisor:
    """One life of a stack."""

    def __init__(self, settings: StackSettings, orders: Orders, show: Show) -> None:
        self._settings = settings
        self._data = settings.data
        self._orders = orders
        self._terminal = show
        self._times = StopTimes(settings.config.shutdown_grace_s)
        self._left_behind = False
        self._warnings: tuple[str, ...] = ()
        self._log: Log | None = None

    async def run(self, on_ready: Callable[[Ready], None]) -> None:
        """Run the stack until ``orders.stop``. Nothing of it runs when this returns or raises.

        Raises `AlreadyRunning`, `PieceMissing`, `NotReady`, `RoleGivenUp`, `ServerGivenUp`, `ContainersLeft` and the errors of
        data directory, bus and containers; `DataDirectoryUnusable` also where a stop left part of a restore.
        """
        topology = streams.wanted(self._settings.config)
        self._data.prepare()
        self._log = Log(self._data.supervisor_log)
        self._left_behind = read_holder(self._data.lock) is not None  # by a life that died
        lock = Lock.take(self._data.lock)
        try:
            self._note(f"the stack starts, with pid {os.getpid()}")
            await self._run_locked(lock, topology, on_ready)
            self._say("the stack has ended")
        except StoppedAtItsStart:
            self._say("stopped before it was ready")
            restoring.refuse_unfinished(self._data)  # a stop in the midst of a restore is no orderly end of it
        except Exception as error:
            self._left_behind |= isinstance(error, ContainersLeft)
            self._note(f"the stack ended: {error}")
            raise
        finally:
            lock.release(orderly=not self._left_behind)

    async def _run_locked(self, lock: Lock, topology: Topology, on_ready: Callable[[Ready], None]) -> None:
        await first_of(wait_unused(self._data.server), self._orders.stop.wait())
        if self._orders.stop.is_set():
            raise StoppedAtItsStart("stopped before anything was started")
        self._remove_leftovers()
        instance = self._data.make_instance(self._say)
        current.remove(self._settings.current_file, instance)  # a dead life's: until this one serves, there is none
        write_privately(self._data.config_file, self._settings.config_raw)
        sync_interval = self._settings.config.server.sync_interval
        server = KeptServer(self._data.server, self._settings.port, self._orders, self._say, sync_interval=sync_interval)
        restoring.refuse_unfinished(self._data)
        works = bool(CONTAINER_ROLES & set(self._settings.roles))
        apart_from = self._settings.current_file if works else None
        restore = self._settings.restore
        with_streams = restoring.restored(self._data, restore, server, self._orders, self._say, apart_from=apart_from)
        async with self._containers(instance), with_streams:
            await self._set_up(server.url, topology)
            try:
                await self._keep(server, lock, instance, lambda: self._announce(server, instance, on_ready))
            finally:
                current.remove(self._settings.current_file, instance)

    def _remove_leftovers(self) -> None:
        if removed := remove_leftovers(self._data):
            self._say(f"removed drafts that a former life of this stack left behind: {', '.join(removed)}")

    def _say(self, line: str) -> None:
        self._show(SUPERVISOR, line.encode())

    def _show(self, process: str, line: bytes) -> None:
        """Show a line on the terminal; the supervisor's own, which no role's log has, go into its log, too."""
        if process == SUPERVISOR:
            self._note(line.decode(errors="replace"))
        self._terminal(process, line)

    def _note(self, line: str) -> None:
        if self._log is not None:
            self._log.write(stamped(escape(line).encode(), self._settings.config.log.format))

    @asynccontextmanager
    async def _containers(self, instance: str) -> AsyncIterator[None]:
        """Check what Docker must have; remove containers of a dead life now, and those of this life in the end."""
        if not CONTAINER_ROLES & set(self._settings.roles):
            images.forget(self._data)
            if self._left_behind:
                await self._sweep_without_need(instance)
            yield
            return
        await first_of(self._prepare_docker(instance), self._orders.stop.wait())
        if self._orders.stop.is_set():
            raise StoppedAtItsStart("stopped before anything was started")
        try:
            yield
        finally:
            await self._sweep(instance)

    async def _prepare_docker(self, instance: str) -> None:
        from cutor.stack.preflight import check_cache, check_docker  # noqa: PLC0415 - a stack without such roles needs no client of Docker

        async with connected(self._settings.config.docker.host) as engine:
            settings = self._settings
            for made in await check_docker(engine, settings.config, instance, self._data.path, settings.roles):
                self._say(made)
            self._warnings = await check_cache(engine, settings.config.nix, instance, self._data.path, settings.roles)
            for warning in self._warnings:
                self._say(f"warning: {warning}")
            images.write(self._data, await images.resolve(engine, self._settings.config))
            try:
                await self._sweep_former(engine, instance)
            except ContainersStuck as stuck:
                self._left_behind = True
                self._say(f"left behind by a former life of this stack: {stuck}; the roles go on trying, and so does the end")

    async def _sweep_former(self, engine: Engine, instance: str) -> None:
        if removed := await remove_containers(engine, instance, self._data.path, within_s=FORMER_SWEEP_S):
            self._say(f"removed {counted(removed, 'container')} that a former life of this stack left behind")
        self._left_behind = False

    async def _sweep_without_need(self, instance: str) -> None:
        """Remove containers of a former life that had roles with containers; this one has none, and starts without Docker."""
        try:
            async with asyncio.timeout(HALTED_SWEEP_S), connected(self._settings.config.docker.host) as engine:
                await self._sweep_former(engine, instance)
        except (TimeoutError, ContainerError) as error:
            why = str(error) or "Docker does not answer"
            self._say(
                f"a former life may have left containers behind ({why}): `{command_for('down', self._data.path)}` removes them"
            )

    async def _sweep(self, instance: str) -> None:
        timeout_s = HALTED_SWEEP_S if self._orders.halt.is_set() else SWEEP_S
        try:
            async with asyncio.timeout(timeout_s), connected(self._settings.config.docker.host) as engine:
                await remove_containers(engine, instance, self._data.path)
            self._left_behind = False
        except (TimeoutError, ContainerError) as error:
            why = str(error) or f"Docker took more than {timeout_s:.0f} s"
            raise ContainersLeft(
                f"containers may be left ({why}): `{command_for('down', self._data.path)}` removes them"
            ) from error

    async def _set_up(self, server: str, topology: Topology) -> None:
        """Make streams and consumers as wanted, publish what the stack accepts, and have lost deliveries come again."""
        async with Bus.connect(server, name="cutor up") as bus:
            await apply(bus, topology)
            await publish_policy(bus, self._settings.config.policy())
            await first_of(see_to_deliveries(self._data, bus, self._say), self._orders.stop.wait())

    async def _keep(self, server: KeptServer, lock: Lock, instance: str, announce: Callable[[], None]) -> None:
        """Keep server and roles running until ``orders.stop``, or until one of them is given up; then the roles end."""
        keepers = [self._keeper(role, server.url, lock) for role in self._settings.all_roles]
        failures: list[Exception] = []

        async def watched(work: Coroutine[Any, Any, None]) -> None:
            try:
                await work
            except Exception as error:
                failures.append(error)
                self._orders.stop.set()

        def moved() -> None:
            self._tell_address(server.url, instance)
            for keeper in keepers:
                keeper.move(environment_for_role(server.url))

        works = [*(keeper.run(self._orders) for keeper in keepers), server.keep(moved), self._until_ready(keepers, announce)]
        tasks = [asyncio.create_task(watched(work)) for work in works]
        telling = asyncio.create_task(self._tell_of_orders())
        try:
            await self._orders.stop.wait()
        finally:
            self._orders.stop.set()
            await asyncio.wait(tasks)
            telling.cancel()
        if failures:
            raise failures[0]

    async def _tell_of_orders(self) -> None:
        """Say on the terminal what was ordered, and what else can be."""
        await self._orders.stop.wait()
        self._say(
            f"stopping: what runs may finish within {self._times.grace_s:g} s, the rest is handed back; "
            "Ctrl-C or SIGTERM once more ends the wait"
        )
        await self._orders.hurry.wait()
        if not self._orders.halt.is_set():
            self._say("stopping now: what runs is handed back; Ctrl-C once more kills it")
        await self._orders.halt.wait()
        self._say("killing: what ran is done again after the next start")

    def _tell_address(self, server: str, instance: str) -> None:
        """Let commands find the server at its new address; a stack goes on where that is not possible."""
        try:
            current.move(self._settings.current_file, instance, server)
        except CutorError as error:
            self._say(f"commands do not find the server any more: {error}")

    def _keeper(self, role: str, server: str, lock: Lock) -> Keeper:
        return Keeper(
            role,
            role_command(role, self._data, lock),
            environment=environment_for_role(server),
            inherited=lock.descriptors,
            log=Log(self._data.logs / f"{role}.log"),
            show=self._show,
            times=self._times,
            log_format=self._settings.config.log.format,
        )

    async def _until_ready(self, keepers: Sequence[Keeper], announce: Callable[[], None]) -> None:
        """Announce the stack once every role is ready. Raises `NotReady`."""
        for keeper in keepers:
            await first_of(keeper.ready.wait(), self._orders.stop.wait(), asyncio.sleep(READY_TIMEOUT_S))
            if self._orders.stop.is_set():
                return
            if not keeper.ready.is_set():
                log = self._data.logs / f"{keeper.role}.log"
                raise NotReady(f"the {keeper.role} was not ready after {READY_TIMEOUT_S:.0f} s: see {log}")
        announce()

    def _announce(self, server: KeptServer, instance: str, on_ready: Callable[[Ready], None]) -> None:
        stack = current.CurrentStack(server=server.url, data=str(self._data.path), instance=instance)
        current.write(self._settings.current_file, stack)
        ready = Ready(server.address, self._data.path, self._warnings)
        self._note(str(ready))
        self._orders.served.set()
        on_ready(ready)


def role_command(role: str, data: DataDirectory, lock: Lock) -> list[str]:
    """Return the command of a role process; the server's address goes in the environment, where no process list shows it."""
    return [
        *(sys.executable, "-P", "-m", "cutor", "--config", str(data.config_file), role, "--data", str(data.path)),
        *("--parent", str(os.getpid())),
        *(part for descriptor in lock.descriptors for part in ("--lock-fd", str(descriptor))),
    ]
