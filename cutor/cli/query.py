"""``cutor query``: SQL over everything that ever happened."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import click

from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.options import Seconds, Wanted, examples, json_option, server_option
from cutor.cli.whole_file import check_output, write_whole
from cutor.model.units import counted
from cutor.projections.format import to_csv, to_json, to_text, waits
from cutor.projections.queries.client import Table, query
from cutor.projections.queries.questions import DEFAULT_ROWS, DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S, MOST_ROWS, SQL_CHARACTERS
from cutor.text import escape

FORMATS: Final = ("table", "json", "csv", "parquet")


@click.command(
    "query",
    epilog=examples(
        'cutor query "select outcome, count(*) from submissions group by all"',
        "cutor query \"select * from stages where outcome = 'TLE_CPU'\" --format csv",
        'cutor query "from events" --rows 1000000 --format parquet --output events.parquet',
        'cutor query "select count(*) from events" --max-age 10',
        "cutor query - < question.sql",
    ),
)
@click.argument("sql", metavar="SQL|-")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print the answer."
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to a file instead; one that is there is replaced."
)
@click.option(
    "--rows",
    type=click.IntRange(1, MOST_ROWS),
    metavar="N",
    default=DEFAULT_ROWS,
    show_default=True,
    help="Most rows; an answer says if it had more.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0, LONGEST_TIMEOUT_S, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Longest time that the question may take.",
)
@click.option(
    "--max-age",
    "max_age_s",
    type=Seconds(0),
    metavar="SECONDS",
    help="How old what is answered from may be; else what the projector is configured for.",
)
@json_option
@server_option
@click.pass_obj
def command(
    wanted: Wanted, sql: str, form: str, output: Path | None, rows: int, timeout_s: float, max_age_s: float | None
) -> None:
    """Ask the views in SQL.

    The projector answers, in DuckDB's SQL, from everything that had come to it when the question did (or `snapshot_age_ms`
    before, where it is configured so); nothing can be changed. `show tables` and `describe submissions` say what there is. A
    dashboard that asks often costs less with --max-age. With --json the answer says up to where the views held each stream
    (`as_of`), and how many messages each held beyond that (`behind`).

    On a terminal that is narrower than a table, each row is shown by itself, a value a line.
    """
    form = "json" if wanted.json else form
    wanted.json = form == "json"
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("a Parquet file is not for a terminal: name one with --output", click.get_current_context())
    if output is not None:
        check_output(output)
    question = _read_question() if sql == "-" else sql
    answer = interruption.run(_ask(wanted.find_server(), question, timeout_s, rows, max_age_s))
    _write(answer, form, output)


def _read_question() -> str:
    return sys.stdin.read(SQL_CHARACTERS + 1)  # one more than the service takes: it says so


async def _ask(server: str, sql: str, timeout_s: float, rows: int, max_age_s: float | None) -> Table:
    async with Bus.connect(server, name="cutor query") as bus:
        return await query(bus, sql, timeout_s, rows=rows, max_age_s=max_age_s)


def _write(answer: Table, form: str, output: Path | None) -> None:
    if form == "parquet":
        content = _parquet(answer)
    else:
        columns = shutil.get_terminal_size().columns if output is None and sys.stdout.isatty() else None
        text = to_text(answer, columns) if form == "table" else to_json(answer) if form == "json" else to_csv(answer)
        content = text.removesuffix("\n").encode(errors="backslashreplace") + b"\n"
    if answer.truncated and form in ("csv", "parquet"):
        click.echo(f"note: the answer has more than {counted(len(answer.rows), 'row')}: ask for more with --rows", err=True)
    if form in ("csv", "parquet"):
        for reason in waits(answer):
            click.echo(f"note: the views are not whole: {escape(reason)}", err=True)
    if output is None:
        click.echo(content, nl=False)
    else:
        write_whole(output, content)


def _parquet(answer: Table) -> bytes:
    """Return the answer as a Parquet file. Raises `AnswerNotWritten`."""
    from cutor.projections.parquet import to_parquet  # noqa: PLC0415 - the module says why

    descriptor = os.memfd_create(
        "answer.parquet", os.MFD_CLOEXEC
    )  # of this process alone: nothing is left of it, however it ends
    try:
        to_parquet(answer, Path(f"/proc/self/fd/{descriptor}"))
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read()
    finally:
        os.close(descriptor)
