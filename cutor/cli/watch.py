"""``cutor watch``: every event of a submission as it comes."""

from __future__ import annotations

import asyncio

import click

from cutor.cli.live import Live
from cutor.cli.options import Wanted, examples, json_option, named_submission, server_option, tenant_option
from cutor.cli.output import exit_code_of_outcome, print_json
from cutor.client.client import Client, Update
from cutor.client.waiting import watch_command
from cutor.errors import INTERRUPTED
from cutor.model.subjects import Address
from cutor.text import escape


@click.command("watch", epilog=examples("cutor watch 6f1c2a"))
@click.argument("submission_id", metavar="[TENANT/]ID")
@tenant_option
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted, submission_id: str, tenant: str | None) -> int:
    """Follow a submission to its end.

    A line an event, those of the past first; with --json a document a line. Where stderr is a terminal, what Nix prints while
    the environment is built is shown there as it comes. Ctrl-C leaves the submission running.
    The exit code is that of the outcome, as with `cutor submit --wait`.
    """
    address = named_submission(submission_id, tenant)
    try:
        return asyncio.run(_watch(wanted, address))
    except KeyboardInterrupt:
        click.echo(f"cutor: {address.id} goes on: `{watch_command(address.id, address.tenant)}` follows it", err=True)
        return INTERRUPTED


async def _watch(wanted: Wanted, address: Address) -> int:
    async with Client(wanted.find_server()) as client:
        async with Live(address.id, whole=True) as live:
            await live.follow(client, address.id, address.tenant, lambda update: _print(update, as_json=wanted.json))
        return exit_code_of_outcome(await client.result(address.id, address.tenant))


def _print(update: Update, *, as_json: bool) -> None:
    if as_json:
        print_json(update)
    else:
        click.echo(f"{update.time}  {update.kind:<11}  {escape(update.what)}  [{escape(update.summary)}]")
