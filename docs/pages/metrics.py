"""The page of the metrics, from their table."""

from __future__ import annotations

from typing import Final

from cutor.metrics.table import EVERY, METRICS

ABOUT_METRICS: Final = """\
# The metrics

Made from the table in `cutor/metrics/table.py` by `python docs/generate.py`. Every role has an endpoint with its own, in the
OpenMetrics text format ([how to scrape them](../how-to/observe.md)); those of the process (`process_cpu_seconds_total`,
`process_resident_memory_bytes`, …) come beside them. A counter begins at 0 with its process. What a role cannot find out at the
moment, because the server is away, has no value.
"""


def page() -> str:
    """Return the page of the metrics: name, kind, labels, roles, meaning."""
    lines = [*ABOUT_METRICS.splitlines(), "", "| metric | kind | labels | roles | what it says |", "|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        roles = "every" if metric.roles == EVERY else ", ".join(metric.roles)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {roles} | {metric.about} |")
    return "\n".join(lines) + "\n"
