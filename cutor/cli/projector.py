"""``cutor projector``."""

from cutor.cli.role import role_command
from cutor.projections.role import run_projector

command = role_command(
    "projector", run_projector, "Run a projector by itself, against any NATS server: it keeps the SQL views."
)
