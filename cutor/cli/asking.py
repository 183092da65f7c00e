"""A question before something is done that cannot be undone: whether somebody is there to answer, and the answer."""

from __future__ import annotations

import sys

import click

from cutor.cli.options import Wanted


def check_answerer(wanted: Wanted) -> None:
    """Refuse a question that nobody would answer: to a script, or where only JSON is printed. Raises `UsageError`."""
    context = click.get_current_context()
    if wanted.json:
        raise click.UsageError("--json asks nobody: give --yes, or --dry-run", context)
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask: give --yes, or --dry-run", context)


def agreed(question: str, otherwise: str) -> bool:
    """Return whether somebody says yes; who says no, or nothing, is told how things stand ``otherwise``.

    What is no answer is asked about again. Raises `Abort` for who leaves the question (Ctrl-C, Ctrl-D), who is told the same.
    """
    while True:
        try:
            answer = click.prompt(f"{question} [y/N]", default="", show_default=False, err=True).strip().lower()
        except click.Abort:
            click.echo(f"\n{otherwise}", err=True)  # the cursor still stands behind the question
            raise
        if answer in ("y", "yes"):
            return True
        if answer in ("", "n", "no"):
            click.echo(otherwise, err=True)
            return False
        click.echo("answer with y or n", err=True)
