"""Log files of a stack: appended to by one process, bounded in size."""

from __future__ import annotations

import os
import time
from io import FileIO
from pathlib import Path
from typing import Final

from cutor.logs import LogFormat, is_json, json_line
from cutor.stack.data import DataDirectoryUnusable
from cutor.text import escape

LOG_BYTES: Final = 16 << 20
"""A log that grew to this size is kept once under ``.1``, and a new one begun."""

SUPERVISOR: Final = "supervisor"
"""Its role in lines of JSON."""

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Log:
    """One log file. Writing never raises for a full disk: the stack goes on without its log.

    Raises `DataDirectoryUnusable` where it cannot be opened.
    """

    def __init__(self, path: Path, limit_bytes: int = LOG_BYTES) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._file = open_log(path)

    def write(self, data: bytes) -> None:
        """Append, beginning a new file where this one is full."""
        try:
            if self._file.tell() >= self._limit_bytes:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                full, self._file = self._file, open_log(self.path)
                full.close()
            self._file.write(data)
        except (OSError, DataDirectoryUnusable):
            return  # a disk that is full for a log is full for the streams: the server says so where it counts

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_log(path: Path) -> FileIO:
    """Open a log for appending, made for its owner alone, and never through a link. Raises `DataDirectoryUnusable`."""
    try:
        return FileIO(os.open(path, _APPEND, 0o600), "ab")
    except OSError as error:
        raise DataDirectoryUnusable(f"{path} cannot be written: {error.strerror}") from error


def stamped(line: bytes, log_format: LogFormat = "text", role: str = SUPERVISOR) -> bytes:
    """Return a line as the supervisor writes it into logs: with the local time, as the roles' own lines have it; or in JSON."""
    if log_format == "json":
        return json_line(line.decode(errors="replace"), logger="cutor.stack", role=role).encode() + b"\n"
    return time.strftime("%Y-%m-%d %H:%M:%S ").encode() + line + b"\n"


def taken(line: bytes, log_format: LogFormat, role: str) -> bytes:
    """Return a line that a role has printed, without its end, as it goes into the log: in JSON, whoever in it has printed."""
    if log_format == "text" or is_json(line):
        return line
    return json_line(line.decode(errors="replace"), logger="stderr", role=role, level="ERROR").encode()


def last_lines(path: Path, count: int, limit_bytes: int = 8192) -> list[str]:
    """Return the last lines of a log, control characters escaped; none where there is no log."""
    try:
        with path.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, 2) - limit_bytes))
            text = opened.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [escape(line) for line in lines[-count:]]
