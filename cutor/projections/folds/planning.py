"""How much DuckDB thinks about a statement before it runs it.

A commit of a few events runs statements that leave nothing to be optimized: appends, and look-ups by an index. Each of some
forty optimizers looks at them all the same, which takes a third of such a commit.

The setting is the database's, whoever asks it: an open file of views has three connections, of which one asks and the others do
nothing but work the log in. Questions of anybody else go to copies, in another process.

The statements of a fold in SQL say in which order they join. DuckDB would choose one by how many rows there are, and takes what
Python hands it for a single row: it would build its tables of whole batches, bodies included, to look up a few rows in them.
"""

from __future__ import annotations

from typing import Final

import duckdb

ORDERING: Final = frozenset({"join_order", "build_side_probe_side"})
"""What puts joins into another order than a statement has them in."""
NEEDED: Final = frozenset({"filter_pushdown", "expression_rewriter", "unused_columns", "in_clause"})
"""Without these a look-up by an index would read the whole table."""


class Planning:
    """What the optimizers of an open database are set to."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        names = [name for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()]
        self._brief = ",".join(name for name in names if name not in NEEDED)
        self._literal = ",".join(name for name in names if name in ORDERING)
        self._left_out = ""

    def be_brief(self) -> None:
        """Leave out what appends and look-ups do not need."""
        self._leave_out(self._brief)

    def be_literal(self) -> None:
        """Join in the order that a statement says."""
        self._leave_out(self._literal)

    def be_thorough(self) -> None:
        """Use all that there is: before a statement over many rows."""
        self._leave_out("")

    def _leave_out(self, names: str) -> None:
        if names != self._left_out:
            self._connection.execute("SET disabled_optimizers = $1", [names])
            self._left_out = names
