"""What set-up finds out about the machine, and the one place that installs packages on it."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cutor.setup.console import SetupError, announce, run, step


def is_root() -> bool:
    """Whether packages can be installed and an engine started."""
    return os.geteuid() == 0


async def compiles_statically(compiler: str = "cc") -> bool:
    """Whether there is a C compiler with the C library's headers and static library (Debian: gcc, libc6-dev)."""
    with tempfile.TemporaryDirectory(prefix="cutor-setup-") as scratch:
        source = Path(scratch) / "empty.c"
        source.write_text('#include <stdio.h>\nint main(void) { return puts(""); }\n')
        try:
            await run([compiler, "-static", "-o", source.with_suffix(""), source])
        except SetupError:
            return False
    return True


def install_plan(names: Sequence[str], why: str, *, root: bool) -> str:
    """The line to print before packages are installed. SetupError where that takes root and we are not."""
    listed = " ".join(names)
    if not root:
        raise SetupError(f"{why} is needed: as root, run `apt-get install --no-install-recommends {listed}`")
    return f"installing as root, from this machine's apt sources: {listed} ({why})"


async def install(names: Sequence[str], why: str) -> None:
    """Install Debian packages on this machine, after saying so; fetch apt's lists where a package is not in them."""
    announce(install_plan(names, why, root=is_root()))
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    wait_for_others = "--option=DPkg::Lock::Timeout=120"
    command = ["apt-get", "-qq", "--yes", wait_for_others, "--no-install-recommends", "install", *names]
    with step(f"installing {' '.join(names)}"):
        try:
            await run(command, env=environment)
        except SetupError:
            # Lists that are missing or out of date look the same: the package is unknown, or its archive is gone.
            await run(["apt-get", "-qq", "update"], env=environment)
            await run(command, env=environment)
