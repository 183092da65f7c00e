"""Three nats-servers as a cluster on free ports of this machine: each can be killed and started again where it was.

`start_cluster` is for a fixture: a cluster with cutor's streams, three copies of each, gone with its stores at the end;
`start_deployed` the same with the configuration of `deploy/nats/cluster`, its TLS and its users.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from cutor.bus.connection import Bus
from cutor.bus.embedded import find_binary
from cutor.bus.errors import BusError
from cutor.bus.topology import apply, default_text, parse
from tests.ports import free_port

HOST: Final = "127.0.0.1"
NODES: Final = 3
REPLICATED: Final = default_text().replace("num_replicas: 1 ", "num_replicas: 3 ")
READY_S: Final = 180.0
DEPLOYED: Final = Path(__file__).parents[1] / "deploy" / "nats" / "cluster"


class Cluster:
    """Nodes 0 to 2, on plain settings: no TLS, one user who may do everything. What is asked here, `administrator` asks."""

    administrator = "u"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ports = [free_port(HOST) for _ in range(2 * NODES)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def name(self, node: int) -> str:
        """The name of a node's server."""
        return f"n{node}"

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
            f'server_name: "{self.name(node)}"\nlisten: "{HOST}:{self._ports[node]}"\nlog_file: "{self.directory}/{node}.log"\n'
            f'max_payload: 8388608\njetstream {{ store_dir: "{self.directory}/{node}" }}\n'
            f'authorization {{ user: "u", password: "p@ss" }}\n'
            f'cluster {{ name: "c", listen: "{HOST}:{self._ports[NODES + node]}", routes: [{routes}] }}\n'
        )
        self._processes[node] = subprocess.Popen([find_binary(), "-c", configuration])

    def port(self, node: int, *, of_routes: bool = False) -> int:
        """The port of a node, for clients or for the other nodes."""
        return self._ports[NODES * of_routes + node]

    def process(self, node: int) -> subprocess.Popen[bytes]:
        """The process of a node that runs."""
        return self._processes[node]

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
        async with asyncio.timeout(timeout_s), Bus.connect(self.url(self.administrator), name="test: who leads") as bus:
            while True:
                named = (await bus.stream_info(stream))["cluster"].get("leader", "")
                if named:
                    return next(node for node in range(NODES) if self.name(node) == named)
                await asyncio.sleep(0.1)

    async def prepare(self, tenants: Sequence[str] = ("default",)) -> None:
        """Wait for the first leader and make cutor's streams, three copies of each."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                async with Bus.connect(self.url(self.administrator), name="test set-up", connect_timeout_s=1) as bus:
                    await apply(bus, parse(REPLICATED, [*tenants]))
                    return
            except BusError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def ready(self) -> None:
        """Wait until the cluster has a leader that answers."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                async with Bus.connect(self.url(self.administrator), name="test set-up", connect_timeout_s=1) as bus:
                    await bus.api.stream_of("cutor.ev.x")
                    return
            except BusError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def current(self, stream: str) -> None:
        """Wait until every copy of a stream has all its messages: after `start`, before the next `kill`."""
        async with asyncio.timeout(READY_S), Bus.connect(self.url(self.administrator), name="test: copies") as bus:
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


class DeployedCluster(Cluster):
    """The configuration of `deploy/nats/cluster` as it is, but for ports: TLS, accounts, secrets made for it."""

    administrator = "admin"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.home = directory / "cluster"
        self.home.mkdir()
        for file in DEPLOYED.iterdir():
            if file.is_file():
                copy = self.home / file.name
                copy.write_text(self._with_ports(file.read_text()))
                copy.chmod(file.stat().st_mode)
        self.make_secrets()

    def name(self, node: int) -> str:
        """n1, n2, n3."""
        return f"n{node + 1}"

    def make_secrets(self, *nodes: str) -> None:
        """Run `make-secrets` for this machine, or for further nodes."""
        subprocess.run([self.home / "make-secrets", *nodes], check=True, capture_output=True, text=True)

    def add_physics(self) -> None:
        """Take in the producer of one tenant that is commented out in `accounts.conf`, as it says there."""
        accounts = self.home / "accounts.conf"
        head, mark, rest = accounts.read_text().partition("  # PHYSICS {\n")
        example, end, tail = rest.partition("  # }\n")
        assert mark
        assert end
        lines = (mark + example + end).splitlines(keepends=True)
        accounts.write_text(head + "".join(line.replace("# ", "", 1) for line in lines) + tail)
        with (self.home / "secrets" / "passwords.conf").open("a") as passwords:
            passwords.write('physics_password: "a-password-of-its-own"\n')
        self.make_secrets()

    def _with_ports(self, text: str) -> str:
        """At once: a free port may begin with one of the delivered ones."""
        ports = {f"{first + node}": self.port(node, of_routes=first == 6222) for first in (4222, 6222) for node in range(NODES)}
        return re.sub(r"(?<=:)\d{4}\b", lambda found: str(ports.get(found[0], found[0])), text)

    @property
    def ca(self) -> Path:
        """The certificate of its CA."""
        return self.home / "secrets" / "ca.pem"

    def url(self, user: str = "admin", *, nodes: Sequence[int] = range(NODES)) -> str:
        """The address of the nodes with the credential of a user and the CA."""
        servers = (self.home / "secrets" / f"{user}.url").read_text().strip().split(",")
        return ",".join(servers[node] for node in nodes) + f"?tls_ca={self.ca}"

    def log(self, node: int) -> Path:
        """The log of a node."""
        return self.directory / f"{self.name(node)}.log"

    def start(self, node: int) -> None:
        """Start a node (again), as the how-to says."""
        with self.log(node).open("ab") as log:
            command = [str(find_binary()), "-c", f"{self.name(node)}.conf"]
            self._processes[node] = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log)


Kind = TypeVar("Kind", bound=Cluster)


@contextmanager
def start_cluster(tenants: Sequence[str] = ("default",)) -> Iterator[Cluster]:
    """Three nodes with cutor's streams while the block lasts."""
    with _running(Cluster, tenants) as cluster:
        yield cluster


@contextmanager
def start_deployed(tenants: Sequence[str] = ("default",), *, physics: bool = False) -> Iterator[DeployedCluster]:
    """The cluster of `deploy/nats/cluster` with cutor's streams while the block lasts; `physics` as in `add_physics`."""
    with _running(DeployedCluster, tenants, DeployedCluster.add_physics if physics else None) as cluster:
        yield cluster


@contextmanager
def _running(kind: type[Kind], tenants: Sequence[str], configure: Callable[[Kind], None] | None = None) -> Iterator[Kind]:
    directory = Path(tempfile.mkdtemp(prefix="cutor-test-cluster-"))
    cluster = kind(directory)
    try:
        if configure is not None:
            configure(cluster)
        for node in range(NODES):
            cluster.start(node)
        asyncio.run(cluster.prepare(tenants))
        yield cluster
    finally:
        cluster.kill_all()
        shutil.rmtree(directory)
