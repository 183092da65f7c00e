"""All that ``cutor doctor`` checks, in its order: each check looks at one thing and returns a line. None changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError, Leaderless
from cutor.cli.checks.answers import check_answers
from cutor.cli.checks.archive import check_archive
from cutor.cli.checks.cache import check_cache
from cutor.cli.checks.copies import check_copies
from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.cli.checks.gaps import check_gaps
from cutor.cli.checks.images import check_image, check_running_images
from cutor.cli.checks.leftovers import check_leftovers
from cutor.cli.checks.letters import check_dead_letters
from cutor.cli.checks.limits import check_limits, this_machine
from cutor.cli.checks.machine import check_control_groups, check_disk, check_python, check_server_binary
from cutor.cli.checks.metrics import check_metrics
from cutor.cli.checks.parked import check_parked
from cutor.cli.checks.server import check_durability, check_policy, check_server, check_streams
from cutor.cli.checks.serving import check_projector, check_role
from cutor.cli.checks.space import check_environments, check_store_space
from cutor.cli.checks.storage import check_disks, check_storage
from cutor.cli.checks.versions import check_versions
from cutor.cli.checks.volumes import check_networks, check_volumes
from cutor.cli.failures import bug_line, exit_code_of, line_of
from cutor.cli.limits_table import shown_limits
from cutor.cli.options import Wanted
from cutor.config import Config, check_docker_host
from cutor.containers.engine import Engine
from cutor.errors import CutorError
from cutor.model.units import counted
from cutor.stack import current, images
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.finding import NoStack
from cutor.stack.streams import wanted as wanted_streams

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


async def examine(wanted: Wanted) -> AsyncIterator[Finding]:
    """Yield every finding, in the order in which things build on each other."""
    async for finding in _guarded("machine", _machine()):
        yield finding
    try:
        config = wanted.loaded_of_stack.config
    except current.CurrentStackDamaged:
        config = wanted.loaded.config  # `check_stack` tells of it
    except CutorError as error:
        yield fail("configuration", line_of(error), "mend the file, or name another one with --config")
        return
    async for finding in _guarded("configuration", _configuration(wanted, config)):
        yield finding
    running = _running(wanted)
    async for finding in _guarded("docker", check_docker(wanted, config, running)):
        yield finding
    if running is not None:
        yield await check_metrics(config.metrics, running.path)
    shown = None
    async for finding in _guarded("stack", check_stack(wanted, config)):
        shown = shown or finding.limits or None
        yield finding
    if shown is None:
        shown = shown_limits("configuration", config.policy())
        yield ok("limits", "those of the configuration: no stack publishes any", shown)
    for finding in check_limits(shown, config, this_machine()):
        yield finding


async def _guarded(what: str, findings: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """Yield findings; whatever goes wrong on the way is one more: a check that fails does not keep the others from theirs."""
    try:
        async for finding in findings:
            yield finding
    except Exception as error:
        yield fail(what, bug_line(error) if exit_code_of(error) is None else line_of(error), "")


async def _machine() -> AsyncIterator[Finding]:
    yield check_python()
    yield check_server_binary()
    yield check_control_groups(CGROUP_ROOT)


async def _configuration(wanted: Wanted, config: Config) -> AsyncIterator[Finding]:
    """Check configuration and data directory: of the stack that runs here, else of one that would be started."""
    stack = began = None
    with suppress(current.CurrentStackDamaged):
        stack, began = wanted.own_stack, wanted.started_with
    loaded = wanted.loaded if stack is None else wanted.loaded_of_stack
    tenants = f"limits of {counted(len(config.tenants), 'tenant')}"
    followed = "of that file" if loaded is wanted.loaded else "the stack's"
    if stack is not None and began is not None and is_edited(wanted.loaded.config, began.config):
        yield warn(
            "configuration",
            f"{wanted.loaded.file or 'what is built in'} differs from what the running stack was started with",
            f"`{command_for('down', Path(stack.data))}` and `{command_for('up', Path(stack.data))}` take it up; "
            f"what follows is {followed}",
        )
    yield ok("configuration", f"{loaded.file or 'none: every value is built in'}, {tenants}")
    data = Path(stack.data) if stack else wanted.surroundings.data_directory(config)
    yield check_disk(data)
    archive = {} if config.archive.directory is None else {"archive": Path(config.archive.directory)}
    for finding in check_disks(data, {"views": (data / config.projector.database).parent, **archive}):
        yield finding


def is_edited(own: Config, of_stack: Config) -> bool:
    """Return whether a configuration is another one than that of a stack, whose copy names the image that it pinned."""
    docker, nix = of_stack.docker, of_stack.nix
    same_image = (replace(own.docker, image=docker.image), replace(own.nix, image=nix.image))
    return replace(own, docker=same_image[0], nix=same_image[1]) != of_stack


def _running(wanted: Wanted) -> DataDirectory | None:
    """Return the data directory of the stack that runs here; `check_stack` tells of one that died or cannot be read."""
    with suppress(CutorError):
        if (stack := wanted.own_stack) is not None and current.runs(stack):
            return DataDirectory(Path(stack.data))
    return None


async def check_docker(wanted: Wanted, config: Config, running: DataDirectory | None) -> AsyncIterator[Finding]:
    """Check engine, image, volumes and networks. Raises `InvalidConfig`, `ContainerError`, `ImagesDamaged`."""
    check_docker_host(config.docker.host)
    async with Engine.connect(config.docker.host) as engine:
        yield ok("docker", f"{(await engine.version())['Version']} at {engine.address}")
        if running is not None and (kept := images.read(running)) is not None:
            yield await check_running_images(engine, kept)
        for image in sorted({config.docker.image, config.nix.image}):
            for finding in await check_image(engine, image):
                yield finding
        async for finding in check_volumes(engine, config.nix):
            yield finding
        for finding in await check_networks(engine, config.nix):
            yield finding
        async for finding in check_store_space(engine, config.nix):
            yield finding
        async for finding in check_cache(engine, config.nix):
            yield finding
        for finding in await check_leftovers(engine, wanted, config):
            yield finding


async def check_stack(wanted: Wanted, config: Config) -> AsyncIterator[Finding]:
    """Check the stack: reachable, streams as wanted, limits published, roles there. No stack at all is only a warning."""
    try:
        server = wanted.find_server()
    except NoStack as error:
        yield warn("stack", line_of(error), "")
        return
    try:
        async with Bus.connect(server, name="cutor doctor") as bus:
            yield await check_server(bus)
            yield await check_streams(bus, config)
            async for finding in _check_keeping(bus, wanted, config):
                yield finding
            yield await check_policy(bus, config)
            for role in ("builder", "runner"):
                yield await check_role(bus, config, role)
            async for finding in _check_views(bus):
                yield finding
            if (environments := await check_environments(bus)) is not None:
                yield environments
            async for finding in check_dead_letters(bus):
                yield finding
            async for finding in check_parked(bus):
                yield finding
    except Leaderless as error:
        yield fail("jetstream", line_of(error), "")
    except BusError as error:
        yield fail("server", line_of(error), "")


async def _check_views(bus: Bus) -> AsyncIterator[Finding]:
    yield await check_projector(bus)
    async for finding in check_answers(bus):
        yield finding
    async for finding in check_gaps(bus):
        yield finding


async def _check_keeping(bus: Bus, wanted: Wanted, config: Config) -> AsyncIterator[Finding]:
    """Check how what is in the streams is kept, and whether it can be read: copies, disks, limits, archive, versions."""
    streams = [stream.name for stream in wanted_streams(config).streams]
    if (copies := await check_copies(bus, streams)) is not None:
        yield copies
    yield await check_durability(bus, _own_store(wanted))
    async for finding in check_storage(bus, streams):
        yield finding
    async for finding in check_archive(bus, config.archive):
        yield finding
    if (versions := await check_versions(bus)) is not None:
        yield versions


def _own_store(wanted: Wanted) -> Path | None:
    """Return where the server of this machine's stack keeps its files; None where commands talk to another server."""
    stack = wanted.own_stack
    return None if stack is None else DataDirectory(Path(stack.data)).server
