"""``cutor env``: the environments of a stack. A module for each of its commands; this one puts them together."""

from __future__ import annotations

import click

from cutor.cli.env_build import build_command
from cutor.cli.env_cache_key import cache_key_command
from cutor.cli.env_list import list_command
from cutor.cli.env_pin import pin_command, unpin_command
from cutor.cli.env_refresh import refresh_command
from cutor.cli.env_remove import remove_command
from cutor.cli.env_show import show_command
from cutor.cli.env_test import test_command
from cutor.cli.options import examples


@click.group(
    "env",
    no_args_is_help=False,
    epilog=examples(
        "cutor env list",
        "cutor env show 866fa535",
        "cutor env build contest/shell.nix",
        "cutor env test contest/shell.nix",
        "cutor env pin 866fa535",
    ),
)
def command() -> None:
    """List, show, build, try, refresh, pin or remove environments.

    An environment is what a shell.nix comes to, with all that it needs from the store: built once, known by its key, used by
    every submission that brings the same files. A key may be shortened to its first characters, eight at least, where no
    other one begins so. `cutor gc` makes room.
    """


command.add_command(list_command)
command.add_command(show_command)
command.add_command(build_command)
command.add_command(test_command)
command.add_command(refresh_command)
command.add_command(pin_command)
command.add_command(unpin_command)
command.add_command(remove_command)
command.add_command(cache_key_command)
