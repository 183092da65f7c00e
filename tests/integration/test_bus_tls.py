"""TLS with a CA of one's own: connected and verified, or one line that says what is wrong."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer, find_binary
from cutor.bus.errors import BusError, TlsFileInvalid
from tests.bare_stack import one_line
from tests.cluster import DEPLOYED
from tests.live_stack import Stack, surroundings
from tests.ports import free_port

HOST = "127.0.0.1"


class TlsServers:
    """Two servers with certificates of one CA for 127.0.0.1 alone; the second wants a certificate of its clients."""

    def __init__(self, directory: Path) -> None:
        self.secrets = directory / "secrets"
        make_secrets(self.secrets, f"n1={HOST}:4222")
        self.ports = (free_port(HOST), free_port(HOST))
        self._processes = [self._start(directory, port, verify) for port, verify in zip(self.ports, (False, True), strict=True)]

    def _start(self, directory: Path, port: int, verify: bool) -> subprocess.Popen[bytes]:
        configuration = directory / f"{port}.conf"
        files = f'cert_file: "{self.secrets}/n1.pem", key_file: "{self.secrets}/n1.key"'
        clients = f', ca_file: "{self.secrets}/ca.pem", verify: true' if verify else ""
        configuration.write_text(
            f'listen: "{HOST}:{port}"\nlog_file: "{directory}/{port}.log"\njetstream {{ store_dir: "{directory}/{port}" }}\n'
            f"tls {{ {files}{clients} }}\n"
        )
        process = subprocess.Popen([str(find_binary()), "-c", str(configuration)])
        deadline = time.monotonic() + 180
        while (
            "Server is ready" not in (directory / f"{port}.log").read_text() if (directory / f"{port}.log").exists() else True
        ):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    def signal(self, number: signal.Signals) -> None:
        """Send the first one a signal."""
        self._processes[0].send_signal(number)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def make_secrets(directory: Path, *nodes: str) -> subprocess.CompletedProcess[str]:
    command = [DEPLOYED / "make-secrets", directory, *nodes]
    return subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServers]:
    both = TlsServers(tmp_path_factory.mktemp("tls"))
    try:
        yield both
    finally:
        both.stop()


async def connect(address: str) -> bool:
    async with Bus.connect(address, name="test", connect_timeout_s=10) as bus:
        return bus.connected


async def refusal(address: str) -> str:
    """The one line with which a connect fails; nothing else is said."""
    with pytest.raises(BusError) as error:
        await connect(address)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_certificate_of_ones_own_ca(servers: TlsServers, scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server that demands TLS gets it under nats:// too, and is verified just the same."""
    assert await connect(f"{scheme}://{HOST}:{servers.ports[0]}?tls_ca={servers.secrets}/ca.pem")
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_certificate_of_a_ca_that_nobody_trusts(servers: TlsServers, scheme: str) -> None:
    said = await refusal(f"{scheme}://{HOST}:{servers.ports[0]}")
    assert f"NATS at {scheme}://{HOST}:{servers.ports[0]} is not to be trusted: " in said
    assert "name its CA with `server.tls_ca` or CUTOR_TLS_CA" in said


async def test_a_certificate_of_another_ca_than_the_named_one(servers: TlsServers, tmp_path: Path) -> None:
    make_secrets(tmp_path)
    said = await refusal(f"tls://{HOST}:{servers.ports[0]}?tls_ca={tmp_path}/ca.pem")
    assert "is not to be trusted: " in said
    assert "is `tls_ca` the CA of this server?" in said


async def test_a_certificate_for_another_host(servers: TlsServers) -> None:
    said = await refusal(f"tls://localhost:{servers.ports[0]}?tls_ca={servers.secrets}/ca.pem")
    assert "is for another host: " in said
    assert "'localhost'" in said


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("missing", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("garbage", "holds no certificate"),
        ("empty", "holds no certificate"),
        ("n1.key", "holds no certificate"),
    ],
)
async def test_a_ca_file_that_is_none(servers: TlsServers, tmp_path: Path, file: str, said: str) -> None:
    (tmp_path / "garbage").write_bytes(b"-----BEGIN CERTIFICATE-----\n\xff\x00\n-----END CERTIFICATE-----\n")
    (tmp_path / "empty").touch()
    (tmp_path / "n1.key").write_bytes((servers.secrets / "n1.key").read_bytes())
    with pytest.raises(TlsFileInvalid) as error:
        await connect(f"tls://{HOST}:{servers.ports[0]}?tls_ca={tmp_path / file}")
    assert str(error.value).startswith(f"tls_ca: {tmp_path / file} ")
    assert said in str(error.value)


async def test_a_server_without_tls(nats_server: EmbeddedServer, servers: TlsServers) -> None:
    address = nats_server.url.replace("nats://", "tls://")
    said = await refusal(f"{address}?tls_ca={servers.secrets}/ca.pem")
    assert "does not offer TLS, which tls:// requires: configure it there, or write nats://" in said
    assert "secret" not in said


async def test_a_server_that_wants_a_certificate_of_its_clients(servers: TlsServers) -> None:
    address = f"tls://{HOST}:{servers.ports[1]}?tls_ca={servers.secrets}/ca.pem"
    assert await connect(f"{address}&tls_cert={servers.secrets}/n1.pem&tls_key={servers.secrets}/n1.key")
    wanted = "wants a client certificate that it trusts: name it with `server.tls_cert`, `server.tls_key`"
    said = ""
    for _ in range(10):  # the server's word is lost where its close comes before our first message: a broken pipe
        said = await refusal(address)
        if wanted in said:
            break
    assert wanted in said


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("n1.pem", "ca.key", "are no certificate and its key"),
        ("n1.key", "n1.pem", "are no certificate and its key"),
        ("n1.pem", "locked.key", "is locked with a password"),
        ("n1.pem", "none.key", "cannot be read: No such file"),
        ("n1.pem", "", "belong together"),
    ],
)
def test_a_certificate_of_ones_own_that_cannot_be_used(servers: TlsServers, certificate: str, key: str, said: str) -> None:
    locked = ["openssl", "ec", "-in", servers.secrets / "n1.key", "-aes128", "-passout", "pass:secret"]
    subprocess.run([*locked, "-out", servers.secrets / "locked.key"], check=True, capture_output=True)
    pair = f"tls_ca={servers.secrets}/ca.pem&tls_cert={servers.secrets}/{certificate}"
    pair += f"&tls_key={servers.secrets}/{key}" if key else ""
    with pytest.raises(TlsFileInvalid, match=said):
        asyncio.run(connect(f"tls://{HOST}:{servers.ports[1]}?{pair}"))


async def test_a_reconnect_is_verified_too(servers: TlsServers) -> None:
    async with Bus.connect(f"tls://{HOST}:{servers.ports[0]}?tls_ca={servers.secrets}/ca.pem", name="test") as bus:
        back = asyncio.Event()
        bus.link.watch(back=back.set)
        await bus.link._client.force_reconnect()
        await asyncio.wait_for(back.wait(), 180)
        await bus.flush()


async def test_a_link_is_closed_while_it_connects_again(servers: TlsServers) -> None:
    async with asyncio.timeout(180):
        async with Bus.connect(f"tls://{HOST}:{servers.ports[0]}?tls_ca={servers.secrets}/ca.pem", name="test") as bus:
            lost = asyncio.Event()
            bus.link.watch(lost=lost.set)
            await bus.link._client.force_reconnect()
            await lost.wait()
            await bus.link.send("cutor.unsent", b"x")


async def test_a_server_that_stands_still_is_not_waited_for(servers: TlsServers) -> None:
    """It would have to say that TLS ends, and to take what is not sent yet."""
    async with asyncio.timeout(180):
        try:
            async with Bus.connect(f"tls://{HOST}:{servers.ports[0]}?tls_ca={servers.secrets}/ca.pem", name="test") as bus:
                servers.signal(signal.SIGSTOP)
                for _ in range(8):
                    await bus.link.send("cutor.unsent", bytes(900_000))
        finally:
            servers.signal(signal.SIGCONT)


def test_the_command_line_takes_the_ca_from_environment_and_configuration(servers: TlsServers, tmp_path: Path) -> None:
    address, ca = f"tls://{HOST}:{servers.ports[0]}", f"{servers.secrets}/ca.pem"
    around = surroundings(tmp_path) | {"CUTOR_SERVER": address}
    assert "CUTOR_TLS_CA" in one_line(status(tmp_path, around), 3)
    assert "the server at" in one_line(status(tmp_path, around | {"CUTOR_TLS_CA": ca}), 3), "it has no streams"
    config = Path(around["XDG_CONFIG_HOME"]) / "cutor" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[server]\ntls_ca = "{ca}"\n')
    assert "the server at" in one_line(status(tmp_path, around), 3)
    assert "tls_ca: /none cannot be read" in one_line(status(tmp_path, around | {"CUTOR_TLS_CA": "/none"}), 2)


def status(directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = Stack(directory, environment).cutor("status", "x")
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_secrets_are_their_owners_alone_and_stay(tmp_path: Path) -> None:
    first = make_secrets(tmp_path / "s", "n1=10.0.0.1:4222,nats.example.org")
    assert first.stdout == f"secrets of 1 nodes are in {tmp_path}/s\n"
    assert first.stderr == ""
    before = {file.name: file.read_bytes() for file in (tmp_path / "s").iterdir()}
    make_secrets(tmp_path / "s", "n1=10.0.0.1:4222", "n2=10.0.0.2:4223")
    after = {file.name: file.read_bytes() for file in (tmp_path / "s").iterdir()}
    assert {name for name in after if before.get(name) != after[name] and not name.endswith(".url")} == {
        *("n2.pem", "n2.key", "nodes")
    }
    assert {f"{user}.url" for user in ("admin", "builder", "producer")} <= before.keys()
    assert after["producer.url"].count(b"tls://producer:") == 2
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "s").iterdir()}
    assert {name for name, mode in modes.items() if mode != 0o600} == {"ca.pem"}
    said = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "s/n1.pem", "-noout", "-ext", "subjectAltName"], capture_output=True, check=True
    )
    assert b"IP Address:10.0.0.1, DNS:nats.example.org" in said.stdout


@pytest.mark.parametrize(
    "node", ["n1", "n1=host", "N1=host:1", "n1=[::1]:4222", "n1=a b:1", "../n1=host:1", "n1=host:1,", "-x"]
)
def test_a_node_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, node: str) -> None:
    done = subprocess.run([DEPLOYED / "make-secrets", tmp_path / "s", node], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("make-secrets: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_without_openssl_it_says_so(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    command = [DEPLOYED / "make-secrets", tmp_path / "s"]
    done = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "make-secrets: openssl is missing: install the package openssl\n")


@pytest.mark.parametrize("number", [0, 1])
async def test_reading_in_bulk_has_the_same_tls(servers: TlsServers, number: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its connection of its own brings the certificate that the second server wants of its clients."""
    pair = f"&tls_cert={servers.secrets}/n1.pem&tls_key={servers.secrets}/n1.key" if number else ""
    url = f"tls://{HOST}:{servers.ports[number]}?tls_ca={servers.secrets}/ca.pem{pair}"
    async with Bus.connect(url, name="test") as bus:
        await bus.api.call("stream", "STREAM.CREATE.BULK", {"name": "BULK", "subjects": ["bulk"], "storage": "memory"})
        for text in (b"a", b"b" * 300_000, b"c"):
            await bus.publish("bulk", text)
        read = [columns async for columns in bus.read_columns("BULK", from_sequence=1, until_sequence=3)]
        assert [len(body) for columns in read for body in columns.bodies] == [1, 300_000, 1]
        followed: list[int] = []
        async with asyncio.timeout(180), aclosing(bus.follow_columns("BULK", from_sequence=1, batch=10)) as parts:
            while len(followed) < 4:
                followed += map(len, (await anext(parts)).bodies)
                if len(followed) == 3:
                    await bus.publish("bulk", b"d" * 900_000)
        assert followed == [1, 300_000, 1, 900_000]
    assert "in the ordinary way" not in caplog.text
