"""What the commands of the three roles share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from cutor.cli.options import Wanted, data_option, examples, server_option
from cutor.stack.role_process import Role, RoleSettings, Supervision, run_role

WITHOUT_CONTAINERS: Final = frozenset({"projector", "archiver"})


def role_command(name: str, role: Role, purpose: str) -> click.Command:
    """Return the command that runs a role by itself; the hidden options are those of the supervisor."""

    @click.command(
        name,
        help=f"{purpose}\n\nIt runs until SIGTERM or Ctrl-C: what is in work may then finish within `shutdown_grace_s`, and is "
        "handed back after it, or once the signal comes again. Without --data it keeps a directory of its own beneath the "
        "default data directory.",
        epilog=examples(
            f"cutor {name} --server nats://user:password@nats.example.org:4222", f"cutor {name} --data /srv/{name}"
        ),
    )
    @server_option
    @data_option
    @click.option("--worker", metavar="NAME", help=_worker_help(name))
    @click.option("--parent", type=int, hidden=True)
    @click.option("--ready-fd", type=int, hidden=True)
    @click.option("--lock-fd", "lock_fds", type=int, multiple=True, hidden=True)
    @click.pass_obj
    def command(
        wanted: Wanted,
        data: Path | None,
        worker: str | None,
        parent: int | None,
        ready_fd: int | None,
        lock_fds: tuple[int, ...],
    ) -> int:
        config = (wanted.loaded if name in WITHOUT_CONTAINERS else wanted.loaded_for_docker).config
        settings = RoleSettings(
            role=name,
            server=wanted.find_server(),
            data=data.absolute() if data else wanted.surroundings.data_directory(config) / "roles" / name,
            config=config,
            name=worker,
            supervision=_supervision(parent, ready_fd, lock_fds),
        )
        return run_role(settings, role)

    return command


def _worker_help(name: str) -> str:
    where = "logs and metrics" if name in WITHOUT_CONTAINERS else "leases, logs and metrics"
    return f"Its name in {where}, before the instance's; else that of the role."


def _supervision(parent: int | None, ready_fd: int | None, lock_fds: tuple[int, ...]) -> Supervision | None:
    if parent is None or ready_fd is None or not lock_fds:
        return None
    return Supervision(parent_pid=parent, ready_descriptor=ready_fd, lock_descriptors=lock_fds)
