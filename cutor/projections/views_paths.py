"""The names of what belongs to a file of views. Without DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import Final

COPIES: Final = (
    *("snapshot", "snapshot.draft", "snapshot.wal", "snapshot.wal.draft"),
    *("exported", "exported.wal", "export", "export.wal"),
)
"""What ends the names of the copies that the query service makes: for questions, and of those to be taken away."""


def beside(path: Path, what: str) -> Path:
    """Return the path of something that belongs to a file of views."""
    return path.with_name(f"{path.name}.{what}")


def wal_path(path: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of a file."""
    return path.with_name(path.name + ".wal")


def wal_paths(path: Path) -> list[Path]:
    """Return where DuckDB may keep what is committed and not yet in a file: the second while it works in the first, the third
    while it brings a file up after a kill in between.
    """
    return [path.with_name(path.name + end) for end in (".wal", ".wal.checkpoint", ".wal.recovery")]


def literal(path: Path) -> str:
    """Return a path as a text of SQL: for statements that take no parameter there."""
    return "'" + str(path).replace("'", "''") + "'"
