"""What a build with a network must not reach of ours: the servers of NATS, and this machine, under whatever addresses.

Private ones are refused in any case (``cutor.nix.inside.refused_networks``); these may be public.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cutor.bus.address import read_address
from cutor.roles.step import StepFault

RESOLVE_S: Final = 10.0
"""How long the servers' names may take to be looked up: two tries of a resolver (5 s each, resolv.conf(5))."""
_LOCAL_V4: Final = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")


async def own_addresses(server: str, announced: Iterable[str], proc: Path = Path("/proc/net")) -> tuple[str, ...]:
    """Return addresses, sorted: of all servers in the address ``server`` and ``announced`` (``host:port``), and this machine's.

    Raises `StepFault` where a server's name has no address now: then nobody can say what is to be kept from a build.
    """
    urls = [*read_address(server).servers, *(f"nats://{place}" for place in announced)]
    hosts = {urlsplit(url).hostname or "" for url in urls}
    found = await asyncio.gather(*(_resolved(host) for host in sorted(hosts)))
    return tuple(sorted({*machine_addresses(proc), *(address for addresses in found for address in addresses)}))


async def _resolved(host: str) -> set[str]:
    try:
        async with asyncio.timeout(RESOLVE_S):
            entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        raise StepFault(f"the NATS server {host} has no address now, so no build with a network begins: {error}") from error
    return {str(entry[4][0]).partition("%")[0] for entry in entries}


def machine_addresses(proc: Path = Path("/proc/net")) -> set[str]:
    """Return every address of this machine's, as the kernel lists them."""
    v6 = (line.split()[0] for line in (proc / "if_inet6").read_text().splitlines()) if (proc / "if_inet6").exists() else ()
    v4 = _LOCAL_V4.findall((proc / "fib_trie").read_text()) if (proc / "fib_trie").exists() else ()
    return {*v4, *(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(text)) for text in v6)}
