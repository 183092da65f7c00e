"""``cutor up``: a stack on this machine, in the foreground or in the background."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import click
from msgspec.structs import replace

from cutor.bus.server_file import ALWAYS_SYNC
from cutor.cli.failures import bug_line, exit_code_of, line_of
from cutor.cli.options import Wanted, config_option, data_option, examples
from cutor.config import Config, InvalidConfig, Loaded
from cutor.errors import DONE, UNAVAILABLE
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.detach import Report, report, start_detached
from cutor.stack.keeper import Orders
from cutor.stack.logs import stamped
from cutor.stack.supervisor import ROLES, SUPERVISOR, Ready, Show, StackSettings, Supervisor
from cutor.text import escape


def _parse_roles(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    wanted = [role for role in value.split(",") if role]
    for role in wanted:
        if role not in ROLES:
            raise click.BadParameter(f"{role!r} is not one of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in wanted)


@click.command(
    "up",
    epilog=examples(
        "cutor up                              # in the foreground, until Ctrl-C",
        "cutor up --detach                     # in the background; `cutor down` stops it",
        "cutor up --data /srv/two --port 4300  # a second stack beside the first",
        "cutor up --data /srv/new --restore /srv/backups/today",
    ),
)
@data_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Port of the server; without it the one it had last if free, else 4222, else a free one.",
)
@click.option("--detach", is_flag=True, help="Return when every role is ready; the stack goes on in the background.")
@click.option(
    "--roles",
    default=",".join(ROLES),
    show_default=True,
    callback=_parse_roles,
    metavar="NAMES",
    help="Roles to start here, with commas between; others may run elsewhere.",
)
@click.option(
    "--durable", is_flag=True, help="Acknowledge nothing that is not on the disk: `server.sync_interval` is `always`."
)
@click.option(
    "--restore",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Begin with the streams of a backup (`cutor streams backup`), in a data directory without any.",
)
@click.option("--report-fd", type=int, hidden=True)
@config_option
@click.pass_obj
def command(
    wanted: Wanted,
    data: Path | None,
    port: int | None,
    detach: bool,
    roles: tuple[str, ...],
    durable: bool,
    restore: Path | None,
    report_fd: int | None,
) -> int:
    """Start a stack on this machine: server, builder, runner, projector.

    The server listens on 127.0.0.1 alone. Everything is kept in the data directory; commands find the stack by themselves. A
    role or server that dies is started again, for as long as it takes once the stack was ready; log/supervisor.log says so.
    Ctrl-C or SIGTERM stops the stack: what runs may finish within `shutdown_grace_s`, and the rest is handed back. Once more:
    all of it is handed back now, in the same order. A third Ctrl-C kills: what ran is done again after the next start.
    """
    loaded = wanted.loaded_for_docker
    _check_copies(loaded)
    settings = StackSettings(
        data=DataDirectory(wanted.surroundings.data_directory(loaded.config, data)),
        config=_durable(loaded.config) if durable else loaded.config,
        config_raw=loaded.raw,
        current_file=wanted.surroundings.current_stack,
        port=port or loaded.config.server.port,
        roles=roles,
        restore=None if restore is None else restore.absolute(),
    )
    if report_fd is None and (wanted.surroundings.server or loaded.config.server.url):
        click.echo("note: CUTOR_SERVER or `server.url` names a server: commands talk to that one, not to this stack", err=True)
    if detach:
        return _up_detached(settings, loaded.file)
    if report_fd is not None:
        by_itself = settings.data.path == wanted.surroundings.data_directory(loaded.config)
        stop = "cutor down" if by_itself else command_for("down", settings.data.path)
        return _up_for_report(settings, report_fd, stop)
    return _up(settings, lambda ready: click.echo(f"{ready}; Ctrl-C stops it"))


def _check_copies(loaded: Loaded) -> None:
    """Raise InvalidConfig where streams are to have more copies than one server keeps."""
    copies = loaded.config.server.replicas or 1
    if copies > 1:
        raise InvalidConfig(
            f"{loaded.file}: `server.replicas` is {copies}, which is for a cluster: the one server of `cutor up` keeps one "
            "copy; take it out, or give another file by --config"
        )


def _durable(config: Config) -> Config:
    return replace(config, server=replace(config.server, sync_interval=ALWAYS_SYNC))


def _up_detached(settings: StackSettings, config_file: Path | None) -> int:
    settings.data.prepare()
    config = [] if config_file is None else ["--config", str(config_file)]
    port = [] if settings.port is None else ["--port", str(settings.port)]
    durable = ["--durable"] if settings.config.server.sync_interval == ALWAYS_SYNC else []
    restore = [] if settings.restore is None else ["--restore", str(settings.restore)]
    command = [sys.executable, "-P", "-m", "cutor", "up", *config, *port, *durable, *restore, "--data", str(settings.data.path)]
    signal.signal(signal.SIGTERM, _leave)
    said = start_detached([*command, "--roles", ",".join(settings.roles)], settings.data.logs / "supervisor.log")
    for warning in said.warnings:
        click.echo(f"warning: {escape(warning)}", err=True)
    click.echo(said.line if said.exit_code == DONE else f"cutor: {said.line}", err=said.exit_code != DONE)
    return said.exit_code


def _leave(number: int, _frame: FrameType | None) -> None:
    """End this process by an exception, with the exit code that a shell gives the signal: what it started must not go on."""
    raise SystemExit(128 + number)


def _up_for_report(settings: StackSettings, descriptor: int, stop: str) -> int:
    """Run in the background: the report goes to the command that waits, everything else to the logs.

    ``stop`` is the command that stops this stack, also when another one was started after it.
    """
    waiting = [descriptor]
    os.set_inheritable(descriptor, False)

    def tell(line: str, exit_code: int, warnings: tuple[str, ...] = ()) -> None:
        if waiting:
            report(waiting.pop(), Report(line=line, exit_code=exit_code, warnings=warnings))

    try:
        return _up(settings, lambda ready: tell(f"{ready}; `{stop}` stops it", DONE, ready.warnings), lambda *_: None)
    except Exception as error:
        code = exit_code_of(error)
        tell(bug_line(error) if code is None else line_of(error), UNAVAILABLE if code is None else code)
        raise


def _show(process: str, line: bytes) -> None:
    with suppress(OSError):  # a terminal that is gone must not stop what reads the roles' output
        click.echo(f"{process:<9} | {escape(line.decode(errors='replace'))}", err=True)


def _show_json(process: str, line: bytes) -> None:
    """Show a line where all are JSON: roles' are already."""
    shown = stamped(line, "json").rstrip() if process == SUPERVISOR else line
    with suppress(OSError):
        click.echo(shown, err=True)


def _up(settings: StackSettings, on_ready: Callable[[Ready], None], show: Show | None = None) -> int:
    show = show or (_show_json if settings.config.log.format == "json" else _show)
    asyncio.run(_supervise(settings, on_ready, show))
    return DONE


async def _supervise(settings: StackSettings, on_ready: Callable[[Ready], None], show: Show) -> None:
    orders = Orders()
    _listen_for_signals(orders)
    await Supervisor(settings, orders, show).run(on_ready)


def _listen_for_signals(orders: Orders) -> None:
    """SIGTERM and Ctrl-C stop the stack, and hurry it the second time; once it hurries, Ctrl-C halts it, and then ends this
    process as it would any other. SIGHUP (`cutor down`) stops it, however often it comes; SIGQUIT (`down --now`) halts it.

    The two are counted apart: a shell's Ctrl-C may come with a SIGTERM of whatever started this, and is one request.
    """
    loop = asyncio.get_running_loop()
    came: Counter[signal.Signals] = Counter()

    def halt() -> None:
        for order in (orders.stop, orders.hurry, orders.halt):
            order.set()

    def asked(number: signal.Signals) -> None:
        came[number] += 1
        if number == signal.SIGINT and orders.hurry.is_set():
            halt()
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        orders.stop.set()
        if came[number] > 1:
            orders.hurry.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    loop.add_signal_handler(signal.SIGHUP, orders.stop.set)
    loop.add_signal_handler(signal.SIGQUIT, halt)
