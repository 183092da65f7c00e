"""Writes the pages that are made from code: ``python docs/generate.py``. With ``--check`` it only says which are stale.

The pages of command line and configuration are made by ``cutor.cli.reference``; ``make docs`` runs both. Beside the pages there
is what an empty file of views defines (`cutor.projections.definitions`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from cutor.metrics.table import METRICS
from cutor.model.state import TERMINAL, TRANSITIONS
from cutor.projections.definitions import DIGEST, Defined, defined
from cutor.projections.schema import TABLES, table_scripts
from tests.attacks.campaign import load_attacks
from tests.attacks.coverage import page as page_of_attacks
from tests.fault.page import page as page_of_faults
from tests.fault.points import POINTS

DOCS: Final = Path(__file__).resolve().parent
ROOT: Final = DOCS.parent


def states() -> str:
    """Return the page with the state diagram, drawn from the transition table."""
    lines = [
        "# The states of a submission",
        "",
        "Made from `TRANSITIONS` in `cutor/model/state.py` by `python docs/generate.py`. An event that is not drawn at a state",
        "is a stray there: it is counted, and changes nothing else. After a terminal status only `cleaned` follows, once;",
        "after a cancel it may bring what that interrupted: results that were not appended yet, the stage that was stopped.",
        "",
        "```mermaid",
        "stateDiagram-v2",
    ]
    drawn: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        drawn.setdefault((before or "[*]", after), []).append(event)
    lines += [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in drawn.items()]
    lines += [f"    {status} --> [*]" for status in sorted(TERMINAL)]
    lines += ["```", "", "| status | event | next status |", "|---|---|---|"]
    lines += [f"| {before or '(none)'} | `{event}` | {after} |" for (before, event), after in TRANSITIONS.items()]
    return "\n".join(lines) + "\n"


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


def views() -> str:
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
            lines += ["", f"## {view}", "", f"{comment}.", "", "| column | type | |", "|---|---|---|"]
            lines += [f"| `{name}` | `{kind}` | {text} |" for name, kind, text in columns]
    return "\n".join(lines) + "\n"


def attacks() -> str:
    """Return the page of the attacks: what is tried, by which of them, and what must come of each."""
    return page_of_attacks(load_attacks())


def faults() -> str:
    """Return the page of the points at which processes are killed."""
    return page_of_faults(POINTS)


ABOUT_METRICS: Final = """\
# The metrics

Made from the table in `cutor/metrics/table.py` by `python docs/generate.py`. Every role has an endpoint with its own, in the
OpenMetrics text format ([how to scrape them](../how-to/observe.md)); those of the process (`process_cpu_seconds_total`,
`process_resident_memory_bytes`, …) come beside them. A counter begins at 0 with its process. What a role cannot find out at the
moment, because the server is away, has no value.
"""


def metrics() -> str:
    """Return the page of the metrics: name, kind, labels, roles, meaning."""
    lines = [*ABOUT_METRICS.splitlines(), "", "| metric | kind | labels | roles | |", "|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {', '.join(metric.roles)} | {metric.about} |")
    return "\n".join(lines) + "\n"


def definitions() -> str:
    """Return the digest of what an empty file of views defines."""
    return msgspec.json.format(msgspec.json.encode(Defined.of(defined())), indent=1).decode() + "\n"


PAGES: Final = {
    DOCS / "reference/states.md": states,
    DOCS / "reference/views.md": views,
    DOCS / "reference/attacks.md": attacks,
    DOCS / "reference/faults.md": faults,
    DOCS / "reference/metrics.md": metrics,
    DIGEST: definitions,
}


def main() -> int:
    """Write the pages, or check them. Exit code 1: a page is out of date."""
    stale = []
    for path, page in PAGES.items():
        text = page()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in sys.argv:
            path.write_text(text)
    print("\n".join(stale) or "all pages are current")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
