"""Compares two files of views: the one that is used with one that was folded from scratch. Both are only read.

Every table is compared, those of the fold and those that queries see, by ``EXCEPT ALL`` both ways; what the SQL views over them
show follows, so of those the definitions are compared. It goes through a table in slices of `SLICE` sequences, and takes bodies
by their SHA-256, so that memory does not grow with the files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb

from cutor.projections.views_paths import literal

SLICE: Final = 50_000
"""Sequences that are compared at one time."""
MEMORY_BYTES: Final = 1 << 30
"""Of DuckDB while it compares, beside a projector that works. A choice: it holds some sequences at one time."""
SHOWN_CHARACTERS: Final = 200
"""Of a value that differs, so much is shown, from where it does."""
KEYS: Final = {
    "main.stages": ("sequence", "stage", "test_case"),
    "main.gaps": ("stream", "from_sequence"),
    "folds.submissions": ("tenant", "id"),
}
"""What tells the rows of a table apart; elsewhere the first column does."""
PLACES: Final = ("sequence", "last_sequence")
"""The column by which a table is sliced, the first of these that it has; one without them is compared as a whole."""
FILES: Final = ("used", "folded")
RULES: Final = "folds.rules"
"""Not compared: by which rules a file was folded is known before."""
PARTS: Final = ("folds.settled", "folds.moving", "folds.moved")
"""Which submission stands in which of these depends on how messages came in batches; `WHOLE` shows what they come to."""
WHOLE: Final = "folds.submissions"
DEFINITIONS: Final = "v1.0.0"
"""Definitions are compared as a file of this storage version has them: newer ones write the same view in another way."""


class Difference(NamedTuple):
    """The first row that two files do not share.

    ``row`` are the columns that identify it, as text. ``column`` is the first one that differs, None where one file has more
    such rows than the other: then ``used`` and ``folded`` are their numbers. Both are text, cut around where they differ.
    """

    table: str
    row: dict[str, str | None]
    column: str | None
    used: str | None
    folded: str | None


class Comparison(NamedTuple):
    """What came of it: rows that were compared, of every table, and the first difference, None where all is equal."""

    rows: dict[str, int]
    difference: Difference | None


class _Table(NamedTuple):
    """A table of both files, with its columns as they are compared, and as they are shown."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    place: str | None

    def of(self, file: str) -> str:
        return f"{file}.{self.name}"


Tell = Callable[[str, int, int], None]
"""Told how far it is: the table, rows of all tables that are compared, and how many there are."""


class Compared:
    """Two files that are being compared. `stop` may be called from another thread."""

    def __init__(self, used: Path, folded: Path, scratch: Path) -> None:
        """Open both; raises what DuckDB raises where one cannot be. ``scratch`` takes what is made for the comparison."""
        self._scratch = scratch
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{MEMORY_BYTES}B",
                "temp_directory": str(scratch),
                "autoinstall_known_extensions": False,
                "python_enable_replacements": False,
            }
        )
        try:
            self._connection.execute("SET enable_progress_bar = FALSE")
            for name, path in (("used", used), ("folded", folded)):
                self._connection.execute(f"ATTACH {literal(path)} AS {name} (READ_ONLY)")
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close both files."""
        self._connection.close()

    def stop(self) -> None:
        """End a comparison that is under way: it raises `duckdb.InterruptException`."""
        self._connection.interrupt()

    async def in_thread(self, comparing: Callable[[], Comparison]) -> Comparison:
        """Return what ``comparing`` returns, in a thread, and close both files. Who is cancelled waits until it has stopped."""
        try:
            work = asyncio.create_task(asyncio.to_thread(comparing))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                self.stop()
                await asyncio.wait([work])
                raise
        finally:
            self.close()

    def compare(self, tell: Tell = lambda _table, _done, _total: None) -> Comparison:
        """Compare all, up to the first difference."""
        if difference := self._definitions():
            return Comparison({}, difference)
        tables = list(self._tables())
        sizes = {table.name: max(self._count(table.of("used")), self._count(table.of("folded"))) for table in tables}
        rows: dict[str, int] = {}
        for table in tables:
            rows[table.name] = 0
            for condition in self._slices(table):
                rows[table.name] += self._count(f"{table.of('folded')} WHERE {condition}")
                if difference := self._first_of(table, condition):
                    return Comparison(rows, difference)
                tell(table.name, sum(rows.values()), sum(sizes.values()))
        return Comparison(rows, None)

    def _definitions(self) -> Difference | None:
        """Return the first table or view that is not defined in the same way in both."""
        used, folded = (self._definitions_of(file) for file in FILES)
        for name in sorted(used.keys() | folded.keys()):
            if used.get(name) != folded.get(name):
                return Difference(name, {}, "definition", *_around(used.get(name), folded.get(name)))
        return None

    def _definitions_of(self, file: str) -> dict[str, str]:
        """Return the definitions of all tables and views, from an empty file that is made with them."""
        path = self._scratch / f"definitions-of-{file}.duckdb"
        place = literal(path)
        self._connection.execute(f"ATTACH {place} AS defined (STORAGE_VERSION '{DEFINITIONS}')")
        self._connection.execute(f"COPY FROM DATABASE {file} TO defined (SCHEMA)")
        self._connection.execute("DETACH defined")
        self._connection.execute(f"ATTACH {place} AS defined (READ_ONLY)")
        try:
            return dict(
                self._rows(
                    "SELECT schema_name || '.' || table_name, sql FROM duckdb_tables() WHERE database_name = 'defined' "
                    "UNION ALL SELECT schema_name || '.' || view_name, sql FROM duckdb_views() "
                    "WHERE database_name = 'defined' AND NOT internal"
                )
            )
        finally:
            self._connection.execute("DETACH defined")
            path.unlink()

    def _tables(self) -> Iterator[_Table]:
        """Return the tables: those that queries see first."""
        found = self._rows(
            "SELECT schema_name || '.' || table_name, "
            "list(column_name ORDER BY column_index), list(data_type ORDER BY column_index) "
            "FROM duckdb_columns() LEFT JOIN duckdb_tables() AS tables USING (database_name, schema_name, table_name) "
            "WHERE database_name = 'folded' AND (tables.table_oid IS NOT NULL OR schema_name || '.' || table_name = $1) "
            "GROUP BY schema_name, table_name ORDER BY schema_name DESC, table_name",
            WHOLE,
        )
        for name, columns, types in found:
            if name not in {RULES, *PARTS}:
                compared = {column: _compared(column, kind) for column, kind in zip(columns, types, strict=True)}
                place = next((place for place in PLACES if place in columns), None)
                yield _Table(name, compared, KEYS.get(name, (columns[0],)), place)

    def _slices(self, table: _Table) -> Iterator[str]:
        """Return conditions; every row of either file fits one of them, and each is fit by some."""
        place = table.place
        if place is None:
            yield "TRUE"
            return
        start: int | None = None
        while True:
            behind = "TRUE" if start is None else f"{place} > {start}"
            ends = " UNION ALL ".join(f"SELECT min({place}) AS place FROM {table.of(file)} WHERE {behind}" for file in FILES)  # noqa: S608 - names of tables and columns
            [(first,)] = self._rows(f"SELECT min(place) FROM ({ends})")  # noqa: S608 - likewise
            if first is None:
                return
            start = first + SLICE - 1
            yield f"{place} BETWEEN {first} AND {start}"

    def _first_of(self, table: _Table, condition: str) -> Difference | None:
        """Return the first difference among the rows of a table that fit a condition."""
        columns = ", ".join(table.columns.values())
        one, other = (f"SELECT {columns} FROM {table.of(file)} WHERE {condition}" for file in FILES)  # noqa: S608 - names of tables and columns
        differ = f"(({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one}))"
        keys = ", ".join(table.key)
        first = self._rows(f"SELECT {keys} FROM {differ} ORDER BY {keys} LIMIT 1")  # noqa: S608 - names of tables and columns
        return self._explain(table, first[0]) if first else None

    def _explain(self, table: _Table, key: tuple[Any, ...]) -> Difference:
        """Say what differs at a key."""
        same = " AND ".join(f"{column} IS NOT DISTINCT FROM ${n}" for n, column in enumerate(table.key, 1))
        shown = ", ".join(f"{column}::VARCHAR" for column in table.columns)
        used, folded = (self._rows(f"SELECT {shown} FROM {table.of(file)} WHERE {same} LIMIT 2", *key) for file in FILES)  # noqa: S608 - names of tables and columns
        row = {column: None if value is None else str(value) for column, value in zip(table.key, key, strict=True)}
        if len(used) == len(folded) == 1:
            for column, one, other in zip(table.columns, used[0], folded[0], strict=True):
                if one != other:
                    return Difference(table.name, row, column, *_around(one, other))
        counts = (self._rows(f"SELECT count(*) FROM {table.of(file)} WHERE {same}", *key) for file in FILES)  # noqa: S608 - names of tables and columns
        return Difference(table.name, row, None, *(str(count) for [(count,)] in counts))

    def _count(self, of: str) -> int:
        [(count,)] = self._rows(f"SELECT count(*) FROM {of}")  # noqa: S608 - names of tables and columns
        return int(count)

    def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, list(parameters)).fetchall()


def _compared(column: str, kind: str) -> str:
    """Return how a column is compared: bodies, which may be long, by what stands for them."""
    return f"sha256({column}) AS {column}" if kind in {"JSON", "BLOB"} else column


def _around(one: str | None, other: str | None) -> tuple[str | None, str | None]:
    """Cut two texts around the place where they begin to differ."""
    same = next((n for n, pair in enumerate(zip_longest(one or "", other or "")) if pair[0] != pair[1]), 0)
    start = max(0, same - SHOWN_CHARACTERS // 4)

    def cut(text: str | None) -> str | None:
        if text is None or len(text) <= SHOWN_CHARACTERS:
            return text
        rest = text[start : start + SHOWN_CHARACTERS]
        return f"{'…' if start else ''}{rest}{'…' if start + SHOWN_CHARACTERS < len(text) else ''}"

    return cut(one), cut(other)
