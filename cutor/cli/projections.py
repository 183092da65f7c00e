"""``cutor projections``: the views and their file. A module for each of its commands; this one puts them together."""

from __future__ import annotations

import click

from cutor.cli.options import examples
from cutor.cli.projections_rebuild import rebuild_command
from cutor.cli.projections_snapshot import snapshot_command
from cutor.cli.projections_status import status_command
from cutor.cli.projections_verify import verify_command


@click.group("projections", no_args_is_help=False, epilog=examples("cutor projections status", "cutor projections rebuild"))
def command() -> None:
    """Look after the views that queries ask.

    They are folded from the streams, and hold nothing that the streams do not: they can be thrown away and made again.
    """


command.add_command(status_command)
command.add_command(rebuild_command)
command.add_command(snapshot_command)
command.add_command(verify_command)
