"""The filter in front of a build that has a network: set by the container's first process, before anything else runs.

That process has NET_ADMIN, for this alone: what it starts afterwards is in a user namespace, where nobody has it, and it
becomes nobody itself. So who set the rules can't change them either.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cutor.nix.inside import refused_networks

ARGUMENT: Final = "--refuse"
"""Of the container's command (`host_config.REFUSE_ARGUMENT`): networks follow that are refused beside the usual ones."""
NFT: Final = "/usr/sbin/nft"
PORT: Final = 9
"""Discard (RFC 863): nothing is to come of a probe, whichever number it has."""
PROBES: Final = {socket.AF_INET: "240.0.0.1", socket.AF_INET6: "fe80::1"}
"""Refused by every filter, and nobody's: should there be none, nothing comes of what is sent there."""


class FilterError(RuntimeError):
    """There is no filter, so there must be no build: a fault of the machine or its configuration."""


def set_up(arguments: Sequence[str]) -> None:
    """Refuse what ``arguments`` of the container's command say. Raises `FilterError`, after which nothing may run.

    Without `ARGUMENT` no network was wanted: then there must be none.
    """
    if arguments[:1] == [ARGUMENT]:
        _refuse(arguments[1:])
    elif others := sorted({name for _, name in socket.if_nameindex()} - {"lo"} - _tunnels()):
        raise FilterError(f"the build container has the interface {others[0]}, but no network is configured")


def _tunnels() -> set[str]:
    """Return interfaces that Linux makes in every network namespace: down, and nobody here may bring them up."""
    return {name for _, name in socket.if_nameindex() if not _is_up(name)}


def _is_up(name: str) -> bool:
    return bool(int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) & 1)


def _refuse(networks: Sequence[str]) -> None:
    try:
        own = refused_networks.neighbours(_read("route"), _read("ipv6_route"))
        refused = (*own, *refused_networks.parse(networks))
        _nft("set", ["-f", "-"], refused_networks.rules(refused).encode())
    except (OSError, ValueError) as error:
        raise FilterError(f"the filter of the build's network could not be made: {error}") from error
    _read_back(refused)
    _check()


def _read_back(networks: Sequence[refused_networks.Network]) -> None:
    """Compare what the kernel has with what was set: what is refused may be refused by somebody else, and not everything."""
    try:
        missing = refused_networks.missing_in(_nft("show", ["-j", "list", "table", "inet", "cutor"]), networks)
    except (OSError, ValueError) as error:
        raise FilterError(f"the filter of the build's network was set, and can't be read back: {error}") from error
    if missing is not None:
        raise FilterError(f"the filter of the build's network was set, and the kernel's table lacks {missing}")


def _nft(deed: str, arguments: Sequence[str], given: bytes = b"") -> bytes:
    """Run nft; return what it prints. Raises `FilterError`, `OSError`."""
    done = subprocess.run([NFT, *arguments], input=given, env={}, capture_output=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:500]
        raise FilterError(f"nft could not {deed} the filter of the build's network: {said}")
    return done.stdout


def _read(name: str) -> str:
    """Return a table of the network namespace's; none where the kernel has no such family."""
    path = Path(f"/proc/net/{name}")
    return path.read_text() if path.exists() else ""


def _check() -> None:
    """Ask the kernel whether the filter holds: what is sent to `PROBES` must be refused on its way out of every interface.

    A socket that is bound to an interface needs no route, so what refuses it by EPERM is a rule, or a program of a control
    group (BPF): for that the table was read back. In IPv6 an interface without any address sends nothing at all.
    """
    v6 = {line.split()[-1] for line in _read("if_inet6").splitlines()}
    interfaces = [name for _, name in socket.if_nameindex() if name != "lo" and _is_up(name)]
    if not interfaces:
        raise FilterError("a network is configured, and the build container has none: whether the filter holds can't be tried")
    for name in interfaces:
        for family in PROBES:
            if family == socket.AF_INET or name in v6:
                _must_be_refused(family, name)


def _must_be_refused(family: socket.AddressFamily, interface: str) -> None:
    """Raise `FilterError` unless a rule refuses a datagram that leaves by ``interface``."""
    code = send(family, interface)
    kind = "IPv4" if family == socket.AF_INET else "IPv6"
    if code is None:
        raise FilterError(f"the filter of the build's network was set, and does not hold: {interface}, {kind}")
    if code != errno.EPERM:
        why = os.strerror(code)
        raise FilterError(f"whether the filter of the build's network holds could not be tried: {interface}, {kind}: {why}")


def send(family: socket.AddressFamily, interface: str) -> int | None:
    """Send an empty datagram to one of `PROBES` out of ``interface``; return the error's number, if it was not sent."""
    scope = (0, socket.if_nametoindex(interface)) if family == socket.AF_INET6 else ()
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            probe.sendto(b"", (PROBES[family], PORT, *scope))
        except OSError as error:
            return error.errno
    return None
