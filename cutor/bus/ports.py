"""Ports that a server can listen on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

PREFERRED_PORT: Final = 4222
"""NATS' own."""


def ports_to_try(host: str, last: int | None) -> Iterator[int]:
    """Yield ports without end, each free at the moment it is asked for; first the ``last`` one and NATS' own."""
    yield from (port for port in (last, PREFERRED_PORT) if port is not None and is_free(host, port))
    while True:
        yield free_port(host)


def is_free(host: str, port: int) -> bool:
    """Return whether nothing listens on a port of ``host``, an IP address, at this moment."""
    with _probe(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str) -> int:
    """Return a port of ``host`` that is free at this moment (and may be taken in the next)."""
    with _probe(host) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _probe(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
