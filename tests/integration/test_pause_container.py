"""The network that a runner's containers share: what stands in it, who reaches what there, and what becomes of it."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiodocker import Docker
from yarl import URL

from cutor.containers.child import Child
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineRefused
from cutor.containers.host_config import ContainerSpec, Identity, pause_spec, runner_spec
from cutor.containers.pause import PauseNetwork
from cutor.jail.session import WorkerSession
from cutor.roles.sweep import sweeping
from tests.child_image import IMAGE
from tests.integration.stage_support import LIMIT, RESOURCES, STORAGE, UID, connected, submission

PORT = 45_454
PATIENCE_S = 180
LISTENS = f"""
import socket
tcp = socket.create_server(("127.0.0.1", {PORT}))
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\\0taken")
abstract.listen()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", {PORT}))
"""
"""Python that listens on every kind of socket that a program may have."""
REACHES = f"""
import os, socket
ways = {{
    "tcp": (socket.AF_INET, ("127.0.0.1", {PORT})),
    "abstract": (socket.AF_UNIX, "\\0taken"),
}}
for name, (family, address) in ways.items():
    try:
        socket.socket(family).connect(address)
    except ConnectionRefusedError:
        continue
    print(name)
"""
"""Python that prints the ways on which something of others can be reached."""
LISTENING = "cd /proc/net; cat tcp tcp6 udp udp6 raw unix | grep -v '^ *sl\\|^Num'"
"""A shell's command that prints all sockets there."""


class Network:
    """A shared network with containers of one runner in it."""

    def __init__(self, engine: Engine, instance: str, pause: PauseNetwork) -> None:
        self.engine = engine
        self.instance = instance
        self.pause = pause

    def spec(self, network: str, *command: str) -> ContainerSpec:
        """Return a runner's container in a network; one with a ``command`` is as one whose init was taken over."""
        identity = Identity(self.instance, secrets.token_hex(6), "default/test")
        made = runner_spec(identity, image=IMAGE, uid=UID, resources=RESOURCES, storage=STORAGE, network=network)
        if command:
            made.body["Cmd"] = list(command)
        return made

    async def start(self, *command: str) -> Child:
        """Start a container in it."""
        return await self.pause.start(lambda network: self.spec(network, *command))

    async def python(self, text: str) -> Child:
        """Start one in which Python runs beside every jail."""
        return await self.start("/usr/bin/python3", "-S", "-E", "-u", "-c", text)

    async def said_by(self, child: Child) -> str:
        """Return all that a container says, and remove it."""
        pieces = []
        async with asyncio.timeout(PATIENCE_S):
            while data := await child.receive():
                pieces.append(data)
        await child.remove()
        return b"".join(pieces).decode()

    async def pause_containers(self) -> list[str]:
        """Return the ids of pause containers, running or not."""
        return [one.id for one in await self.engine.list(self.instance) if one.labels["cutor.role"] == "pause"]


@asynccontextmanager
async def networked() -> AsyncIterator[Network]:
    """Lend a network; in the end nothing is left."""
    instance = f"pause-{secrets.token_hex(4)}"
    async with connected() as engine:
        pause = PauseNetwork(engine, IMAGE, instance)
        network = Network(engine, instance, pause)
        try:
            async with pause.kept():
                yield network
            assert await network.pause_containers() == []
        finally:
            for one in await engine.list(instance):
                await engine.remove(one.id)


async def test_docker_is_asked_for_a_container_four_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """To make it, attach to it, start it and remove it: docs/explanation/path.md."""
    asked: list[str] = []
    query = Docker._do_query

    async def counted(docker: Docker, path: str | URL, method: str, **more: Any) -> Any:
        asked.append(f"{method} {str(path).partition('?')[0].rpartition('/')[2]}")
        return await query(docker, path, method, **more)

    async with networked() as network:
        await (await network.start()).remove()
        monkeypatch.setattr(Docker, "_do_query", counted)
        child = await network.start()
        await child.end(PATIENCE_S)
        await child.remove()
        monkeypatch.undo()
    assert asked == ["POST create", "POST attach", "POST start", f"DELETE {child.id}"]


async def test_nothing_listens_in_it_and_it_leads_nowhere() -> None:
    async with networked() as network:
        assert await network.said_by(await network.start("/usr/bin/bash", "-c", LISTENING)) == ""
        interfaces = await network.said_by(await network.start("/opt/cutor/bin/busybox", "ls", "/sys/class/net"))
        assert interfaces.split() == ["lo"]
        routes = await network.said_by(await network.start("/opt/cutor/bin/busybox", "cat", "/proc/net/route"))
        assert routes.splitlines()[1:] == []
        assert await network.said_by(await network.start("/opt/cutor/bin/busybox", "hostname")) == "cutor\n"


async def test_a_jail_reaches_nothing_of_another_container() -> None:
    """A program that took over the init of its container reaches the others that did; a jail has a network of its own."""
    async with networked() as network:
        listening = await network.python(f"{LISTENS}\nprint('listens', end='')\nimport time\ntime.sleep(3600)")
        assert (await listening.receive()) == b"listens"
        assert (await network.said_by(await network.python(REACHES))).split() == ["tcp", "abstract"], "so it can be seen"
        files = {"cutor-run.sh": 'exec python3 "$1"', "reaches": REACHES, "listens": f"{LISTENS}\nprint('listens', end='')"}
        child = await network.start()
        session = WorkerSession(child, RESOURCES)
        await session.ready()
        await session.hand_over(await submission(network.engine, files))
        reached = await session.run_test(0, args=["reaches"], stdin=b"", limit=LIMIT)
        assert (reached.exit_code, reached.stdout, reached.stderr) == (0, b"", b"")
        listens = await session.run_test(1, args=["listens"], stdin=b"", limit=LIMIT)
        assert (listens.exit_code, listens.stdout, listens.stderr) == (0, b"listens", b""), "no name is taken there"
        await listening.remove()
        await session.close()


async def test_nobody_in_it_can_change_it() -> None:
    """No capability over it is there to be had, nor in a user namespace of one's own."""
    downs = "for way in '' 'unshare -U -r'; do $way busybox ip link set lo down || echo refused; done"
    flags = "/sys/class/net/lo/flags"
    async with networked() as network:
        path = "PATH=/opt/cutor/bin:/usr/bin"
        before = await network.said_by(await network.start("/opt/cutor/bin/busybox", "cat", flags))
        command = f"{downs}; cat {flags}"
        said = await network.said_by(await network.start("/opt/cutor/bin/busybox", "env", path, "bash", "-c", command))
        assert said == f"refused\nrefused\n{before}"


@pytest.mark.parametrize("end", ["killed", "removed"])
async def test_one_that_ends_is_replaced_and_who_joined_it_goes_on(end: str, caplog: pytest.LogCaptureFixture) -> None:
    async with networked() as network:
        first = await network.start()
        session = WorkerSession(first, RESOURCES)
        await session.ready()
        (pause,) = await network.pause_containers()
        if end == "killed":
            await network.engine.call("kill", network.engine.post(f"containers/{pause}/kill", {}))
        else:
            await network.engine.remove(pause)
        second = await network.start()
        await WorkerSession(second, RESOURCES).ready()
        assert pause not in await network.pause_containers() or end == "killed"
        await session.hand_over(await submission(network.engine, {"cutor-run.sh": "exec cat"}))
        report = await session.run_test(0, args=[], stdin=b"goes on", limit=LIMIT)
        assert report.stdout == b"goes on"
        for child in (first, second):
            await child.remove()
    assert [record for record in caplog.records if "whose network others join: another takes its place" in record.message]


async def test_one_that_ends_while_a_container_is_made_is_replaced() -> None:
    """Its container is there when the other is made, and gone when that one starts."""
    async with networked() as network:
        joined: list[str] = []

        def spec(name: str) -> ContainerSpec:
            joined.append(name)
            if len(joined) == 1:
                subprocess.run(["docker", "rm", "--force", name.removeprefix("container:")], check=True, capture_output=True)
            return network.spec(name)

        child = await network.pause.start(spec)
        assert (await child.state()).running
        assert joined[1:] == [f"container:{one}" for one in await network.pause_containers()]
        await child.remove()


async def test_what_is_refused_for_another_reason_is_not_tried_again() -> None:
    async with networked() as network:
        specs = 0

        def spec(joined: str) -> ContainerSpec:
            nonlocal specs
            specs += 1
            return network.spec(joined, "/no/such/program")

        with pytest.raises(EngineRefused, match="no such file"):
            await network.pause.start(spec)
        assert specs == 1
        assert len(await network.pause_containers()) == 1


async def test_it_ends_with_its_runner_and_the_next_one_sweeps_it() -> None:
    async with networked() as network:
        left = await network.engine.start(pause_spec(Identity(network.instance, "left"), image=IMAGE))
        await left.close_stdin()
        async with asyncio.timeout(PATIENCE_S):
            while (await left.state()).running:
                await asyncio.sleep(0.05)
        async with sweeping(network.engine, network.instance, "builder"):
            assert await network.pause_containers() == [left.id]
        async with sweeping(network.engine, network.instance, "runner") as swept:
            assert swept.stuck == ()
            assert await network.pause_containers() == []
