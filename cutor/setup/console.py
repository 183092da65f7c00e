"""What set-up says and how it runs programs."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from cutor.errors import CutorError

STARTED_AT = time.monotonic()
LOG_LINES = 20
"""How much of a failed program's output is shown."""
TELL_EVERY_S = 5.0
"""A line every five seconds says that it goes on, and fills no log of CI. A choice."""
LINE_BYTES = 64 << 20
"""The longest line that a program may print."""


class SetupError(CutorError):
    """Set-up cannot go on. The message is one line: what is missing, where, what to do.

    `log` holds what the failed program printed last, for the reader who wants to know why.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log
        if log:
            self.add_note(log)


AGREE: ContextVar[Callable[[], None]] = ContextVar("AGREE", default=lambda: None)
"""Called behind each `announce`; it raises SetupError where what was announced may not be done."""


def announce(deed: str) -> None:
    """Say what is about to be done to this machine as root; done is it only where nobody objects. Raises SetupError."""
    say(deed)
    AGREE.get()()


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


@contextmanager
def told(text: Callable[[], str], every_s: float | None = None) -> Iterator[None]:
    """Say every few seconds of the block, which runs in an event loop, how far it is: also where no terminal shows it."""
    started_at = time.monotonic()

    async def tell() -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S if every_s is None else every_s)
            say(f"  {text()} ... {time.monotonic() - started_at:.0f} s")

    telling = asyncio.ensure_future(tell())
    try:
        yield
    finally:
        telling.cancel()


async def run(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    hear: Callable[[bytes], None] = lambda _: None,
) -> bytes:
    """Run a program to its end and return its standard output; `hear` is told of each line of it as it comes.

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
            limit=LINE_BYTES,
        )
    except FileNotFoundError as missing:
        raise SetupError(f"{arguments[0]}: program not found; install it and run set-up again") from missing
    stdout, stderr = await asyncio.gather(_heard(process.stdout, hear), _heard(process.stderr, lambda _: None))
    await process.wait()
    if process.returncode != 0:
        printed = (stderr or stdout).decode(errors="replace")
        raise SetupError(f"{arguments[0]} ended with code {process.returncode}: {last_line(printed)}", printed)
    return stdout


async def _heard(stream: asyncio.StreamReader | None, hear: Callable[[bytes], None]) -> bytes:
    """Return all that comes."""
    assert stream is not None, "a pipe"
    lines = []
    while line := await stream.readline():
        hear(line)
        lines.append(line)
    return b"".join(lines)


def last_line(printed: str) -> str:
    """The last line that is not blank; an empty string where there is none."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def cache_directory() -> Path:
    """Where set-up keeps downloads: outside the repository, so that a fresh clone finds them again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cutor" / "setup"


def show_log(error: SetupError) -> None:
    """Print the last lines of what a failed program printed, if there are any: they go before the line of the error."""
    printed = [line.rstrip() for line in error.log.splitlines() if line.strip()]
    for line in printed[-LOG_LINES:]:
        print(f"    {line}", file=sys.stderr, flush=True)
