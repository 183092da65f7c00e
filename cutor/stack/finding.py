"""Which server a command or a role talks to."""

from __future__ import annotations

from cutor.bus.address import TlsFiles, read_address, with_tls
from cutor.config import Config, Surroundings, load
from cutor.errors import CutorError
from cutor.stack import current


class NoStack(CutorError):
    """Nothing says where the stack is, and none was started on this machine."""

    def __init__(self) -> None:
        super().__init__("no stack is running: start one with `cutor up`, or name a server with --server or CUTOR_SERVER")


def find_server(wanted: str | None, surroundings: Surroundings, config: Config) -> str:
    """Return the address with its credential: ``--server``, CUTOR_SERVER, ``server.url``, else the stack started last.

    One that is named has the files of TLS that are configured. Raises `NoStack`, `CurrentStackDamaged`, `AddressInvalid`.
    """
    named = wanted or surroundings.server or config.server.url
    if named:
        return with_tls(named, _tls_files(surroundings, config))
    stack = current.read(surroundings.current_stack)
    if stack is None:
        raise NoStack
    return stack.server


def named_server(named: str, surroundings: Surroundings) -> str:
    """Return the address that a program names; one that wants TLS has the files that are configured for this user.

    Raises `AddressInvalid`, `InvalidConfig`.
    """
    if not any(server.startswith("tls:") for server in read_address(named).servers):
        return named
    return with_tls(named, _tls_files(surroundings, load(None, surroundings).config))


def _tls_files(surroundings: Surroundings, config: Config) -> TlsFiles:
    server = config.server
    return TlsFiles(surroundings.tls_ca or server.tls_ca, server.tls_cert, server.tls_key)
