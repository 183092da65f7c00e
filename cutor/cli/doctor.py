"""``cutor doctor``: is everything there that submissions need?"""

from __future__ import annotations

import asyncio

import click
from rich.console import Console
from rich.text import Text

from cutor.cli.checks.examination import examine
from cutor.cli.checks.findings import Finding
from cutor.cli.limits_table import print_limits
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.cli.render import console
from cutor.errors import DONE, UNAVAILABLE
from cutor.text import escape


@click.command("doctor", epilog=examples("cutor doctor", "cutor doctor --json"))
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted) -> int:
    """Check whether this machine and its stack have what they need.

    A line each: ok, warn or FAIL, what is there, and what to do. Nothing is changed. Exit code 3 if anything fails.

    Then the limits of every stage as default / maximum, and the bounds: those that the stack publishes, else those of the
    configuration. With --json they stand in the finding `limits`, as numbers with their units in the names.
    """
    findings = asyncio.run(_examine(wanted))
    if wanted.json:
        print_json(findings)
    return UNAVAILABLE if any(finding.verdict == "fail" for finding in findings) else DONE


async def _examine(wanted: Wanted) -> list[Finding]:
    """Print each finding as it comes. A reader that is gone (``| head``) stops nothing halfway: it is told to the caller."""
    findings, gone = [], None
    out = console()
    async for finding in examine(wanted):
        findings.append(finding)
        if not wanted.json and gone is None:
            try:
                _print(out, finding)
            except (SystemExit, BrokenPipeError) as error:
                gone = error
    if gone is not None:
        raise gone
    if not wanted.json and (shown := next((finding.limits for finding in findings if finding.limits), None)):
        print_limits(out, shown)
    return findings


def _print(out: Console, finding: Finding) -> None:
    style = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.verdict]
    word = "FAIL" if finding.verdict == "fail" else finding.verdict
    remedy = f": {finding.remedy}" if finding.remedy else ""
    line = Text.assemble((f"{word:<4}", style), f"  {finding.what:<14}  {escape(finding.detail + remedy)}")
    out.print(line, soft_wrap=True)
