"""``cutor builder``."""

from cutor.cli.role import role_command
from cutor.roles.builder import run_builder

command = role_command("builder", run_builder, "Run a builder by itself, against any NATS server: it builds environments.")
