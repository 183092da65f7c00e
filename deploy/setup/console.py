"""What set-up says and how it runs programs."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

STARTED_AT = time.monotonic()


class SetupError(Exception):
    """Set-up cannot go on. The message is one line: what is missing, where, what to do."""


def say(text: str) -> None:
    """Print one progress line with the seconds since set-up began."""
    print(f"[{time.monotonic() - STARTED_AT:6.1f} s] {text}", flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step before it starts; say how long it took when it ends well."""
    say(f"{text} ...")
    started_at = time.monotonic()
    yield
    say(f"{text}: done in {time.monotonic() - started_at:.1f} s")


async def run(arguments: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> bytes:
    """Run a program to its end and return its standard output.

    `env` is added to the environment of this process. Raises SetupError with the last line of standard error where the
    program is missing or ends with another code than 0.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            cwd=cwd,
        )
    except FileNotFoundError as missing:
        raise SetupError(f"{arguments[0]}: program not found; install it and run set-up again") from missing
    stdout, stderr = await process.communicate()
    if process.returncode != 0:
        raise SetupError(f"{arguments[0]} ended with code {process.returncode}: {last_line(stderr) or last_line(stdout)}")
    return stdout


def last_line(output: bytes) -> str:
    """The last line of `output` that is not blank; an empty string where there is none."""
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def cache_directory() -> Path:
    """Where set-up keeps downloads: outside the repository, so that a fresh clone finds them again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cutor" / "setup"


def fail(message: str) -> None:
    """Print the one line that says why set-up stops."""
    print(f"setup: {message}", file=sys.stderr, flush=True)
