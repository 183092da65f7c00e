"""``cutor cancel``: stop a submission."""

from __future__ import annotations

import asyncio

import click

from cutor.cli.options import Wanted, examples, json_option, named_submission, server_option, tenant_option
from cutor.cli.output import print_json
from cutor.client.client import Client
from cutor.model.subjects import Address


@click.command("cancel", epilog=examples("cutor cancel 6f1c2a", 'cutor cancel 6f1c2a --reason "the contest is over"'))
@click.argument("submission_id", metavar="[TENANT/]ID")
@click.option("--reason", metavar="TEXT", help="Why; it becomes the result's message.")
@tenant_option
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted, submission_id: str, reason: str | None, tenant: str | None) -> None:
    """Stop a submission.

    What runs of it is stopped within a second. One that has ended stays as it is: then nothing happens.
    """
    address = named_submission(submission_id, tenant)
    cancelled = asyncio.run(_cancel(wanted.find_server(), address, reason))
    if wanted.json:
        print_json({"id": address.id, "tenant": address.tenant, "cancelled": cancelled})
    else:
        click.echo(f"{address.id} is cancelled" if cancelled else f"{address.id} has ended already; nothing was changed")


async def _cancel(server: str, address: Address, reason: str | None) -> bool:
    async with Client(server) as client:
        return await client.cancel(address.id, address.tenant, reason=reason)
