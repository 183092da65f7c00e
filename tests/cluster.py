"""Three nats-servers as a cluster on free ports of this machine: each can be killed and started again where it was.

`start_cluster` is for a fixture: a cluster with cutor's streams, three copies of each, gone with its stores at the end.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.embedded import find_binary, free_port
from cutor.bus.errors import BusError
from cutor.bus.topology import apply, default_text, parse

HOST: Final = "127.0.0.1"
NODES: Final = 3
REPLICATED: Final = default_text().replace("num_replicas: 1 ", "num_replicas: 3 ")
READY_S: Final = 60.0


class Cluster:
    """Nodes 0 to 2, on plain settings: no TLS, one user who may do everything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ports = [free_port(HOST) for _ in range(2 * NODES)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def running(self) -> set[int]:
        """The nodes that run."""
        return set(self._processes)

    def url(self, user: str = "u", *, nodes: Sequence[int] = range(NODES)) -> str:
        """The address of the nodes with the credential of a user, commas between them."""
        return ",".join(f"nats://{user}:p%40ss@{HOST}:{self._ports[node]}" for node in nodes)

    def start(self, node: int) -> None:
        """Start a node (again), on the same ports and store; `ready` waits until the cluster works."""
        routes = ", ".join(f'"nats://{HOST}:{port}"' for port in self._ports[NODES:])
        configuration = self.directory / f"{node}.conf"
        configuration.write_text(
            f'server_name: "n{node}"\nlisten: "{HOST}:{self._ports[node]}"\nlog_file: "{self.directory}/{node}.log"\n'
            f'max_payload: 8388608\njetstream {{ store_dir: "{self.directory}/{node}" }}\n'
            f'authorization {{ user: "u", password: "p@ss" }}\n'
            f'cluster {{ name: "c", listen: "{HOST}:{self._ports[NODES + node]}", routes: [{routes}] }}\n'
        )
        self._processes[node] = subprocess.Popen([find_binary(), "-c", configuration])

    def pid(self, node: int) -> int:
        """The process of a node that runs: for SIGSTOP and SIGCONT, say."""
        return self._processes[node].pid

    def kill(self, node: int) -> None:
        """SIGKILL."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        """SIGKILL to all that run."""
        for node in sorted(self._processes):
            self.kill(node)

    async def leader(self, stream: str, *, timeout_s: float = READY_S) -> int:
        """The node that leads a stream at this moment; waits while one is being elected."""
        async with asyncio.timeout(timeout_s), Bus.connect(self.url(), name="test: who leads") as bus:
            while True:
                named = (await bus.stream_info(stream))["cluster"].get("leader", "")
                if named:
                    return int(named.removeprefix("n"))
                await asyncio.sleep(0.1)

    async def prepare(self, tenants: Sequence[str] = ("default",)) -> None:
        """Wait for the first leader and make cutor's streams, three copies of each."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                async with Bus.connect(self.url(), name="test set-up", connect_timeout_s=1) as bus:
                    await apply(bus, parse(REPLICATED, [*tenants]))
                    return
            except BusError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def current(self, stream: str) -> None:
        """Wait until every copy of a stream has all its messages: after `start`, before the next `kill`."""
        async with asyncio.timeout(READY_S), Bus.connect(self.url(), name="test: copies") as bus:
            while True:
                cluster = (await bus.stream_info(stream))["cluster"]
                copies = cluster.get("replicas", [])
                if (
                    cluster.get("leader")
                    and len(copies) == NODES - 1
                    and all(one.get("current") and not one.get("offline") for one in copies)
                ):
                    return
                await asyncio.sleep(0.1)


@contextmanager
def start_cluster(tenants: Sequence[str] = ("default",)) -> Iterator[Cluster]:
    """Three nodes with cutor's streams while the block lasts."""
    directory = Path(tempfile.mkdtemp(prefix="cutor-test-cluster-"))
    cluster = Cluster(directory)
    try:
        for node in range(NODES):
            cluster.start(node)
        asyncio.run(cluster.prepare(tenants))
        yield cluster
    finally:
        cluster.kill_all()
        shutil.rmtree(directory)
