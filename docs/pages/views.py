"""The page of the views: every one that a query sees, with its columns, from the comments in SQL."""

from __future__ import annotations

from typing import Final

import duckdb

from cutor.projections.schema import TABLES, table_scripts

VIEWS: Final = (
    "submissions", "stages", "test_cases", "attempts", "workers", "latencies", "throughput", "outcomes_by_label",
    "rejudgements", "rejudged_stages",
    "in_progress", "queue", "environments", "events", "environment_events", "dead_letters", "checkpoint", "gaps",
)  # fmt: skip
"""In the order in which somebody would look for them."""

ABOUT_VIEWS: Final = """\
# The views

Made from the comments in `cutor/projections/sql/tables` by `python docs/generate.py`. `cutor query` asks them, in DuckDB's SQL;
`show tables` and `describe submissions` say the same there. Times are UTC. They hold what the streams hold, up to the
projector's checkpoint, and can be thrown away: a projector that finds none makes them anew.
"""


def page() -> str:
    """Return the page of the views: every one that a query sees, with its columns."""
    assert set(VIEWS) == {*TABLES, "environment_events", "in_progress"}, "a view is missing in VIEWS"
    lines = ABOUT_VIEWS.splitlines()
    with duckdb.connect() as connection:
        for script in table_scripts():
            connection.execute(script)
        for view in VIEWS:
            [[comment]] = connection.execute(
                "SELECT comment FROM duckdb_tables() WHERE schema_name = 'main' AND table_name = $1 "
                "UNION ALL SELECT comment FROM duckdb_views() WHERE schema_name = 'main' AND view_name = $1",
                [view],
            ).fetchall()
            columns = connection.execute(
                "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = $1 "
                "ORDER BY column_index",
                [view],
            ).fetchall()
            assert all([comment, *(text for _, _, text in columns)]), f"{view}: a comment is missing"
            lines += ["", f"## {view}", "", f"{comment}.", "", "| column | type | meaning |", "|---|---|---|"]
            lines += [f"| `{name}` | `{kind}` | {text} |" for name, kind, text in columns]
    return "\n".join(lines) + "\n"
