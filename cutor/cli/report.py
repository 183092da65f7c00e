"""``cutor report``: one page of HTML about what a stack did."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.options import Seconds, Wanted, examples, json_option, server_option
from cutor.cli.output import StatusLine, print_json
from cutor.cli.whole_file import check_output, write_whole
from cutor.model.errors import InvalidRequest
from cutor.model.moments import parse_moment
from cutor.model.quoting import shown
from cutor.model.subjects import check_address
from cutor.model.units import about, counted
from cutor.projections.errors import QueryError
from cutor.projections.queries.client import query
from cutor.projections.queries.questions import LONGEST_TIMEOUT_S
from cutor.report.facts import Facts, read_facts
from cutor.report.question import Scope, statements
from cutor.report.words import share
from cutor.text import escape

DEFAULT_TIMEOUT_S: Final = 60.0
"""For all questions of a report together, each over the whole history: six times that of one question. A choice."""
DEFAULT_OUTPUT: Final = "report.html"
STDOUT: Final = Path("-")
TIME: Final = "TIME"


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_moment(text, time.time_ns()).time_ns
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from error


def _labels(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> Mapping[str, str]:
    split = [pair.partition("=") for pair in pairs]
    wrong = next((pair for pair, (name, equals, _) in zip(pairs, split, strict=True) if not name or not equals), None)
    if wrong is not None:
        raise click.BadParameter(f"{shown(wrong)} is not KEY=VALUE")
    return {name: value for name, _, value in split}


@click.command(
    "report",
    epilog=examples(
        "cutor report",
        "cutor report --since 7d --output week.html",
        "cutor report --since 2026-11-01 --until 2026-12-01 --label course=algorithms --title 'Algorithms in November'",
        "cutor report --database snapshot.duckdb --output - > report.html",
    ),
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE|-",
    default=DEFAULT_OUTPUT,
    show_default=True,
    help="Where to write it; a file that is there is replaced. - is stdout.",
)
@click.option("--since", "since_ns", callback=_moment, metavar=TIME, help="Submitted from then on.  [default: ever]")
@click.option("--until", "until_ns", callback=_moment, metavar=TIME, help="Submitted before.  [default: now]")
@click.option("--tenant", metavar="NAME", help="Of this tenant alone.")
@click.option("--label", "labels", multiple=True, callback=_labels, metavar="KEY=VALUE", help="With this label; once for each.")
@click.option("--title", metavar="TEXT", default="cutor: what the stack did", show_default=True, help="The page's title.")
@click.option(
    "--database",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ask this file of views, which nobody writes, instead of a stack: a snapshot, or what a replay made.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0, LONGEST_TIMEOUT_S, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Longest time that a question to the stack may take.",
)
@json_option
@server_option
@click.pass_obj
def command(
    wanted: Wanted,
    output: Path,
    since_ns: int | None,
    until_ns: int | None,
    tenant: str | None,
    labels: Mapping[str, str],
    title: str,
    database: Path | None,
    timeout_s: float,
) -> None:
    """Write what a stack did, with plots, as one page of HTML.

    Outcomes, throughput, latencies, stages, environments, workers, what took most, what went wrong. The page needs no network,
    no script and no other file: it can be mailed, or kept. TIME is a time (2026-11-26T18:00, in UTC where it names no zone; a
    date alone is its midnight) or how long ago that was (7d, 12h, 1d12h).

    Prints where the report is, and what it says in one line.
    """
    if tenant is not None:
        check_address(tenant, "any")
    if output == STDOUT and wanted.json:
        raise click.UsageError("--json and --output -: stdout is for one of them", click.get_current_context())
    if output != STDOUT:
        check_output(output)
    scope = Scope(since_ns=since_ns, until_ns=until_ns, tenant=tenant, labels=labels)
    if database:
        facts, source = _ask_file(database, scope)
    else:
        facts, source = interruption.run(_ask_stack(wanted.find_server(), scope, timeout_s))
    page = _page(facts, scope, title=title, source=source)
    if output == STDOUT:
        click.echo(page, nl=False)
        return
    write_whole(output, page)
    _tell(wanted, output, facts, len(page))


async def _ask_stack(server: str, scope: Scope, timeout_s: float) -> tuple[Facts, str]:
    """Return what a stack's projector answers, and whose that is.

    Further questions may be answered from the copy of the views that answered the first: so they are of one moment, mostly.
    """
    asked, answers, began = statements(), [], time.monotonic()
    async with Bus.connect(server, name="cutor report") as bus:
        with StatusLine() as line:
            for number, statement in enumerate(asked, 1):
                line.show(f"asking the projector: question {number} of {len(asked)}")
                age_s = 0.0 if number == 1 else time.monotonic() - began
                table = await query(bus, statement, timeout_s, parameters=scope.parameters(), max_age_s=age_s)
                answers.append({column.name: value for column, value in zip(table.columns, table.rows[0], strict=True)})
        return _facts(answers, bus.address), bus.address


def _ask_file(path: Path, scope: Scope) -> tuple[Facts, str]:
    """Return what a file of views answers, and whose that is."""
    from cutor.projections.queries.file import query_file  # noqa: PLC0415 - DuckDB takes as long to import as all else

    return _facts(query_file(path, statements(), scope.parameters()), path.name), path.name


def _facts(answers: Sequence[Mapping[str, Any]], source: str) -> Facts:
    try:
        return read_facts(answers)
    except msgspec.ValidationError as error:
        raise QueryError(f"{source}: not views of this version of cutor: {error}") from error


def _page(facts: Facts, scope: Scope, *, title: str, source: str) -> bytes:
    from cutor.report.page import render  # noqa: PLC0415 - Jinja is imported when there is something to show

    return render(facts, scope, title=title, source=source, at=datetime.now(UTC)).encode(errors="backslashreplace")


def _tell(wanted: Wanted, output: Path, facts: Facts, size_bytes: int) -> None:
    totals = facts.totals
    if wanted.json:
        outcomes = {one.outcome or "": one.count for one in facts.outcomes}
        moment = {one.stream: one.sequence for one in facts.moments[0]}
        print_json(
            {
                "output": str(output),
                "bytes": size_bytes,
                "as_of": moment,
                "submissions": totals.submissions,
                "ended": totals.ended,
                "outcomes": {name: number for name, number in outcomes.items() if name},
            }
        )
        return
    said = (
        f"{counted(totals.submissions, 'submission')}, {share(totals.ok, totals.ended)} OK"
        if totals.ended
        else (counted(totals.submissions, "submission"))
    )
    click.echo(f"{escape(str(output))}: {said}, {about(size_bytes)}")
