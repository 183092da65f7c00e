"""How much DuckDB thinks about a statement before it runs it.

A commit of a few events runs statements that leave nothing to be optimized: appends, and look-ups by an index. Each of some
forty optimizers looks at them all the same, which takes a third of such a commit.

The setting is the database's, whoever asks it: an open file of views has two connections, of which one asks and the other does
nothing but work the log in. Questions of anybody else go to copies, in another process.
"""

from __future__ import annotations

from typing import Final

import duckdb

NEEDED: Final = frozenset({"filter_pushdown", "expression_rewriter", "unused_columns", "in_clause"})
"""Without these a look-up by an index would read the whole table."""


class Planning:
    """What the optimizers of an open database are set to."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        names = [name for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()]
        self._left_out = ",".join(name for name in names if name not in NEEDED)
        self._is_brief = False

    def be_brief(self) -> None:
        """Leave out what appends and look-ups do not need."""
        self._set(brief=True)

    def be_thorough(self) -> None:
        """Use all that there is: before a statement over many rows."""
        self._set(brief=False)

    def _set(self, *, brief: bool) -> None:
        if brief is not self._is_brief:
            self._connection.execute("SET disabled_optimizers = $1", [self._left_out if brief else ""])
            self._is_brief = brief
