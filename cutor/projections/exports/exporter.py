"""The process that writes a copy of the views as a file that every DuckDB client opens. Started by `exports`.

Standard input brings one JSON document: ``source``, a copy of the views that nobody writes, ``target``, the file to make,
``storage_version`` and ``memory_bytes``. Standard output takes one: ``as_of`` (for each stream its sequence and time) or
``error``, one line. Tables, views and comments are taken over as they are; there is nothing else in the source. This file
imports nothing of cutor.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import duckdb

PR_SET_PDEATHSIG = 1
"""``PR_SET_PDEATHSIG`` of prctl(2): the signal that the kernel sends when the parent dies."""


def end_with_parent(parent: int) -> None:
    """End when the parent does, or now, where it has ended already. The kernel ends this process before others."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os._exit(1)
    Path("/proc/self/oom_score_adj").write_text("1000")


def quoted(text: str) -> str:
    """Return a text as it is written in SQL."""
    return "'" + text.replace("'", "''") + "'"


def export(order: dict[str, Any]) -> list[Any]:
    """Make the file; return up to where it holds each stream."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "async_threads": 0,
        "memory_limit": f"{int(order['memory_bytes'])}B",
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(config=config) as connection:
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_progress_bar = FALSE")
        connection.execute("SET preserve_insertion_order = FALSE")
        connection.execute(f"ATTACH {quoted(order['source'])} AS views (READ_ONLY)")
        connection.execute(f"ATTACH {quoted(order['target'])} AS portable (STORAGE_VERSION {quoted(order['storage_version'])})")
        connection.execute("COPY FROM DATABASE views TO portable")
        as_of = connection.execute("SELECT stream, sequence, time::VARCHAR, waits_for FROM portable.checkpoint").fetchall()
        connection.execute("DETACH portable")
    return as_of


def main() -> None:
    """Do what is ordered."""
    end_with_parent(int(sys.argv[1]))
    order = json.loads(sys.stdin.buffer.readline())
    try:
        answer: dict[str, Any] = {"as_of": export(order)}
    except duckdb.Error as error:
        answer = {"error": str(error).strip().split("\n", 1)[0][:500]}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
