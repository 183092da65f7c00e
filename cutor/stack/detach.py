"""Starting a stack in the background: the caller waits until it serves, or says why it does not."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from cutor.errors import DONE, UNAVAILABLE
from cutor.stack.logs import last_lines, open_log

LAST_LINES: Final = 5
"""Of the log of a stack that did not start: its last line says why, those before what led to it. A choice."""
END_TIMEOUT_S: Final = 10.0
"""It has nothing left to do when it has reported: after this nobody waits for it any more."""
_REPORT_BYTES: Final = 1 << 16
"""What a pipe of Linux holds by default; a report is one line, with warnings."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the background process says of its start: a line for the user, the exit code of the command, and what won't work."""

    line: str
    exit_code: int
    warnings: tuple[str, ...] = ()


def start_detached(command: Sequence[str], log: Path) -> Report:
    """Start ``command`` with ``--report-fd N`` in a session of its own, away from the terminal; return what it reports.

    One that reports a failure has ended when this returns; one that ends without a report is described by the last lines of its
    log. When the wait is left by an exception (Ctrl-C), it is ended.
    """
    read_end, write_end = os.pipe()
    try:
        with open_log(log) as output:
            child = subprocess.Popen(
                [*command, "--report-fd", str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[write_end],
                start_new_session=True,
                cwd="/",
            )
    finally:
        os.close(write_end)
    try:
        raw = _read_line(read_end)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    finally:
        os.close(read_end)
    if not raw:
        return _unexplained(child, log)
    said = msgspec.json.decode(raw, type=Report)
    if said.exit_code != DONE:
        with suppress(subprocess.TimeoutExpired):  # it has cleaned up before it reported
            child.wait(END_TIMEOUT_S)
    return said


def report(descriptor: int, said: Report) -> None:
    """Tell the waiting command how the start went."""
    try:
        os.write(descriptor, msgspec.json.encode(said) + b"\n")
    except BrokenPipeError:
        return  # the command was interrupted; this process goes on, or ends, all the same
    finally:
        os.close(descriptor)


def _read_line(descriptor: int) -> bytes:
    """Return the report, empty where the other end was closed without one."""
    raw = b""
    while not raw.endswith(b"\n") and len(raw) < _REPORT_BYTES:
        select.select([descriptor], [], [])
        if not (piece := os.read(descriptor, _REPORT_BYTES)):
            return b""
        raw += piece
    return raw


def _unexplained(child: subprocess.Popen[bytes], log: Path) -> Report:
    code = child.wait()
    said = " | ".join(last_lines(log, LAST_LINES))
    return Report(line=f"the stack ended with {code} while it started; the last of {log}: {said}", exit_code=UNAVAILABLE)
