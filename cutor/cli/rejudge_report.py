"""What ``cutor rejudge`` prints: what was done, or would be, and how outcomes differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec

from cutor.cli.options import Wanted
from cutor.cli.output import print_json
from cutor.model.rejudgement import Action, Rejudged, count, outcomes
from cutor.model.units import counted
from cutor.text import escape

SHOWN: Final = 50
"""So many submissions have a line each; --json has all."""
_SAID: Final[dict[Action, str]] = {
    "planned": "would be handed in",
    "submitted": "handed in",
    "before": "handed in before, under this name",
    "skipped": "left out",
    "refused": "refused",
}


def document(name: str, done: Sequence[Rejudged], *, dry_run: bool) -> dict[str, Any]:
    """Return the document of ``--json``."""
    return {
        "name": name,
        "dry_run": dry_run,
        "counts": count(done),
        "outcomes": outcomes(done),
        "submissions": [msgspec.to_builtins(one) for one in done],
    }


def goes_on(name: str, *, waiting: bool) -> str:
    """Return how an interrupted re-judging is gone on with."""
    again = f"the same command with `--name {name} --yes` goes on, and judges nothing twice"
    return f"`{query_of(name)}` shows them; {again}" if waiting else again


def query_of(name: str) -> str:
    """Return the command that compares."""
    return f"cutor query \"from rejudgements where name = '{name}'\""


def report(wanted: Wanted, name: str, done: Sequence[Rejudged], *, dry_run: bool, waited: bool) -> None:
    """Print what was done, or would be; and the comparison, where it was waited for."""
    if wanted.json:
        print_json(document(name, done, dry_run=dry_run))
        return
    if not done:
        click.echo("no submission is chosen")
        return
    shown = [one for one in done if one.changed or one.submission is None] if waited else done
    _print_lines(shown)
    for action, number in count(done).items():
        click.echo(f"{counted(number, 'submission')} {_SAID[action]}" + _by_outcome(done, action))
    if waited:
        changed = sum(one.changed for one in done)
        click.echo(f"{changed} of {sum(one.outcome_after is not None for one in done)} ended otherwise than before")
    if dry_run and not any(one.submission for one in done):
        click.echo("nothing is handed in, with `--yes` neither")
    elif dry_run:
        click.echo(f"nothing is handed in yet: the same command with `--name {name} --yes` does it")
    elif any(one.submission for one in done):
        click.echo(f"`{query_of(name)}` compares")


def _by_outcome(done: Sequence[Rejudged], action: Action) -> str:
    found = outcomes(one for one in done if one.action == action)
    return ": " + ", ".join(f"{outcome} {number}" for outcome, number in found.items()) if found else ""


def _print_lines(shown: Sequence[Rejudged]) -> None:
    if not shown:
        return
    from cutor.cli.render import print_table  # noqa: PLC0415 - rich takes a while, and --json needs none

    headings = ["submission", "outcome", "again as", "outcome now", "why not"]
    columns = [n for n in range(len(headings)) if n < 2 or any(_cells(one)[n] for one in shown)]
    lines = ([_cells(one)[n] for n in columns] for one in shown[:SHOWN])
    kept = [headings[n] for n in columns]
    print_table(kept, lines, right=[], fold=kept[-1])
    if len(shown) > SHOWN:
        click.echo(f"… and {len(shown) - SHOWN} more: --json has all")


def _cells(one: Rejudged) -> list[str]:
    name = one.id if one.tenant == "default" else f"{one.tenant}/{one.id}"
    return [name, one.outcome or "", one.submission or "", one.outcome_after or "", escape(one.why or "")]
