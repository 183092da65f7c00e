"""What Docker makes for a process that was killed meanwhile: it comes after a sweep of all that the process had, and goes.

The requests are held back on their way to Docker, so that they arrive when their client is dead.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cutor.containers import requested
from cutor.containers.host_config import ContainerSpec, Identity, VolumeSpec, runner_spec, use_mark
from cutor.roles.sweep import sweeping
from cutor.stack.lock import read_holder
from cutor.stack.sweep import remove_containers
from tests.bare_stack import User
from tests.child_image import IMAGE
from tests.containers import container_ids
from tests.docker_proxy import DockerProxy
from tests.integration.stage_support import RESOURCES, STORAGE, UID, connected
from tests.processes import descendants, kill

LATE_S = 1.0
"""How long after its client's death a request reaches Docker: a sweep that waits for nothing takes a tenth of that."""
ASKING = """
import asyncio, sys
from pathlib import Path
from cutor.containers.engine import Engine
from tests.integration.test_late_containers import container, mark

async def main(address, instance, data):
    async with Engine.connect(address) as engine:
        await asyncio.gather(engine.start(container(instance, Path(data))), engine.make_volume(mark(instance, Path(data))))

asyncio.run(main(*sys.argv[1:]))
"""


def container(instance: str, data: Path) -> ContainerSpec:
    return runner_spec(Identity(instance, "late", data=data), image=IMAGE, uid=UID, resources=RESOURCES, storage=STORAGE)


def mark(instance: str, data: Path) -> VolumeSpec:
    return use_mark(Identity(instance, "late", data=data), STORAGE.store_volume, secrets.token_hex(32))


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[DockerProxy]:
    proxy = DockerProxy(tmp_path / "docker.sock")
    async with proxy.listening():
        yield proxy


async def killed_meanwhile(proxy: DockerProxy, instance: str, data: Path) -> None:
    """Kill a process that has asked for a container and a mark; Docker hears of it a moment later."""
    proxy.hold()
    asking = await asyncio.create_subprocess_exec(sys.executable, "-c", ASKING, proxy.address, instance, str(data))
    await proxy.until_held(2)
    asking.kill()
    await asking.wait()
    asyncio.get_running_loop().call_later(LATE_S, proxy.let_go)


async def test_a_stacks_sweep_waits_for_what_docker_still_makes(proxy: DockerProxy, tmp_path: Path) -> None:
    instance = f"late-{secrets.token_hex(4)}"
    async with connected() as engine:
        await killed_meanwhile(proxy, instance, tmp_path)
        assert await remove_containers(engine, instance, tmp_path) == 2
        assert (await engine.list(instance), await engine.marks(instance)) == ([], [])
        assert requested.left(tmp_path, instance) == []
        await asyncio.sleep(LATE_S)
        assert (await engine.list(instance), await engine.marks(instance)) == ([], []), "nothing comes behind it"


async def test_a_roles_sweep_removes_it_beside_its_work(proxy: DockerProxy, tmp_path: Path) -> None:
    instance = f"late-{secrets.token_hex(4)}"
    async with connected() as engine:
        await killed_meanwhile(proxy, instance, tmp_path)
        async with sweeping(engine, instance, "builder", tmp_path):
            assert len(requested.left(tmp_path, instance)) == 2, "a runner's"
        async with sweeping(engine, instance, "runner", tmp_path):
            assert requested.left(tmp_path, instance), "no role waits for it"
            async with asyncio.timeout(180):
                while requested.left(tmp_path, instance):
                    await asyncio.sleep(0.02)
            assert (await engine.list(instance), await engine.marks(instance)) == ([], [])


async def test_what_was_never_asked_for_is_waited_for_once(tmp_path: Path) -> None:
    instance = f"late-{secrets.token_hex(4)}"
    spec = container(instance, tmp_path)
    requested.note(spec.name, spec.labels)
    (noted,) = requested.left(tmp_path, instance)
    assert (noted.name, noted.is_volume) == (spec.name, False)
    assert requested.left(tmp_path, "another") == [], "of a copied directory"
    path = tmp_path / "in-hand" / "containers" / spec.name
    long_ago = time.time() - 2 * requested.LATE_S
    os.utime(path, (long_ago, long_ago))
    async with connected() as engine:
        assert await remove_containers(engine, instance, tmp_path) == 0
    assert not path.exists()


async def test_what_docker_answered_for_is_not_noted(tmp_path: Path) -> None:
    instance = f"late-{secrets.token_hex(4)}"
    async with connected() as engine:
        child = await engine.start(container(instance, tmp_path))
        await engine.make_volume(mark(instance, tmp_path))
        assert requested.left(tmp_path, instance) == []
        assert await remove_containers(engine, instance, tmp_path) == 1
        assert not (await child.state()).exists


@pytest.mark.parametrize("how", ["down", "down --now", "SIGTERM", "killed"])
async def test_no_stop_of_a_stack_leaves_what_docker_makes_late(user: User, proxy: DockerProxy, how: str) -> None:
    """The stack is stopped while its runner has Docker replace a container that stood ready, and died."""
    config = user.home / "config.toml"
    config.write_text(f'[docker]\nhost = "{proxy.address}"\n')
    started = await asyncio.to_thread(user.up, "--config", str(config), roles=["runner"])
    assert started.returncode == 0, started.stderr
    async with asyncio.timeout(180):
        while not (ready := container_ids(f"label=cutor={user.stack.instance}", "label=cutor.role=runner", "status=running")):
            await asyncio.sleep(0.05)
    proxy.hold()
    await asyncio.to_thread(subprocess.run, ["docker", "kill", *ready], check=True, capture_output=True)
    async with asyncio.timeout(180):
        await proxy.until_held()
    asyncio.get_running_loop().call_later(LATE_S, proxy.let_go)
    if how in {"SIGTERM", "killed"}:
        end(user, signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    options = ["--now"] if how == "down --now" else []
    done = await asyncio.to_thread(user.cutor, "down", *options, "--data", str(user.stack.data), "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert container_ids(f"label=cutor={user.stack.instance}") == []
    await asyncio.sleep(2 * LATE_S)
    assert container_ids(f"label=cutor={user.stack.instance}") == []


def end(user: User, number: signal.Signals) -> None:
    """Send the supervisor a signal; one that kills goes to all that it has started, too."""
    holder = read_holder(user.stack.data / "lock")
    assert holder is not None
    for pid in [holder.pid, *(descendants(holder.pid) if number == signal.SIGKILL else [])]:
        kill(pid, number)
