"""A build with a network: it reaches what is public, and nothing private, of its neighbours', of its host's or of NATS.

Networks of Docker's are the test's own. "Public" is the address of this machine in a network for documentation, which is
nobody's; what listens there and at every private address of this machine is one server of the test's, and it would answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
from aiodocker import Docker
from msgspec.structs import replace

from cutor.containers import host_config
from cutor.containers.child import Child
from cutor.containers.errors import SessionFault
from cutor.containers.host_config import REFUSE_ARGUMENT, ContainerSpec
from cutor.model.outcome import classify
from cutor.nix import session
from cutor.nix.session import BuildSession
from tests.nix_builds import LIMIT, Builds, new_key
from tests.stores import builder_container

PUBLIC_V4: Final = ("203.0.113.0/24", "203.0.113.1")
PUBLIC_V6: Final = ("2001:db8:c::/64", "2001:db8:c::1")
PRIVATE_V6: Final = ("fd5e:7e57:c::/64", "fd5e:7e57:c::1")

CLIENT: Final = r"""
import json, os, socket, struct, sys

def connected(address, port, options=()):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(4)
        try:
            for option in options:
                client.setsockopt(*option)
            client.connect((address, port))
            return client.recv(5) == b"hello"
        except OSError as error:
            return error.errno or "late"

def tell(address, port, index):
    # IP_PKTINFO and IPV6_PKTINFO: the interface of one datagram, whatever the routes say
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        info = struct.pack("=16si", b"", index) if family == socket.AF_INET6 else struct.pack("=i4s4s", index, b"", b"")
        level, kind = (socket.IPPROTO_IPV6, 50) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 8)
        try:
            client.sendmsg([address.encode()], [(level, kind, info)], 0, (address, port))
        except OSError as error:
            return error.errno

port, *addresses = sys.argv[1:]
port = int(port)
said = {}
for address in addresses:
    bound = ((socket.SOL_SOCKET, 25, b"eth0"),)
    tell(address, port, socket.if_nametoindex("eth0"))
    said[address] = [connected(address, port), connected(address, port, bound)]
print("said " + json.dumps({"uid": os.getuid(), "reached": said}), flush=True)
"""


class Server:
    """Answers hello to whoever connects to this machine, under any address, and takes note of who was told what by datagram."""

    def __init__(self) -> None:
        self.port = 0
        self.callers: list[str] = []
        self.told: set[str] = set()

    async def answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.callers.append(writer.get_extra_info("peername")[0])
        writer.write(b"hello")
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """Takes note of each datagram: the address that it was sent to stands in it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server.told.add(data.decode())


def bound(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    """Return a socket at every address of this machine in a family."""
    made = socket.socket(family, kind)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(("::" if family == socket.AF_INET6 else "", port))
    made.setblocking(False)
    return made


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for family in (socket.AF_INET, socket.AF_INET6):
            listening = bound(family, socket.SOCK_STREAM, made.port)
            made.port = listening.getsockname()[1]
            await stack.enter_async_context(await asyncio.start_server(made.answer, sock=listening))
            datagrams = bound(family, socket.SOCK_DGRAM, made.port)
            transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(made), sock=datagrams)
            stack.callback(transport.close)
        yield made


@asynccontextmanager
async def in_network(builds: Builds, network: str, command: list[str]) -> AsyncIterator[Child]:
    """Run a command in a network of Docker's while the block lasts."""
    spec = builder_container(command, builds.settings)
    spec.body["HostConfig"]["NetworkMode"] = network
    spec.body["User"] = "200000:200000"
    child = await builds.engine.start(spec)
    try:
        yield child
    finally:
        await child.remove()


async def addresses_of(child: Child, network: str) -> list[str]:
    """Return a container's addresses in a network."""
    async with Docker() as docker:
        shown = await docker.containers.container(child.id).show()
    there = shown["NetworkSettings"]["Networks"][network]
    return [there["IPAddress"], there["GlobalIPv6Address"]]


@pytest.fixture
async def networks(builds: Builds) -> AsyncIterator[str]:
    """Make a network for builds, private in both families, and one beside it that is public; return the former's name.

    Somebody is in the public one: without, it is down, and its address of IPv6 is nobody's yet.
    """
    token = secrets.token_hex(4)
    names = (f"cutor-test-{token}", f"cutor-test-public-{token}")
    subnets = ([PRIVATE_V6], [PUBLIC_V4, PUBLIC_V6])
    async with Docker() as docker:
        made = []
        try:
            for name, own in zip(names, subnets, strict=True):
                ipam = {"Config": [{"Subnet": subnet, "Gateway": gateway} for subnet, gateway in own]}
                made.append(await docker.networks.create({"Name": name, "EnableIPv6": True, "IPAM": ipam}))
            async with in_network(builds, names[1], ["/usr/bin/sleep", "600"]):
                yield names[0]
        finally:
            for network in made:
                await network.delete()


async def gateways_of(name: str) -> list[str]:
    """Return the addresses of this machine in a network of Docker's."""
    async with Docker() as docker:
        shown = await (await docker.networks.get(name)).show()
        return [entry["Gateway"].partition("/")[0] for entry in shown["IPAM"]["Config"] if "Gateway" in entry]


def probe(port: int, addresses: list[str]) -> str:
    """Return a shell with a derivation of fixed output, whose builder may use the network, and tries these addresses."""
    digest = hashlib.sha256(b"done\n").hexdigest()
    arguments = " ".join([str(port), *addresses])
    return f"""
      {{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{
        packages = [ (pkgs.runCommand "probe-{secrets.token_hex(4)}" {{
          outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "{digest}";
          client = pkgs.writeText "client.py" (builtins.readFile ./client.py);
        }} ''
          ${{pkgs.python3}}/bin/python3 $client {arguments} >&2
          echo done > $out
        '') ];
      }}"""


async def said_by(builds: Builds, port: int, addresses: list[str], refused: tuple[str, ...] = ()) -> dict[str, Any]:
    """Build a probe; return what it was answered by each address: plainly, bound to an interface, and by datagram."""
    files = {"shell.nix": probe(port, addresses).encode(), "client.py": CLIENT.encode()}
    async with BuildSession(
        builds.engine, builds.settings, instance=builds.instance, submission="default/test", refused=refused
    ) as one:
        report = await one.build(new_key(), files, LIMIT)
    found = re.search(r"said (.*)", report.report.stderr.decode())
    assert found, report
    said: dict[str, Any] = json.loads(found[1])
    assert said["uid"] != 0
    return dict(said["reached"])


async def test_a_build_reaches_what_is_public_and_nothing_else(builds: Builds, networks: str, server: Server) -> None:
    """By a plain connection, by one that is bound to the interface, and by a datagram that names it: no route stops these."""
    builds.settings = replace(builds.settings, network=networks)
    own = await gateways_of(networks)
    assert len(own) == 2
    private = [*own, "172.17.0.1", "10.0.0.1", "255.255.255.255", "224.0.0.1", "ff02::1"]
    said = await said_by(builds, server.port, [PUBLIC_V4[1], PUBLIC_V6[1], *private])
    assert {address for address, answers in said.items() if True in answers} == {PUBLIC_V4[1], PUBLIC_V6[1]}
    assert said[PUBLIC_V4[1]] == said[PUBLIC_V6[1]] == [True, True]
    assert len(server.callers) == 4
    assert server.told == {PUBLIC_V4[1], PUBLIC_V6[1]}


async def test_what_the_deployer_or_the_role_names_is_refused_too(builds: Builds, networks: str, server: Server) -> None:
    builds.settings = replace(builds.settings, network=networks, refused_networks=(PUBLIC_V6[0],))
    said = await said_by(builds, server.port, [PUBLIC_V4[1], PUBLIC_V6[1]], refused=(PUBLIC_V4[1],))
    assert not [answers for answers in said.values() if True in answers]
    assert (server.callers, server.told) == ([], set())


async def test_a_neighbour_in_the_same_network_is_not_reached(builds: Builds, networks: str, server: Server) -> None:
    builds.settings = replace(builds.settings, network=networks)
    listen = (
        f"import socket; s = socket.create_server(('::', {server.port}), family=socket.AF_INET6, dualstack_ipv6=True)\n"
        "print('up', flush=True)\nwhile 1: s.accept()[0].send(b'hello')"
    )
    async with in_network(builds, networks, ["/usr/bin/python3", "-S", "-c", listen]) as neighbour:
        assert await neighbour.receive() == b"up\n"
        said = await said_by(builds, server.port, await addresses_of(neighbour, networks))
    assert all(True not in answers for answers in said.values()), said


async def test_a_neighbour_does_not_reach_a_build(builds: Builds, networks: str) -> None:
    """It asks every address near its own, for as long as the builder listens."""
    builds.settings = replace(builds.settings, network=networks)
    ask = (
        "import socket, time\nown = socket.gethostbyname(socket.gethostname()).rpartition('.')\n"
        "until = time.monotonic() + 40\nreached = 0\nprint('up', flush=True)\n"
        "while time.monotonic() < until:\n"
        "  for last in range(2, 9):\n"
        "    try: socket.create_connection((f'{own[0]}.{last}', 4711), 0.2).close(); print(f'reached {last}', flush=True)\n"
        "    except OSError as error: time.sleep(0.01)\n"
    )
    listen = (
        "import socket, select\ns = socket.create_server((str(), 4711))\n"
        'own = socket.create_connection(("127.0.0.1", 4711)); s.accept()\n'
        'print("called" if select.select([s], [], [], 8)[0] else "alone")\n'
    )
    text = probe(1, []).replace("$client 1", "$client")
    async with in_network(builds, networks, ["/usr/bin/python3", "-S", "-c", ask]) as neighbour:
        assert await neighbour.receive() == b"up\n"
        report = await builds.build({"shell.nix": text, "client.py": listen})
    assert re.findall("(called|alone)$", report.report.stderr.decode(), re.MULTILINE) == ["alone"], report


async def test_the_evaluator_fetches_what_is_public_and_allowed(builds: Builds, networks: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        asked_for.append(asked.split()[1].decode())
        while (await reader.readline()).strip():
            pass
        body = b'"fetched"'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    asked_for: list[str] = []
    async with await asyncio.start_server(answer, "0.0.0.0", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        (own, *_) = [address for address in await gateways_of(networks) if "." in address]
        builds.settings = replace(builds.settings, network=networks, allowed_uris=("http://",))
        text = (
            "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { FETCHED = import (builtins.fetchurl"
            f' "http://@:{port}/value-{secrets.token_hex(4)}.nix"); }}'
        )
        environment = await builds.built(text.replace("@", PUBLIC_V4[1]))
        assert dict(environment.variables)[b"FETCHED"] == b"fetched"
        assert len(asked_for) == 1
        failed = await builds.failed(text.replace("@", own))
        assert classify(failed.report) == "RE"
        assert "unable to download" in failed.message
        assert len(asked_for) == 1


async def test_dockers_resolver_goes_on_working(builds: Builds, networks: str) -> None:
    """It knows a container of the network by its name; what it asks for itself leaves by a socket that is no build's."""
    builds.settings = replace(builds.settings, network=networks)
    async with in_network(builds, networks, ["/usr/bin/sleep", "600"]) as neighbour:
        text = probe(1, []).replace("$client 1", f"-c 'import socket; print(socket.gethostbyname(\"{neighbour.name}\"))'")
        (address, _) = await addresses_of(neighbour, networks)
        report = await builds.build({"shell.nix": text, "client.py": ""})
    assert address in report.report.stderr.decode()


class Names(asyncio.DatagramProtocol):
    """A server of names that knows one address for all of them (RFC 1035); what it was asked, and by whom."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5
        self.asked.append(data[12:end])
        found = data[end - 4 : end - 2] == b"\0\1"  # an address of IPv4
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(PUBLIC_V4[1]) if found else b""
        head = data[:2] + b"\x81\x80\0\1" + (b"\0\1" if found else b"\0\0") + bytes(4)
        self._transport.sendto(head + data[12:end] + answer, addr)  # type: ignore[attr-defined]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may serve names at their port")
async def test_dockers_resolver_may_ask_a_private_server_and_a_build_may_not(
    builds: Builds, networks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*args: object, **kwargs: object) -> ContainerSpec:
        spec = original(*args, **kwargs)  # type: ignore[arg-type]
        spec.body["HostConfig"]["Dns"] = [own]
        return spec

    (own, *_) = [address for address in await gateways_of(networks) if "." in address]
    original = host_config.builder_spec
    monkeypatch.setattr(session, "builder_spec", changed)
    builds.settings = replace(builds.settings, network=networks)
    tried = (
        "import socket\n"
        'print("named", socket.gethostbyname("somewhere.example.org"))\n'
        "client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f'try: client.sendto(bytes(20), ("{own}", 53)); print("asked itself")\n'
        'except OSError as error: print("errno", error.errno)\n'
    )
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=(own, 53))
    try:
        report = await builds.build({"shell.nix": probe(1, []).replace("$client 1", "$client"), "client.py": tried})
    finally:
        transport.close()
    said = re.findall(r"(named [\d.]+|errno \d+|asked itself)", report.report.stderr.decode())
    assert said == [f"named {PUBLIC_V4[1]}", "errno 1"], report
    assert names.asked
    assert all(b"somewhere" in question for question in names.asked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the build container has the interface eth0, but no network is configured"),
        ([REFUSE_ARGUMENT, "10.0.0.1/8"], "the filter of the build's network could not be made: 10.0.0.1/8 has host bits set"),
    ],
)
async def test_without_a_filter_there_is_no_build(
    builds: Builds, networks: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    def changed(*args: object, **kwargs: object) -> ContainerSpec:
        spec = original(*args, **kwargs)  # type: ignore[arg-type]
        command = spec.body["Cmd"]
        spec.body["Cmd"] = [*command[: command.index(REFUSE_ARGUMENT)], *arguments]
        return spec

    original = host_config.builder_spec
    monkeypatch.setattr(session, "builder_spec", changed)
    builds.settings = replace(builds.settings, network=networks)
    with pytest.raises(SessionFault, match=re.escape(message)):
        await builds.build("{ }")


def without(rule: str) -> str:
    """Return a statement that leaves a rule out."""
    return f"refused_networks._RULES = refused_networks._RULES.replace('{rule}', '')"


BELIEVED: Final = "refused_networks.missing_in = lambda *_: None; "
"""Whatever the kernel's table holds."""
REFUSED_BY_OTHERS: Final = "network_filter.send = lambda *_: 1; "
"""EPERM for every datagram, as a program of a control group's may give."""
NO_HOLD: Final = "the filter of the build's network was set, and does not hold: eth0, "
LACKS: Final = "the filter of the build's network was set, and the kernel's table lacks "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('network_filter.NFT = "/usr/bin/true"', "the filter of the build's network was set, and can't be read back: "),
        (BELIEVED + 'network_filter.NFT = "/usr/bin/true"', f"{NO_HOLD}IPv4"),
        (BELIEVED + without("ip daddr @refused4 reject with icmp admin-prohibited"), f"{NO_HOLD}IPv4"),
        (BELIEVED + without("ip6 daddr @refused6 reject with icmpv6 admin-prohibited"), f"{NO_HOLD}IPv6"),
        (REFUSED_BY_OTHERS + without("ip daddr @refused4 reject with icmp admin-prohibited"), f"{LACKS}the rules that refuse"),
        (REFUSED_BY_OTHERS + without("elements = {{ {v6} }}"), f"{LACKS}::/3"),
    ],
    ids=[
        "nothing to read",
        "nothing is set",
        "nothing for IPv4",
        "nothing for IPv6",
        "no rule but refused",
        "no set but refused",
    ],
)
async def test_a_filter_that_was_set_and_does_not_hold_is_found(
    builds: Builds, networks: str, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    program = (
        "import sys; sys.path[0] = '/opt/cutor'; from cutor.nix.inside import build_init, network_filter, refused_networks; "
    )

    def changed(*args: object, **kwargs: object) -> ContainerSpec:
        spec = original(*args, **kwargs)  # type: ignore[arg-type]
        command = spec.body["Cmd"]
        arguments = command[command.index(REFUSE_ARGUMENT) :]
        spec.body["Cmd"] = ["/usr/bin/python3", "-S", "-E", "-c", f"{program}{change}\nbuild_init.main()", *arguments]
        return spec

    original = host_config.builder_spec
    monkeypatch.setattr(session, "builder_spec", changed)
    builds.settings = replace(builds.settings, network=networks)
    with pytest.raises(SessionFault, match=re.escape(message)):
        await builds.build("{ }")


async def test_a_container_that_may_not_set_a_filter_builds_nothing(
    builds: Builds, networks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*args: object, **kwargs: object) -> ContainerSpec:
        spec = original(*args, **kwargs)  # type: ignore[arg-type]
        spec.body["HostConfig"]["CapAdd"].remove("NET_ADMIN")
        return spec

    original = host_config.builder_spec
    monkeypatch.setattr(session, "builder_spec", changed)
    builds.settings = replace(builds.settings, network=networks)
    with pytest.raises(SessionFault, match=r"nft could not set the filter of the build's network: .*Operation not permitted"):
        await builds.build("{ }")


async def test_nobody_in_a_build_may_change_the_filter(builds: Builds, networks: str) -> None:
    """The builder has no capability over the container's network, and no socket to ask for it with."""
    builds.settings = replace(builds.settings, network=networks)
    tried = (
        "import socket\n"
        "for protocol in (0, 12):\n"
        '  try: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol); print("opened", protocol)\n'
        '  except OSError as error: print("errno", error.errno)\n'
        'status = dict(line.split(":", 1) for line in open("/proc/self/status"))\n'
        'print("effective", int(status["CapEff"], 16))\n'
    )
    text = probe(1, [])
    report = await builds.build({"shell.nix": text.replace("$client 1", "$client"), "client.py": tried})
    said = re.findall(r"(opened \d+|errno \d+|effective \d+)", report.report.stderr.decode())
    assert said == ["errno 97", "errno 97", "effective 0"], report
