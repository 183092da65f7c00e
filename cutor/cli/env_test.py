"""``cutor env test``: try an environment, and print what it gives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cutor.cli.env_submission import (
    EnvironmentSubmission,
    check_source,
    environment_of,
    facts,
    print_facts,
    request_of,
    source_options,
    with_script,
)
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import exit_code_of_outcome, print_json
from cutor.cli.render import console, print_lines, print_result
from cutor.client.client import Client
from cutor.errors import DONE, NOT_OK
from cutor.model.content import decode_text
from cutor.model.environments import EnvironmentBuilt
from cutor.model.limits import GIB, MIB, Limit, Policy, RequestedLimit
from cutor.model.result import Result
from cutor.operations.environment_report import SCRIPT, EnvironmentReport, Place, read_report
from cutor.text import cut, escape, width

WANTED: Final = {"wall_time_ms": 60_000, "cpu_time_ms": 60_000, "memory_bytes": GIB, "processes": 256, "stdout_bytes": 8 * MIB}
"""Of the stage that says what there is: as much of it as the stack allows."""
PROGRAMS_SHOWN: Final = 12
"""Of a directory; the others are counted, unless all are asked for."""
NAME_COLUMNS: Final = 32
"""Most columns of a program's name in the table, unless all is asked for; a longer one is cut."""
MARGIN_COLUMNS: Final = 4
"""Of a table, beside its two columns."""


@click.command("test", epilog=examples("cutor env test examples/c-primes", "cutor env test course/shell.nix --all"))
@source_options
@click.option("--all", "everything", is_flag=True, help="Show every program of every directory, and values whole.")
@json_option
@server_option
@click.pass_obj
def test_command(
    wanted: Wanted, path: str, also: tuple[str, ...], tenant: str | None, timeout_s: float | None, everything: bool
) -> int:
    """Try an environment, and print what it gives.

    It is handed in like `cutor env build` does it, but nothing of it is kept (`cache: false`): one that is there already is
    used, another one is built and goes again. Printed are the directories of PATH, in their order, with their packages and
    programs, what compilers and interpreters say of their version, and the variables that programs will have.

    Exit codes: 0 it works, 1 it does not; otherwise those of `cutor submit --wait`.
    """
    attempt = EnvironmentSubmission("env-test", timeout_s)
    check_source(path)
    try:
        result, built = asyncio.run(_test(wanted.find_server(), attempt, path, also, tenant))
    except KeyboardInterrupt as interrupt:
        return attempt.interrupted(interrupt)
    found = _report(result)
    if wanted.json:
        print_json(_document(result, built, found))
    elif found is None:
        print_result(result, shown=attempt.shown)
    else:
        print_facts(result, built, kept=False)
        _print(found, everything=everything)
    return _exit_code(result, found)


async def _test(
    server: str, attempt: EnvironmentSubmission, path: str, also: tuple[str, ...], tenant: str | None
) -> tuple[Result, EnvironmentBuilt | None]:
    async with Client(server) as client:
        policy = await client.policy()
        request = await asyncio.to_thread(request_of, path, also, policy)
        limits = msgspec.structs.replace(request.limits, run=_limits(policy))
        result = await attempt.run(client, with_script(request, SCRIPT, cache=False, limits=limits), tenant)
        return result, await environment_of(client, result)


def _limits(policy: Policy) -> RequestedLimit:
    most: Limit = policy.limits.run.maximum
    return RequestedLimit(**{name: min(wanted, getattr(most, name)) for name, wanted in WANTED.items()})


def _report(result: Result) -> EnvironmentReport | None:
    """Return what the script said; None where it did not run."""
    if result.environment is None or not result.run or result.run[0].outcome == "SKIPPED":
        return None
    printed = result.run[0].stdout
    return read_report(decode_text(printed.encoding, printed.data))


def _exit_code(result: Result, found: EnvironmentReport | None) -> int:
    code = exit_code_of_outcome(result)
    return NOT_OK if code == DONE and (found is None or not found.whole) else code


def _document(result: Result, built: EnvironmentBuilt | None, found: EnvironmentReport | None) -> dict[str, Any]:
    told = {} if result.environment is None else facts(result, built)
    return told | {"report": found, "result": result}


def _print(found: EnvironmentReport, *, everything: bool) -> None:
    out = console()
    places = [_place(place, everything=everything) for place in found.path]
    _print_table(out, "package", "programs", places, whole=True)
    if found.versions:
        _print_table(out, "program", "says of itself", found.versions.items(), whole=everything)
    _print_table(out, "variable", "value", sorted(found.variables.items()), whole=everything)
    if not found.whole:
        out.print("this is not all: what tells it was stopped, or its output cut")


def _place(place: Place, *, everything: bool) -> tuple[str, str]:
    shown = place.programs if everything else place.programs[:PROGRAMS_SHOWN]
    more = len(place.programs) - len(shown)
    programs = " ".join(shown) + (f" and {more} more" if more else "")
    return place.package or place.directory, programs or "none"


def _print_table(out: Console, left: str, right: str, rows: Iterable[tuple[str, str]], *, whole: bool) -> None:
    """Print a table of what others wrote, as text; unless it is to be ``whole``, a row takes one line of a terminal's.

    Where nobody's terminal has a width, a row is one line, however long, with all of it.
    """
    cells = [(escape(name), escape(value)) for name, value in rows]
    if out.is_terminal:
        out.print(_table(left, right, cells, whole=whole, columns=out.width))
        return
    out.print()
    print_lines(out, [left, right], cells)


def _table(left: str, right: str, cells: Sequence[tuple[str, str]], *, whole: bool, columns: int) -> Table:
    if not whole:
        cells = [(cut(name, NAME_COLUMNS), value) for name, value in cells]
    room = columns - max(width(name) for name, _ in [(left, right), *cells]) - MARGIN_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(left, overflow="fold", no_wrap=not whole)
    table.add_column(right, overflow="fold")
    for name, value in cells:
        table.add_row(Text(name), Text(value if whole else cut(value, room)))
    return table
