"""`python -m deploy.test_tools`: what tests need of the machine and submissions do not: docker-compose, for deploy/compose.

Any that is there is used. Where there is none, Debian's package is installed, which takes root; without root the tests that
need it are skipped, and say so (in CI they fail).
"""

import asyncio
import shutil
import subprocess
import sys

from cutor.setup import machine
from cutor.setup.console import SetupError, say, show_log

PACKAGE = "docker-compose"
WHY = "tests/docs/test_howto_compose.py starts deploy/compose with it"


def compose() -> list[str] | None:
    """The command that reads compose files: `docker-compose`, else Docker's plugin. None where there is neither."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = ["docker", "compose"]
    if shutil.which("docker") and subprocess.run([*plugin, "version"], check=False, capture_output=True).returncode == 0:
        return plugin
    return None


def main() -> int:
    """Install what is missing, where it can be. Returns the exit code."""
    if compose():
        return 0
    if not machine.is_root():
        say(f"there is no {PACKAGE}: {WHY}, and is skipped; as root, run `apt-get install --no-install-recommends {PACKAGE}`")
        return 0
    try:
        asyncio.run(machine.install([PACKAGE], WHY))
    except SetupError as error:
        show_log(error)
        print(f"test-tools: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
