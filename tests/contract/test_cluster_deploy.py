"""The cluster of `deploy/nats/cluster` as it is delivered: its nodes die, are replaced and upgraded, and nothing is lost."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import find_binary
from cutor.bus.errors import BusError, NotPermitted
from cutor.bus.topology import apply, default_text, parse, plan
from tests.cluster import DEPLOYED, NODES, REPLICATED, DeployedCluster, start_deployed
from tests.live_stack import Stack, surroundings
from tests.nats_server import OwnServer, appender


@pytest.fixture
def cluster() -> Iterator[DeployedCluster]:
    with start_deployed() as three:
        yield three


PATIENCE_S = 180.0
APPENDS = 50
"""Acknowledged at least, before something is done to the cluster, and after it."""


class Load:
    """A producer that appends, one submission after the other: what was acknowledged, and how long each took."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.longest_s = 0.0
        self.task: asyncio.Task[None] | None = None

    async def run(self, bus: Bus) -> None:
        append = appender(bus)
        for number in range(1_000_000):
            began = time.monotonic()
            await append(f"load{number}", "submitted", 0)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.acknowledged.append(f"cutor.ev.default.load{number}.submitted")

    async def more(self, count: int) -> None:
        """Wait for further acknowledged events. Raises what ended the load."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(PATIENCE_S):
            while len(self.acknowledged) < wanted:
                self.check()
                await asyncio.sleep(0.01)

    def check(self) -> None:
        """Raise what ended it: it appends without end."""
        if self.task is not None and self.task.done():
            self.task.result()


@asynccontextmanager
async def under_load(cluster: DeployedCluster) -> AsyncIterator[Load]:
    """Appends all the while, acknowledged before and after what is done; in the end each of them is in the stream, once."""
    load = Load()
    async with Bus.connect(cluster.url("producer"), name="load") as bus:
        load.task = asyncio.create_task(load.run(bus))
        try:
            await load.more(APPENDS)
            yield load
            await load.more(APPENDS)
            load.check()
        finally:
            load.task.cancel()
            with suppress(asyncio.CancelledError):
                await load.task
    async with Bus.connect(cluster.url("admin"), name="check") as bus:
        held = [stored.subject async for stored in bus.read("EVENTS", filter="cutor.ev.*.*.submitted")]
    assert len(load.acknowledged) >= 2 * APPENDS
    assert held[: len(load.acknowledged)] == load.acknowledged
    assert load.longest_s < PATIENCE_S


async def test_the_leader_dies_under_load(cluster: DeployedCluster) -> None:
    async with under_load(cluster) as load:
        leader = await cluster.leader("EVENTS")
        cluster.kill(leader)
        await load.more(200)
        assert await cluster.leader("EVENTS") != leader
        cluster.start(leader)
        await cluster.current("EVENTS")


async def test_every_node_is_upgraded_in_turn(cluster: DeployedCluster) -> None:
    """Lame duck mode: a node hands over what it leads, and ends by itself; then its new version is started."""
    async with under_load(cluster) as load:
        for node in range(NODES):
            process = cluster.process(node)
            process.send_signal(signal.SIGUSR2)
            async with asyncio.timeout(120):
                while process.poll() is None:
                    await asyncio.sleep(0.05)
            await load.more(50)
            cluster.start(node)
            for stream in ("EVENTS", "STACK"):
                await cluster.current(stream)


async def test_a_node_is_replaced_by_an_empty_one_of_the_same_name(cluster: DeployedCluster) -> None:
    """The new one gets a certificate of its own from the same CA, and copies all that there is."""
    secrets = cluster.home / "secrets"
    async with under_load(cluster) as load:
        node = 1
        cluster.kill(node)
        shutil.rmtree(cluster.home / "store" / "n2")
        old = (secrets / "n2.pem").read_bytes()
        (secrets / "n2.pem").unlink()
        addresses = (secrets / "producer.url").read_text()
        cluster.make_secrets(f"n2=localhost:{cluster.port(node)},127.0.0.1")
        assert (secrets / "producer.url").read_text() == addresses.replace(
            f"127.0.0.1:{cluster.port(node)}", f"localhost:{cluster.port(node)}"
        ), "all nodes are named still"
        assert (secrets / "n2.pem").read_bytes() != old
        await load.more(50)
        cluster.start(node)
        await cluster.current("EVENTS")
        await load.more(50)
    others = [other for other in range(NODES) if other != node]
    cluster.kill(others[0])
    async with Bus.connect(cluster.url("producer"), name="test") as bus:
        assert await appender(bus)("behind", "submitted", 0) > 0, "the new copy counts"


async def test_without_two_of_three_nothing_is_acknowledged_and_nothing_lost(cluster: DeployedCluster) -> None:
    async with Bus.connect(cluster.url("producer", nodes=[0]), name="test") as bus:
        first = await appender(bus)("one", "submitted", 0)
        for node in (1, 2):
            cluster.kill(node)
        with pytest.raises(BusError):
            await bus.append(
                "cutor.ev.default.two.submitted",
                b"{}",
                message_id="default/two/submitted/0",
                fence="cutor.ev.default.two.>",
                expected_sequence=0,
                timeout_s=3,
            )
        for node in (1, 2):
            cluster.start(node)
        await cluster.current("EVENTS")
        second = await appender(bus)("two", "submitted", 0)
        assert second > first
        assert (
            len(await bus.history("cutor.ev.default.two.>", "cutor.ev.default.two.submitted", consistent=True, timeout_s=30))
            == 1
        )


async def test_copies_are_added_to_streams_that_have_one(cluster: DeployedCluster) -> None:
    """What a stack on one server becomes: `server.replicas` changes, and the streams are applied again."""
    async with Bus.connect(cluster.url("admin"), name="test") as admin:
        single = parse(default_text(), ["default"])
        await apply(admin, single)
        assert (await admin.stream_info("EVENTS"))["config"]["num_replicas"] == 1
        async with Bus.connect(cluster.url("producer"), name="test") as bus:
            await appender(bus)("before", "submitted", 0)
        tripled = single.with_replicas(3)
        assert {str(field) for change in await plan(admin, tripled) for field in change.fields} == {"num_replicas: 1 → 3"}
        await apply(admin, tripled)
        await cluster.current("EVENTS")
        assert await plan(admin, parse(REPLICATED, ["default"])) == []
        cluster.kill(await cluster.leader("EVENTS"))
    async with Bus.connect(cluster.url("producer"), name="test") as bus:
        before = "cutor.ev.default.before.>", "cutor.ev.default.before.submitted"
        assert len(await bus.history(*before, consistent=True, timeout_s=30)) == 1


def test_secrets_remember_the_nodes(tmp_path: Path) -> None:
    """Made again for one node, addresses name all; for another address a node needs another certificate."""

    def make(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([DEPLOYED / "make-secrets", *args], capture_output=True, text=True, check=False)

    def nodes() -> list[str]:
        return [server.rpartition("@")[2] for server in (tmp_path / "producer.url").read_text().strip().split(",")]

    there = str(tmp_path)
    assert make(there, "a=one.example:1", "b=two.example:2").returncode == 0
    first = (tmp_path / "producer.url").read_text()
    for again in ((), ("b=two.example:2",)):
        assert make(there, *again).returncode == 0
        assert (tmp_path / "producer.url").read_text() == first
    assert make(there, "c=three.example:3").returncode == 0
    assert nodes() == ["one.example:1", "two.example:2", "three.example:3"]
    refused = make(there, "b=other.example:2")
    assert (
        refused.stderr
        == f"make-secrets: the certificate of b is not for other.example: remove {there}/b.pem, and run this again\n"
    )
    (tmp_path / "b.pem").unlink()
    assert make(there, "b=other.example:2").returncode == 0
    assert nodes() == ["one.example:1", "other.example:2", "three.example:3"]
    assert "has the secrets of a cluster" in make("--plain", there).stderr
    (tmp_path / "nodes").unlink()
    assert "name all nodes" in make(there).stderr


def test_addresses_of_one_server_without_tls(tmp_path: Path) -> None:
    def make(*args: str) -> str:
        command = [DEPLOYED / "make-secrets", *args]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    there = str(tmp_path)
    assert make("--plain", there, "nats.example:4333") == ""
    first = (tmp_path / "producer.url").read_text()
    assert re.fullmatch(r"nats://producer:[0-9a-f]{48}@nats\.example:4333\n", first)
    assert make("--plain", there) == ""
    assert (tmp_path / "producer.url").read_text() == first
    assert "no HOST:PORT" in make("--plain", there, "n1=nats.example:4333")
    assert "one server without TLS" in make(there)
    assert not [*tmp_path.glob("*.pem")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'chem_password: "p@ss:w/rd#1"',
            "the password of chem ({}, line 10) does not fit into an address: take letters, digits",
        ),
        ('chem_password: ""', "the password of chem ({}, line 10) does not fit into an address"),
        ('chem_password: "pässword"', "the password of chem ({}, line 10) does not fit into an address"),
        ("chem_password: plainword", 'the password of chem ({}, line 10): write it as chem_password: "…", with the quotes'),
        ("chem_password = 'plainword'", 'the password of chem ({}, line 10): write it as chem_password: "…"'),
        ('  admin_password: "other"', 'the password of admin ({}, line 10): write it as admin_password: "…"'),
        ('chem_password: "word" # mine', "and nothing else in the line"),
        ('chem: "word"', '{}, line 10 is no password: write it as USER_password: "…"'),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--plain"]])
def test_a_password_that_has_no_address_is_refused(tmp_path: Path, arguments: list[str], line: str, said: str) -> None:
    def make() -> subprocess.CompletedProcess[str]:
        command = [DEPLOYED / "make-secrets", *arguments, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert make().returncode == 0
    passwords = tmp_path / "passwords.conf"
    kept = passwords.read_text()
    passwords.write_text(f"{kept}\n{line}\n")
    refused = make()
    assert (refused.returncode, refused.stdout) == (2, "")
    [only] = refused.stderr.splitlines()
    assert said.format(passwords) in only
    assert "word" not in only.replace("password", ""), "it is not shown"
    assert not (tmp_path / "chem.url").exists()
    passwords.write_text(f'{kept}\n# by hand\nchem_password: "p.a_s~s-w0rd"')
    assert make().returncode == 0
    assert "chem:p.a_s~s-w0rd@" in (tmp_path / "chem.url").read_text()


def test_secrets_are_for_the_addresses_that_the_nodes_have(tmp_path: Path) -> None:
    """Whoever changes a port in a node's configuration has it in the addresses, too."""
    home = tmp_path / "with a space"
    shutil.copytree(DEPLOYED, home, ignore=shutil.ignore_patterns("secrets", "store"))
    configuration = home / "n2.conf"
    text = configuration.read_text()

    def make() -> subprocess.CompletedProcess[str]:
        return subprocess.run([home / "make-secrets"], capture_output=True, text=True, check=False)

    configuration.write_text(text.replace("127.0.0.1:4223", "192.0.2.7:4999"))
    assert make().returncode == 0
    servers = (home / "secrets" / "admin.url").read_text().strip().split(",")
    assert [server.rpartition("@")[2] for server in servers] == ["127.0.0.1:4222", "192.0.2.7:4999", "127.0.0.1:4224"]
    known = "n1=127.0.0.1:4222,localhost\nn2=192.0.2.7:4999\nn3=127.0.0.1:4224,localhost\n"
    assert (home / "secrets" / "nodes").read_text() == known
    shutil.rmtree(home / "secrets")
    configuration.write_text(text.replace("client_address:", "address:"))
    refused = make()
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "n2.conf has no client_address" in refused.stderr


def test_a_stranger_cannot_join_as_a_node(cluster: DeployedCluster) -> None:
    """One with a certificate of another CA is refused by the routes of all."""
    home = cluster.directory / "stranger"
    shutil.copytree(cluster.home, home, ignore=shutil.ignore_patterns("secrets", "store"))
    subprocess.run([home / "make-secrets"], check=True, capture_output=True)
    configuration = home / "n1.conf"
    text = configuration.read_text().replace('"n1"', '"n4"')
    for port in (cluster.port(0), cluster.port(0, of_routes=True)):
        text = text.replace(f":{port}", ":-1")
    configuration.write_text(text)
    log = cluster.directory / "stranger.log"
    with log.open("wb") as opened:
        process = subprocess.Popen([str(find_binary()), "-c", "n1.conf"], cwd=home, stdout=opened, stderr=opened)
    try:
        deadline = time.monotonic() + 180
        while "TLS route handshake error" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert "Route connection created - Remote" not in log.read_text()
    finally:
        process.kill()
        process.wait()


async def reloaded(cluster: DeployedCluster, what: str) -> None:
    """Tell every node to read its configuration again, and wait until it has."""
    before = {node: cluster.log(node).read_text().count(what) for node in range(NODES)}
    for node in range(NODES):
        cluster.process(node).send_signal(signal.SIGHUP)
    async with asyncio.timeout(180):
        for node in range(NODES):
            while cluster.log(node).read_text().count(what) == before[node]:
                assert "Failed to reload" not in cluster.log(node).read_text(), cluster.log(node).read_text()
                await asyncio.sleep(0.05)


async def test_a_user_of_one_tenant_is_added_by_two_reloads(cluster: DeployedCluster) -> None:
    """The first makes its account, the second the account's imports: so does nats-server 2.15."""
    cluster.add_physics()
    async with Bus.connect(cluster.url("producer"), name="stays") as stays:
        await reloaded(cluster, "Reloaded: accounts")
        await reloaded(cluster, "Reloaded: accounts")
        async with Bus.connect(cluster.url("physics"), name="test") as bus:
            append = appender(bus)
            first = await append("one", "submitted", 0, tenant="physics")
            subjects = "cutor.ev.physics.one.>", "cutor.ev.physics.one.submitted"
            async with asyncio.timeout(180), aclosing(bus.follow(*subjects, patience_s=60)) as following:
                assert (await anext(following)).sequence == first
                await append("one", "cancelled", first, tenant="physics")
                assert (await anext(following)).subject == "cutor.ev.physics.one.cancelled"
            for refused in (append("two", "submitted", 0), append("one", "finished", first, tenant="physics")):
                with pytest.raises(NotPermitted, match="the user 'physics'"):
                    await refused
            with pytest.raises(NotPermitted, match="the user 'physics'"):
                await anext(bus.follow("cutor.ev.default.x.>", "cutor.ev.default.x.submitted", patience_s=60))
        assert await appender(stays)("still", "submitted", 0) > 0


async def test_a_certificate_is_renewed_by_a_reload(cluster: DeployedCluster) -> None:
    secrets = cluster.home / "secrets"
    before = (secrets / "n1.pem").read_bytes()
    for node in ("n1", "n2", "n3"):
        (secrets / f"{node}.pem").unlink()
    cluster.make_secrets()
    assert (secrets / "n1.pem").read_bytes() != before
    async with under_load(cluster) as load:
        await reloaded(cluster, "Reloaded: tls")
        await load.more(50)
        async with Bus.connect(cluster.url("producer"), name="new") as bus:
            assert bus.connected


async def test_the_streams_of_a_lone_server_move_by_backup_and_restore(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    append = appender(own_bus)
    sequences = [await append(f"moved{number}", "submitted", 0) for number in range(20)]
    directory = tmp_path / "cluster"
    directory.mkdir()
    cluster = DeployedCluster(directory)
    try:
        for node in range(NODES):
            cluster.start(node)
        await cluster.ready()
        backup = str(tmp_path / "backup")
        for url, command in (
            (own_server.url, ("backup", backup)),
            (cluster.url("admin"), ("restore", backup, "--replicas", "3")),
        ):
            stack = Stack(tmp_path / "data", surroundings(tmp_path) | {"CUTOR_SERVER": url})
            done = await asyncio.to_thread(stack.cutor, "streams", *command)
            assert done.returncode == 0, done.stderr.decode()
        async with Bus.connect(cluster.url("producer"), name="test") as bus:
            info = await bus.stream_info("EVENTS")
            assert (info["config"]["num_replicas"], info["state"]["last_seq"]) == (3, sequences[-1])
            assert await appender(bus)("new", "submitted", 0) == sequences[-1] + 1
    finally:
        cluster.kill_all()
