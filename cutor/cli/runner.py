"""``cutor runner``."""

from cutor.cli.role import role_command
from cutor.roles.runner import run_runner

command = role_command(
    "runner", run_runner, "Run a runner by itself, against any NATS server: it compiles and runs submissions."
)
