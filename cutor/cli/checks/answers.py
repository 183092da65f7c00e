"""What ``cutor doctor`` says of the processes that answer questions, on whichever host they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from cutor.bus.connection import Bus
from cutor.cli.checks.findings import Finding, warn
from cutor.errors import CutorError
from cutor.projections.queries.client import query

_PATHS: Final = "SELECT path FROM duckdb_databases() WHERE path IS NOT NULL"


async def check_answers(bus: Bus) -> AsyncIterator[Finding]:
    """Check that a question cannot read where the views lie: it is asked. Where nobody answers, another check says so."""
    with suppress(CutorError):
        for (path,) in (await query(bus, _PATHS)).rows:
            if (finding := judge(str(path))) is not None:
                yield finding


def judge(path: str) -> Finding | None:
    """Return what the path means that a question sees of the copy of the views: alone in its root is as it should be. Pure."""
    if path.rpartition("/")[0] == "":
        return None
    return warn(
        "answers",
        "the kernel of the projector's host gives processes that answer questions no root of their own: questions can read "
        "where the views lie",
        "allow user namespaces there (`sysctl user.max_user_namespaces kernel.apparmor_restrict_unprivileged_userns`; in a "
        "container, its seccomp profile), and start the projector again",
    )
