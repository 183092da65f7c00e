"""A role, or the whole stack, that can be killed at named points: the arguments are those of ``cutor``.

``python tests/fault/role.py runner --data DIR …`` is ``cutor runner …``; ``… up …`` is the supervisor, whose role processes are
started the same way. Which points are armed, a directory says (`arming`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":  # started by its path, as the supervisor starts its roles, from whatever directory
    sys.path[:0] = [str(Path(__file__).parents[2])]

from cutor.bond import end_with_parent
from cutor.cli.main import run as run_command
from cutor.stack import current, preflight, restarts, server, supervisor
from tests.fault import arming, wraps

ROLES: Final = ("builder", "runner", "projector")
SERVER: Final = "CUTOR_SERVER"
ROUTE: Final = ".route"
"""Ends the name of a file beside the armed points: the address by which a role is to reach the server."""
DIRECT: Final = "CUTOR_FAULT_DIRECT"
"""Set for a role that goes to the server by itself: what was laid down is for the one of the stack."""
WITH_HARNESS: Final = "CUTOR_FAULT_PARENT"


def role_of(arguments: list[str]) -> str:
    """Return the role that a command line starts: the first word that is one; a producer submits and cancels, an operator
    retries or drops what is parked and has lost deliveries come again, the supervisor is ``up``."""
    if arguments[0] in {"submit", "cancel"}:
        return "producer"
    if arguments[0] in {"parked", "streams"}:
        return "operator"
    return next((word for word in arguments if word in ROLES), "supervisor")


def take_route(role: str) -> None:
    """Reach the server by the address that the harness has laid down for this role, if there is one."""
    if (directory := os.environ.get(arming.DIRECTORY)) and DIRECT not in os.environ:
        route = Path(directory) / f".{role}{ROUTE}"
        if route.exists():
            os.environ[SERVER] = route.read_text()


def be_supervisor() -> None:
    """Start the roles by this file, without long pauses after quick deaths, and end with the harness."""
    command = supervisor.role_command

    def replaced(*args: Any, **more: Any) -> list[str]:
        words = command(*args, **more)
        at = words.index("-m")
        assert words[at : at + 2] == ["-m", "cutor"], words
        return [*words[:at], __file__, *words[at + 2 :]]

    supervisor.role_command = replaced
    restarts.LONGEST_PAUSE_S = restarts.FIRST_PAUSE_S  # type: ignore[misc]
    wrap_start()
    if parent := os.environ.pop(WITH_HARNESS, None):
        end_with_parent(int(parent))


def wrap_start() -> None:
    """The steps of a start of the stack."""
    wraps._wrap_method(preflight, "check_docker", "supervisor.check")
    wraps._wrap_method(supervisor, "remove_containers", "supervisor.sweep")
    wraps._wrap_method(supervisor, "apply", "supervisor.apply")
    wraps._wrap_call(supervisor, "remove_leftovers", "supervisor.leftovers")
    wraps._wrap_method(server.KeptServer, "__aenter__", "supervisor.server-start")
    wraps._wrap_method(server.KeptServer, "__aexit__", "supervisor.stop-server")
    wraps._wrap_method(supervisor.Supervisor, "_sweep", "supervisor.stop-sweep")
    wraps._wrap_call(current, "write", "supervisor.announce")
    wraps._wrap_call(Path, "replace", "supervisor.put-in-place")


def run(arguments: list[str]) -> int:
    """Run the command with its points."""
    role = role_of(arguments)
    take_route(role)
    if role == "supervisor":
        be_supervisor()
    wraps.wrap(role)
    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
