"""``cutor parked``: submissions that no worker could bring to an end, and what is to become of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import click
import msgspec

from cutor.bus.errors import BusError
from cutor.cli.options import (
    LIST_AT_MOST,
    Wanted,
    examples,
    json_option,
    limit_option,
    named_submission,
    server_option,
    tenant_option,
)
from cutor.cli.output import print_json
from cutor.cli.render import console, print_result, print_table
from cutor.client.client import Client, check_reason
from cutor.client.waiting import watch_command
from cutor.errors import DONE, UNAVAILABLE, CutorError
from cutor.journal.parked import LIST_DEFAULT, Drop, Listing, ParkedSubmissions, Retry
from cutor.model.parked import Decision, ParkedDetail, ParkedSubmission
from cutor.model.subjects import Address, check_address
from cutor.model.units import counted
from cutor.text import escape


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one submission by ``retry`` or ``drop``: the one or the other, or why it was left as it is."""

    id: str
    tenant: str
    retry: Retry | None = None
    drop: Drop | None = None
    error: str | None = None
    exit_code: int = DONE


@click.group(
    "parked",
    no_args_is_help=False,
    epilog=examples(
        "cutor parked list",
        "cutor parked show 6f1c2a",
        "cutor parked retry 6f1c2a",
        'cutor parked drop 6f1c2a --reason "the contest is over"',
    ),
)
def command() -> None:
    """List, show, retry or drop submissions that are parked.

    A submission is parked when builders or runners have taken it up as often as `max_leases` says, and no result came of it:
    the fault is cutor's or its machine's, not the program's. It stays so until somebody decides: to retry it, which makes a
    new submission of the same request, or to drop it.
    """


_some_tenant_option = click.option(
    "--tenant", metavar="NAME", help="Tenant of each ID that does not say it (else default); with --all: of this tenant alone."
)


@command.command("list", epilog=examples("cutor parked list", "cutor parked list --all --limit 1000 --json"))
@click.option("--tenant", metavar="NAME", help="Of this tenant alone.")
@click.option("--all", "everything", is_flag=True, help="Those, too, that were retried or dropped, and what became of them.")
@limit_option(LIST_DEFAULT)
@json_option
@server_option
@click.pass_obj
def list_command(wanted: Wanted, tenant: str | None, everything: bool, limit: int) -> None:
    """List those that nobody has decided about.

    The newest first. Read from the stream itself. With --json one array.
    """
    if tenant is not None:
        check_address(tenant, "any")
    listing = asyncio.run(_list(wanted, tenant, everything=everything, limit=limit))
    if wanted.json:
        print_json(listing.found)
    else:
        _print_listing(listing, everything=everything)


@command.command("show", epilog=examples("cutor parked show 6f1c2a", "cutor parked show 6f1c2a --json"))
@click.argument("submission_id", metavar="[TENANT/]ID")
@tenant_option
@json_option
@server_option
@click.pass_obj
def show_command(wanted: Wanted, submission_id: str, tenant: str | None) -> None:
    """Show all that is known of a parked submission.

    Why it is parked, every attempt, its stages, what became of it, and what to do.
    """
    detail = asyncio.run(_show(wanted, named_submission(submission_id, tenant)))
    if wanted.json:
        print_json(detail)
    else:
        _print_detail(detail)


@command.command("retry", epilog=examples("cutor parked retry 6f1c2a", "cutor parked retry --all --dry-run"))
@click.argument("ids", metavar="[TENANT/]ID...|--all", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that nobody has decided about.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@_some_tenant_option
@json_option
@server_option
@click.pass_obj
def retry_command(wanted: Wanted, ids: tuple[str, ...], everything: bool, dry_run: bool, tenant: str | None) -> int:
    """Submit the request of a parked one anew, under a new id.

    The new submission names the parked one in `caused_by`. Its request is checked against the limits of now. A submission is
    retried once: who retries it again is told as what, and nothing happens. With --json one array, with an `error` where one
    was not retried; the exit code is then that of the first of these. Where the server fails on the way, what was done until
    then is printed, and the exit code is 3.
    """
    if everything == bool(ids):
        raise click.UsageError("which? name one ID or more, or give --all", click.get_current_context())
    addresses = _named(ids, tenant)
    if tenant is not None:
        check_address(tenant, "any")
    with _told_if_interrupted(wanted, dry_run=dry_run) as done:
        asyncio.run(_retry(wanted, addresses, tenant, done, dry_run=dry_run))
    if not done and not wanted.json:
        click.echo("nothing is parked that somebody has to decide about")
    return _report(wanted, done, dry_run=dry_run)


@command.command(
    "drop", epilog=examples("cutor parked drop 6f1c2a", 'cutor parked drop 6f1c2a 77ab01 --reason "lab is closed"')
)
@click.argument("ids", metavar="[TENANT/]ID...", nargs=-1)
@click.option("--reason", metavar="TEXT", help="Why; it is kept with the decision.")
@tenant_option
@json_option
@server_option
@click.pass_obj
def drop_command(wanted: Wanted, ids: tuple[str, ...], reason: str | None, tenant: str | None) -> int:
    """Record that a parked submission is not retried.

    It stays in the log as it is, and is not listed any more. With --json one array, as of `retry`.
    """
    if not ids:
        raise click.UsageError("which? name one ID or more", click.get_current_context())
    check_reason(reason)
    addresses = _named(ids, tenant)
    with _told_if_interrupted(wanted) as done:
        asyncio.run(_drop(wanted, addresses, reason, done))
    return _report(wanted, done)


def _named(names: Sequence[str], tenant: str | None) -> list[Address]:
    """Return each submission that is named once, in the order of the command line."""
    return list(dict.fromkeys(named_submission(name, tenant) for name in names))


@asynccontextmanager
async def _parked(wanted: Wanted) -> AsyncIterator[ParkedSubmissions]:
    async with Client(wanted.find_server(), archive=wanted.archive_directory) as client:
        yield ParkedSubmissions(client.journal)


async def _list(wanted: Wanted, tenant: str | None, *, everything: bool, limit: int) -> Listing:
    async with _parked(wanted) as parked:
        return await parked.list(tenant, everything=everything, limit=limit)


async def _show(wanted: Wanted, address: Address) -> ParkedDetail:
    async with _parked(wanted) as parked:
        return await parked.show(address)


async def _retry(wanted: Wanted, addresses: Sequence[Address], tenant: str | None, done: list[Done], *, dry_run: bool) -> None:
    """Retry these, or all where there are none."""
    async with _parked(wanted) as parked:
        if not addresses:
            listing = await parked.list(tenant, limit=LIST_AT_MOST)
            addresses = [Address(one.tenant, one.id) for one in reversed(listing.found)]

        async def act(address: Address) -> Done:
            return Done(id=address.id, tenant=address.tenant, retry=await parked.retry(address, dry_run=dry_run))

        await _each(addresses, act, done)


async def _drop(wanted: Wanted, addresses: Sequence[Address], reason: str | None, done: list[Done]) -> None:
    async with _parked(wanted) as parked:

        async def act(address: Address) -> Done:
            return Done(id=address.id, tenant=address.tenant, drop=await parked.drop(address, reason))

        await _each(addresses, act, done)


async def _each(addresses: Sequence[Address], act: Callable[[Address], Awaitable[Done]], done: list[Done]) -> None:
    """Add what became of each; what is refused of one is told, and the next one's turn comes.

    Where the server fails, the others need not be tried: the last entry says so. Of a single one its error is raised.
    """
    for number, address in enumerate(addresses):
        try:
            done.append(await act(address))
        except BusError as error:
            if len(addresses) == 1:
                raise
            left = len(addresses) - number - 1
            rest = f", and {left} more {'was' if left == 1 else 'were'} not tried" if left else ""
            why = f"{error}: it may be done for {address.id} or not{rest}; the same command goes on"
            done.append(Done(id=address.id, tenant=address.tenant, error=why, exit_code=UNAVAILABLE))
            return
        except CutorError as error:
            done.append(Done(id=address.id, tenant=address.tenant, error=str(error), exit_code=error.exit_code))


@contextmanager
def _told_if_interrupted(wanted: Wanted, *, dry_run: bool = False) -> Iterator[list[Done]]:
    """Collect what is done; after Ctrl-C print what there is by then."""
    done: list[Done] = []
    try:
        yield done
    except KeyboardInterrupt:
        _report(wanted, done, dry_run=dry_run)
        raise


def _report(wanted: Wanted, done: Sequence[Done], *, dry_run: bool = False) -> int:
    """Print what was done, errors on stderr; return the exit code: that of the server's failure, else of the first error."""
    for one in done:
        if one.error is not None:
            click.echo(f"cutor: {escape(one.error)}", err=True)
        elif not wanted.json:
            click.echo(_retry_line(one.retry, dry_run=dry_run) if one.retry else _drop_line(one.drop))
    if wanted.json:
        print_json(done)
    codes = [one.exit_code for one in done if one.error is not None]
    return UNAVAILABLE if UNAVAILABLE in codes else next(iter(codes), DONE)


def _retry_line(retry: Retry, *, dry_run: bool) -> str:
    follow = f"`{watch_command(retry.submission, retry.tenant)}` follows it"
    if not retry.new:
        return f"{retry.id} was retried already, as {retry.submission}: {follow}"
    return (
        f"{retry.id} would be retried as {retry.submission}"
        if dry_run
        else f"{retry.id} is retried as {retry.submission}: {follow}"
    )


def _drop_line(drop: Drop | None) -> str:
    assert drop is not None
    if drop.new:
        return f"{drop.id} is dropped"
    return f"{drop.id} was dropped already" + (f": {escape(drop.reason)}" if drop.reason else "")


def _print_listing(listing: Listing, *, everything: bool) -> None:
    if not listing.found:
        click.echo("nothing was ever parked" if everything else "nothing is parked that somebody has to decide about")
        return
    headings = ["submission", "parked at (UTC)", "stage", "by", "leases", *(["became"] if everything else []), "reason"]
    print_table(headings, (_cells(one, everything=everything) for one in listing.found), right=["leases"], fold="reason")
    if listing.more:
        click.echo(f"these are the newest {len(listing.found)}; there are more: --limit N")


def _cells(one: ParkedSubmission, *, everything: bool) -> list[str]:
    became = [_became(one)] if everything else []
    reason = one.reason if not one.unreadable_records else f"{one.reason} ({_unreadable(one)})"
    stage = one.stage or ""
    return [_name(one), _moment(one.parked_at), stage, one.role, str(one.leases.of(one.role)), *became, reason]


def _name(one: ParkedSubmission) -> str:
    return one.id if one.tenant == "default" else f"{one.tenant}/{one.id}"


def _moment(time: str) -> str:
    return f"{time[:10]} {time[11:19]}"


def _became(one: ParkedSubmission) -> str:
    if one.decision is None:
        return "undecided"
    return f"retried as {one.decision.submission}" if one.decision.action == "retried" else "dropped"


def _unreadable(one: ParkedSubmission) -> str:
    count = one.unreadable_records
    return f"{counted(count, 'message')} in place of a record cannot be read"


def _print_detail(detail: ParkedDetail) -> None:
    """Print what the submission is, then what is told of parked ones alone."""
    parked = detail.parked
    print_result(detail.result)
    out = console()
    for name, value in _facts(detail):
        out.print(f"{name:<11} {escape(value)}", soft_wrap=True)
    if detail.attempts:
        lines = ([one.role, str(one.number), _moment(one.leased_at), one.worker] for one in detail.attempts)
        print_table(["attempt by", "lease", "taken at (UTC)", "worker"], lines, right=["lease"], fold="worker")
    for line in _what_to_do(parked):
        click.echo(line)


def _facts(detail: ParkedDetail) -> list[tuple[str, str]]:
    parked, decision = detail.parked, detail.parked.decision
    facts = [("parked", f"{_moment(parked.parked_at)} by a {parked.role}" + (f", at {parked.stage}" if parked.stage else ""))]
    facts += [("labels", ", ".join(f"{key}={value}" for key, value in sorted(detail.result.labels.items())))]
    facts += [("caused by", parked.caused_by or "")]
    facts += [("became", "nothing yet" if decision is None else _decided(detail, decision))]
    facts += [("record", _unreadable(parked) if parked.unreadable_records else "")]
    return [(name, value) for name, value in facts if value]


def _decided(detail: ParkedDetail, decision: Decision) -> str:
    if decision.action == "dropped":
        return f"dropped {_moment(decision.at)}" + (f": {decision.reason}" if decision.reason else "")
    now = detail.retry
    stands = "" if now is None else f", which is {now.outcome or now.status}"
    return f"retried {_moment(decision.at)} as {decision.submission}{stands}"


def _what_to_do(parked: ParkedSubmission) -> list[str]:
    """Return the commands that go on from here."""
    of = "" if parked.tenant == "default" else f" --tenant {parked.tenant}"
    if parked.decision is not None and parked.decision.submission is not None:
        return [f"follow the retry: `{watch_command(parked.decision.submission, parked.tenant)}`"]
    if parked.decision is not None:
        return []
    return [
        f"what happened:  `cutor events {parked.id}{of}`",
        f"try again:      `cutor parked retry {parked.id}{of}`",
        f"let it be:      `cutor parked drop {parked.id}{of}`",
    ]
