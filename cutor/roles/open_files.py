"""How many files a runner may have open: each of its containers takes some, and 1024 is what a process begins with."""

from __future__ import annotations

import logging
import resource
from typing import Final

EACH: Final = 7
"""Open files for a container: its pipes' connection, its uid's socket, four counters of its control group, and a request."""
BESIDE: Final = 256
"""Of the process itself: connections to the server, its log, its metrics."""

log = logging.getLogger(__name__)


def allow_files_of(containers: int) -> None:
    """Allow this process the files of so many containers, as far as it may allow itself that; what is not enough is said."""
    wanted = BESIDE + EACH * containers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    if hard < wanted:
        log.warning(
            "%d containers need %d open files, and %d are allowed at the most: raise ulimit -n", containers, wanted, hard
        )
