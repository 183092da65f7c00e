"""``cutor status``: what is known of a submission now."""

from __future__ import annotations

import asyncio

import click

from cutor.cli.options import Wanted, examples, json_option, server_option, tenant_option
from cutor.cli.output import exit_code_of_outcome, print_json
from cutor.cli.render import print_result
from cutor.client import Client
from cutor.model.result import Result


@click.command("status", epilog=examples("cutor status 6f1c2a", "cutor status 6f1c2a --json"))
@click.argument("submission_id", metavar="ID")
@tenant_option
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted, submission_id: str, tenant: str) -> int:
    """Show what is known of a submission.

    It is folded from the stream itself, so it sees every event that is acknowledged. Exit code 0 as long as it has not ended.
    """
    result = asyncio.run(_fetch(wanted.find_server(), submission_id, tenant))
    if wanted.json:
        print_json(result)
    else:
        print_result(result)
    return exit_code_of_outcome(result)


async def _fetch(server: str, submission_id: str, tenant: str) -> Result:
    async with Client(server) as client:
        return await client.result(submission_id, tenant)
