"""Which server a command or a role talks to."""

from __future__ import annotations

from cutor.config import Config, Surroundings
from cutor.errors import CutorError
from cutor.stack import current


class NoStack(CutorError):
    """Nothing says where the stack is, and none was started on this machine."""

    def __init__(self) -> None:
        super().__init__("no stack is running: start one with `cutor up`, or name a server with --server or CUTOR_SERVER")


def find_server(wanted: str | None, surroundings: Surroundings, config: Config) -> str:
    """Return the address with its credential: ``--server``, CUTOR_SERVER, ``server.url``, else the stack started last.

    Raises `NoStack` and `CurrentStackDamaged`.
    """
    named = wanted or surroundings.server or config.server.url
    if named:
        return named
    stack = current.read(surroundings.current_stack)
    if stack is None:
        raise NoStack
    return stack.server
