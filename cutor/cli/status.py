"""``cutor status``: what is known of a submission now."""

from __future__ import annotations

import asyncio

import click

from cutor.cli.options import Wanted, examples, json_option, named_submission, server_option, tenant_option
from cutor.cli.output import exit_code_of_outcome, print_json
from cutor.cli.render import print_result
from cutor.client.client import Client
from cutor.client.progress import WAITING, progress
from cutor.client.waiting import watch_command
from cutor.model.result import Result, result
from cutor.model.subjects import Address


@click.command("status", epilog=examples("cutor status 6f1c2a", "cutor status 6f1c2a --json"))
@click.argument("submission_id", metavar="[TENANT/]ID")
@tenant_option
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted, submission_id: str, tenant: str | None) -> int:
    """Show what is known of a submission.

    It is folded from the stream itself, so it sees every event that is acknowledged. Exit code 0 as long as it has not ended.
    """
    address = named_submission(submission_id, tenant)
    found, doing = asyncio.run(_fetch(wanted, address))
    if wanted.json:
        print_json(found)
    else:
        print_result(found, doing)
        if doing in WAITING:
            click.echo(f"`{_watch(address)}` tells what for, where it is room, another's build, or the cache")
    return exit_code_of_outcome(found)


def _watch(address: Address) -> str:
    return watch_command(address.id, address.tenant)


async def _fetch(wanted: Wanted, address: Address) -> tuple[Result, str]:
    """Return the result, and what the submission waits for or does now."""
    async with Client(wanted.find_server(), archive=wanted.archive_directory) as client:
        state = await client.journal.ever_known(address)
        return await client.journal.contents.resolve(result(state)), progress(state)
