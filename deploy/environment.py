"""`python3 -m deploy.environment`: the project's Python environment `.venv`, from the lock file.

Runs by the machine's own Python, so it imports nothing but the standard library, and of cutor what does the same.
"""

import asyncio
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cutor.setup import machine
from cutor.setup.console import SetupError, run, show_log, step, told

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "locked"
LOCK = ROOT / "requirements.lock"
PYTHON_AT_LEAST = (3, 11)


def stamp(lock: bytes, metadata: bytes, python: str) -> str:
    """What the environment was made from: lock file, the project's own metadata, version of Python."""
    return hashlib.sha256(b"\0".join([lock, metadata, python.encode()])).hexdigest()


def is_ready(wanted: str) -> bool:
    """Whether the environment was made from the same and its interpreter still runs."""
    if not (STAMP.is_file() and STAMP.read_text() == wanted and PYTHON.exists()):
        return False
    return subprocess.run([PYTHON, "-c", ""], check=False, stderr=subprocess.DEVNULL).returncode == 0


async def make_venv() -> None:
    """Make the empty environment; install Debian's part of the venv module where this Python lacks it."""
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        await machine.install([f"python{version}-venv"], "ensurepip, for Python's venv module")
    if VENV.exists() and not (PYTHON.exists() and (VENV / "bin" / "pip").exists()):
        shutil.rmtree(VENV)
    if not VENV.exists():
        await run([sys.executable, "-m", "venv", VENV])


class Progress:
    """How far pip is with the packages of a lock file, from what it prints: "Collecting NAME" before each that it fetches, and
    one line before it puts them all in place.
    """

    def __init__(self, lock: bytes) -> None:
        self._packages = len(re.findall(rb"^[A-Za-z0-9._-]+==", lock, re.MULTILINE))
        self._fetched = 0
        self._installs = False

    def hear(self, line: bytes) -> None:
        """Take a line of pip's."""
        self._fetched += line.startswith(b"Collecting ")
        self._installs |= line.startswith(b"Installing collected packages")

    def __str__(self) -> str:
        if self._installs:
            return f"installing {self._packages} packages"
        return f"fetching package {self._fetched} of {self._packages}" if self._fetched else "preparing"


async def install() -> None:
    """Install exactly what the lock file names, then this package itself, editable."""
    pip: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-color",
        "install",
        "--progress-bar",
        "off",
    ]
    progress = Progress(LOCK.read_bytes())
    with step(f"Python environment {VENV.name}: packages of {LOCK.name}"), told(lambda: str(progress)):
        await make_venv()
        locked = [*pip, "--require-hashes", "--no-deps", "--requirement", LOCK]
        await run(locked, env={"PYTHONUNBUFFERED": "1"}, hear=progress.hear)
        await run([*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT])


def main() -> int:
    """Make the environment unless it is ready. Returns the exit code."""
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = stamp(LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), version)
    try:
        if sys.version_info < PYTHON_AT_LEAST:
            raise SetupError(f"Python {version} is too old: 3.11 or newer is needed (PYTHON=/path/to/python3 make setup)")
        if not is_ready(wanted):
            asyncio.run(install())
            STAMP.write_text(wanted)
    except SetupError as error:
        show_log(error)
        print(f"setup: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
