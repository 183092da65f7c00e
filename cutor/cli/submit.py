"""``cutor submit``: hand in a request, and wait for its end if wanted."""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

import click

from cutor.cli.live import Live
from cutor.cli.options import Seconds, Wanted, examples, json_option, parse_labels, server_option, split_name
from cutor.cli.output import exit_code_of_outcome, print_json
from cutor.cli.render import print_result
from cutor.client.client import (
    REQUEST_JSON_BYTES,
    Client,
    Receipt,
    is_directory,
    load_request,
    parse_bounded,
    path_of,
    read_json,
)
from cutor.client.waiting import keeping_in_sight, waiting_for, watch_command
from cutor.errors import DONE, INTERRUPTED
from cutor.model.errors import InvalidRequest
from cutor.model.request import Request
from cutor.model.result import Result
from cutor.model.subjects import Address


@click.command(
    "submit",
    epilog=examples(
        "cutor submit examples/c-primes --wait",
        "cutor submit request.json --json",
        "generate | cutor submit - --wait --timeout 60 --label course=introduction",
    ),
)
@click.argument("source", metavar="DIR|FILE.json|-", type=click.Path(allow_dash=True, readable=False))
@click.option("--wait", is_flag=True, help="Return when the submission has ended, and show its result.")
@click.option("--timeout", "timeout_s", type=Seconds(min=0), metavar="SECONDS", help="With --wait: exit with 4 after so long.")
@click.option(
    "--id",
    "submission_id",
    metavar="[TENANT/]ID",
    help="Its id: the same id and content twice is one submission. Made up if absent.",
)
@click.option("--tenant", metavar="NAME", help="Its tenant instead of the request's.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", callback=parse_labels, help="Add a label; repeatable.")
@json_option
@server_option
@click.pass_obj
def command(
    wanted: Wanted,
    source: str,
    wait: bool,
    timeout_s: float | None,
    submission_id: str | None,
    tenant: str | None,
    labels: dict[str, str],
) -> int:
    """Submit a directory or a JSON request.

    Of a directory every regular file is sent; its submission.toml holds the rest of the request: test cases, limits, labels.
    Without --wait the id is printed, and `cutor status ID` shows what came of it. With it, a terminal shows meanwhile what is
    being done, and the newest line of what Nix prints. Ctrl-C while waiting leaves the submission running.

    Exit codes: 0 it is stored, and with --wait its outcome is OK; 1 its outcome is not OK; 2 it was refused and nothing is
    stored, or it is REJECTED; 3 a service cannot be reached or failed: the error says whether nothing was stored, whether that
    is unknown, or whether it was stored and goes on. Hand the same request in again under the id that the error names: that
    finds out, and is one submission. 4 --timeout is over, and it goes on; 130 Ctrl-C.
    """
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout is how long --wait waits: give both", click.get_current_context())
    if submission_id is not None:
        submission_id, tenant = split_name(submission_id, tenant)
    request = _read(source)
    session = _Session(wanted)
    try:
        return asyncio.run(session.run(request, submission_id, tenant, labels, wait=wait, timeout_s=timeout_s))
    except KeyboardInterrupt:
        if session.sending is None:
            raise
        follow = watch_command(session.sending.id, session.sending.tenant)
        goes_on = "goes on" if session.receipt else "may have been handed in"
        click.echo(f"cutor: {session.sending.id} {goes_on}: `{follow}` follows it", err=True)
        return INTERRUPTED


def _read(source: str) -> Request | Path:
    """Return the request in a file or on stdin; a directory stays a path, because the stack's bounds limit its reading."""
    if source == "-":
        if not (raw := sys.stdin.buffer.read(REQUEST_JSON_BYTES + 1)):
            raise InvalidRequest("request: standard input is empty; `-` reads a JSON request from it")
        return parse_bounded(raw)
    path = path_of(source)
    return path if is_directory(path) else read_json(path)


class _Session:
    """One submission by this command."""

    def __init__(self, wanted: Wanted) -> None:
        self.sending: Address | None = None
        self.receipt: Receipt | None = None
        self._server, self._archive = wanted.find_server(), wanted.archive_directory
        self._as_json = wanted.json

    async def run(
        self,
        request: Request | Path,
        submission_id: str | None,
        tenant: str | None,
        labels: dict[str, str],
        *,
        wait: bool,
        timeout_s: float | None,
    ) -> int:
        """Submit, and wait if wanted; returns the exit code."""
        async with Client(self._server, archive=self._archive) as client:
            loaded = await asyncio.to_thread(load_request, request, await client.policy())
            named = loaded.id if submission_id is None else submission_id
            # made up here and not by the client: whoever interrupts this must be told under which id it may have been stored
            self.sending = Address(
                loaded.tenant if tenant is None else tenant, secrets.token_hex(8) if named is None else named
            )
            self.receipt = await client.submit(loaded, id=self.sending.id, tenant=self.sending.tenant, labels=labels)
            if not wait:
                self._print_receipt(self.receipt)
                return DONE
            return self._print_result(await self._wait(client, self.receipt, timeout_s))

    async def _wait(self, client: Client, receipt: Receipt, timeout_s: float | None) -> Result:
        """Return the result at the terminal event, showing on the way what is being done.

        Raises `WaitedTooLong`, `OutOfSight`.
        """
        address = Address(receipt.tenant, receipt.id)
        live = Live(receipt.id)
        async with keeping_in_sight(address), waiting_for(address, timeout_s, lambda: live.told):
            async with live:
                await live.follow(client, receipt.id, receipt.tenant)
            return await client.result(receipt.id, receipt.tenant)

    def _print_receipt(self, receipt: Receipt) -> None:
        if self._as_json:
            print_json(receipt)
        else:
            click.echo(receipt.id)

    def _print_result(self, result: Result) -> int:
        if self._as_json:
            print_json(result)
        else:
            print_result(result)
        return exit_code_of_outcome(result)
