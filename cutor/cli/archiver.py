"""``cutor archiver``."""

from cutor.cli.role import role_command
from cutor.projections.archive.archiver import run_archiver

command = role_command(
    "archiver",
    run_archiver,
    "Run an archiver by itself, against any NATS server: it seals what the streams have into `[archive] directory`, every "
    "`archive.interval_s`, and lets EVENTS and BODIES go of what is older than "
    "`archive.retain_days` and `archive.retain_bodies_days`, where these are set.",
)
