"""``cutor down``: stop a stack."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from cutor.cli.options import Seconds, Wanted, config_option, data_option, examples
from cutor.config import Config, load
from cutor.errors import CutorError
from cutor.model.units import counted
from cutor.stack import current
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.stop_times import HURRIED, StopTimes
from cutor.stack.stopping import Stopped, stop_stack


@click.command("down", epilog=examples("cutor down", "cutor down --data /srv/two", "cutor down --now"))
@data_option
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Longest time to wait; exit code 4 after it. Without it, the most that a stop takes: "
    f"{HURRIED.stack_s:g} s and `shutdown_grace_s`.",
)
@click.option("--now", is_flag=True, help="Wait for nothing that runs: it is done again after the next `cutor up`.")
@config_option
@click.pass_obj
def command(wanted: Wanted, data: Path | None, timeout_s: float | None, now: bool) -> None:
    """Stop a stack, and remove what a dead one left behind.

    Without --data it is the stack that was started last. Returns when every process of it has ended and its containers are
    gone. Its data stays. What runs may finish within `shutdown_grace_s`, and the rest is done again after the next
    `cutor up`. A second `down` meanwhile waits with the first and hurries nothing, unless it says --now.
    """
    directory = DataDirectory(_find_data(wanted, data))
    if data is None and not directory.exists():
        click.echo("no stack is running")
        return
    docker_host = wanted.loaded_for_docker.config.docker.host
    if timeout_s is None:
        timeout_s = StopTimes(_config_of(wanted, directory).shutdown_grace_s).stack_s
    stopped = stop_stack(directory, wanted.surroundings.current_stack, docker_host, timeout_s, now=now)
    click.echo(_describe(stopped, directory.path))


def _find_data(wanted: Wanted, data: Path | None) -> Path:
    if data is None and (stack := current.read(wanted.surroundings.current_stack)) is not None:
        return Path(stack.data)
    return wanted.surroundings.data_directory(wanted.loaded.config, data)


def _config_of(wanted: Wanted, directory: DataDirectory) -> Config:
    """Return the configuration that the stack was started with; where it cannot be read, the command's own."""
    with suppress(CutorError):
        if directory.config_file.is_file():
            return load(directory.config_file, wanted.surroundings).config
    return wanted.loaded.config


def _describe(stopped: Stopped, data: Path) -> str:
    if stopped.new_life:
        return f"a new stack has begun in {data} meanwhile: it is left alone; `{command_for('down', data)}` once more stops it"
    if stopped.is_copy:
        return (
            f"no stack is running in {data}, which is a copy of the data directory of one, or mounted anew: "
            "should that one have left containers, `cutor doctor` tells of them"
        )
    if stopped.was_dead:
        return (
            f"the stack of {data} had died; what it left behind is removed ({counted(stopped.containers_removed, 'container')})"
        )
    return f"the stack of {data} is stopped" if stopped.was_running else f"no stack is running in {data}"
