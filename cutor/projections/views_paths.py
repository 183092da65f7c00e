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
