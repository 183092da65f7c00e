"""``cutor env refresh``: build an environment anew whose key does not say that it would be another one by now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import click

from cutor.bus.connection import Bus
from cutor.cli import interruption
from cutor.cli.env_remove import release_roots
from cutor.cli.env_submission import (
    NOTHING,
    EnvironmentSubmission,
    environment_of,
    facts,
    print_facts,
    timeout_option,
    with_script,
)
from cutor.cli.host_store import collecting
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import exit_code_of_outcome, print_json
from cutor.cli.render import print_result
from cutor.client.client import Client
from cutor.client.submission_directory import file_of
from cutor.errors import INTERRUPTED, CutorError, WaitedTooLong
from cutor.journal.environments import Environments, Known
from cutor.model.catalogue import Entry
from cutor.model.environments import EnvironmentBuilt, EnvironmentRemoved
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Policy, RequestedLimits
from cutor.model.request import SHELL_NIX, Request
from cutor.model.request_checks import check_tenant, some_tenants
from cutor.model.result import Result
from cutor.model.subjects import DEFAULT_TENANT, Address
from cutor.operations.catalogue import Catalogue, EnvironmentUnknown
from cutor.projections.queries.client import query
from cutor.undisturbed import to_the_end

REASON: Final = "it is to be built anew"


TRIES: Final = 10
"""How often the old one's roots are asked for: the run that tried the new one may just be ending."""
TRY_S: Final = 1.0
"""Between two of them. A choice: a run that ends takes a second or less to be cleared away."""


WAS: Final = "is what it was: submissions are given that"
UNKNOWN: Final = "is not known: submissions that need it build it"


class RefreshSubmission(EnvironmentSubmission):
    """The submission of a refresh, which nobody needs who does not wait for it.

    ``left``: what became of it and of the key, for who ends the command before its time.
    """

    def __init__(self, timeout_s: float | None) -> None:
        super().__init__("env-refresh", timeout_s)
        self.left = "nothing was changed"

    def ended_early(self) -> int:
        """Say after Ctrl-C or SIGTERM how the key stands, and return the exit code."""
        click.echo(f"cutor: interrupted: {self.left}", err=True)
        return INTERRUPTED


class Refreshed(NamedTuple):
    """What an environment was, and what came of building it anew.

    ``stands``: it is what it was, and submissions are given that. ``held``: why this host's store still keeps what it was.
    """

    before: Entry
    result: Result
    built: EnvironmentBuilt | None
    stands: bool = False
    held: str | None = None


@click.command("refresh", epilog=examples("cutor env refresh 3f2a9c01", "cutor env refresh 3f2a9c01 --tenant courses --json"))
@click.argument("key", metavar="KEY")
@click.option(
    "--tenant",
    metavar="NAME",
    help="Who hands it in, else the tenant of the last submission that used it, else default, where that is declared no more.",
)
@partial(timeout_option, then="then it is cancelled, and the old one stands again")
@json_option
@server_option
@click.pass_obj
def refresh_command(wanted: Wanted, key: str, tenant: str | None, timeout_s: float | None) -> int:
    """Build an environment anew.

    For one that leads somewhere else by now: a channel, or an address without a hash. The files are those of the last
    submission that used it. First the log says that the environment is gone, so that the next submission builds it; then
    it is built as `cutor env build` does it. Where that fails, the old one stands again: its paths are kept until the new one
    is there, by a pin that is taken back in the end. So it does where that is not waited for (`--timeout`, Ctrl-C, SIGTERM):
    the build is cancelled then, and the last line says what stands. Only where this command is killed by force meanwhile the
    old one is not known any more, submissions that need it try themselves, and the pin stays (`cutor env unpin`). KEY may be
    its first characters, eight at least.

    Exit codes: 0 it stands, whether it changed or not; otherwise those of `cutor env build`.
    """
    attempt = RefreshSubmission(timeout_s)
    try:
        done = interruption.run(_refresh(wanted, attempt, key, tenant))
    except KeyboardInterrupt:
        return attempt.ended_early()
    _report(wanted, done, attempt)
    return exit_code_of_outcome(done.result)


async def _refresh(wanted: Wanted, attempt: RefreshSubmission, prefix: str, tenant: str | None) -> Refreshed:
    async with Client(wanted.find_server(), archive=wanted.archive_directory) as client:
        bus = client.journal.bus
        environments = Environments(bus)
        await environments.check_written("env-pinned", "env-unpinned", "env-removed", "env-built")
        entry = await Catalogue(bus).find(prefix)
        if entry.private_to is not None:
            raise EnvironmentUnknown(f"{entry.key[:12]} is of {entry.private_to} alone (`cache: false`): no other will use it")
        address = await _last_user(bus, entry.key)
        policy = await client.policy()
        for_tenant = _tenant(address, tenant, policy)
        request = await _request(client, address, policy)
        async with _kept(environments, entry.key):
            old = await environments.find(entry.key, consistent=True)
            attempt.left = f"`cutor env show {entry.key[:12]}` says what stands now"
            try:
                await to_the_end(environments.append_removed(EnvironmentRemoved(key=entry.key, reason=REASON), "refresh"))
                result = await attempt.run(client, request, for_tenant)
                built = await environment_of(client, result)
            except BaseException as error:
                await to_the_end(_give_up(client, environments, attempt, entry.key, old))
                if isinstance(error, WaitedTooLong):
                    raise WaitedTooLong(
                        f"the refresh has not ended within its time: {attempt.left}", details=error.details
                    ) from error
                raise
            attempt.left = f"{entry.key[:12]} was tried anew, which had ended"
            if result.outcome != "OK":
                return Refreshed(entry, result, built, stands=await to_the_end(_put_back(environments, old)))
            return Refreshed(entry, result, built, held=await _leave(wanted, old, built))


async def _give_up(client: Client, environments: Environments, attempt: RefreshSubmission, key: str, old: Known | None) -> None:
    """Cancel what was handed in, which would be given the old one, and have that stand again; note both.

    It may be too late for that: what was built meanwhile stands.
    """
    try:
        became = await attempt.cancel(client, "the refresh was not waited for")
    finally:
        await _put_back(environments, old)
    known = await environments.find(key, consistent=True)
    attempt.left = f"{became}; {key[:12]} {_standing(known, old)}"


def _standing(known: Known | None, old: Known | None) -> str:
    """Return how a key stands, in words behind it."""
    if known is None:
        return UNKNOWN
    if old is not None and known.built == old.built:
        return WAS
    return "is built anew all the same: submissions are given that"


@asynccontextmanager
async def _kept(environments: Environments, key: str) -> AsyncIterator[None]:
    """Pin a key while the block lasts: no collection, on any host, takes the roots of what may have to stand again.

    The pins of others stay, an operator's or another refresh's, whether they came before or meanwhile.
    """
    sequence = await environments.append_own_pin(key)
    try:
        yield
    finally:
        await to_the_end(environments.take_back(key, sequence))


async def _put_back(environments: Environments, old: Known | None) -> bool:
    """Have the old one stand again, where none was built since; return whether it does."""
    return old is not None and await environments.put_back(old.built)


async def _leave(wanted: Wanted, old: Known | None, new: EnvironmentBuilt | None) -> str | None:
    """Let this host's store keep no more what the old one was and the new one is not; return why it does for now."""
    if old is None or new is None:
        return None
    key = old.built.key
    if new.key != key:
        return (await release_roots(wanted, [key])).get(key)
    paths = sorted({*old.built.closure} - {*new.closure})
    held = None
    try:
        for _ in range(TRIES if paths else 0):
            async with collecting(wanted) as collector:
                if (held := await collector.trim(key, paths)) is None:
                    break
            await asyncio.sleep(TRY_S)
    except CutorError as error:
        return str(error)
    return held


async def _last_user(bus: Bus, key: str) -> Address:
    """Return the submission that was given an environment last. Raises `EnvironmentUnknown` where none is known."""
    sql = f"SELECT tenant, id FROM submissions WHERE environment_key = '{key}' ORDER BY last_sequence DESC LIMIT 1"  # noqa: S608 - a key is hex
    for tenant, submission_id in (await query(bus, sql)).rows:
        return Address(tenant, submission_id)
    raise EnvironmentUnknown(
        f"no submission that used {key[:12]} is in the log, which would have its files: `cutor env build` builds it from yours"
    )


def _tenant(last_user: Address, named: str | None, policy: Policy) -> str:
    """Return for which tenant it is handed in. Raises `InvalidRequest`, before anything is changed, where none is left."""
    wanted = last_user.tenant if named is None else named
    if named is not None or wanted in policy.tenants:
        check_tenant(wanted, policy)
        return wanted
    undeclared = f"tenant {wanted!r} of the last submission that used it is not declared any more"
    if DEFAULT_TENANT not in policy.tenants:
        raise InvalidRequest(f"{undeclared}: name another one by --tenant; this stack has: {some_tenants(policy)}")
    click.echo(f"note: {undeclared}: this is handed in for {DEFAULT_TENANT}", err=True)
    return DEFAULT_TENANT


async def _request(client: Client, address: Address, policy: Policy) -> Request:
    """Return a request of what decides the environment of a submission. Raises `InvalidRequest`, `SubmissionUnknown`."""
    state = await client.journal.known(address)
    stored = await client.journal.contents.load_request(address, state.request, policy.bounds)
    names = dict.fromkeys((SHELL_NIX, *stored.environment_files))
    files = tuple(file_of(name, stored.files[name]) for name in names)
    request = Request(
        files=files,
        test_cases=(),
        tenant=address.tenant,
        environment_files=stored.environment_files,
        limits=RequestedLimits(dependencies=stored.limits.dependencies),
    )
    return with_script(request, NOTHING, cache=True)


def _report(wanted: Wanted, done: Refreshed, attempt: EnvironmentSubmission) -> None:
    before, result = done.before, done.result
    if wanted.json:
        told = {} if result.environment is None else facts(result, done.built)
        was = {"key": before.key, "derivation": before.derivation, "stands": done.stands, "held": done.held}
        print_json(told | {"before": was, "result": result})
    elif result.outcome != "OK" or result.environment is None:
        print_result(result, shown=attempt.shown)
        now = WAS if done.stands else UNKNOWN
        click.echo(f"cutor: {before.key[:12]} {now}", err=True)
    else:
        same = result.environment.derivation == before.derivation
        print_facts(result, done.built, ("before", "the same derivation" if same else before.derivation or ""))
        if result.environment.key != before.key:
            click.echo(f"the key was {before.key}: package set, Nix or settings have changed since")
        if done.held is not None:
            click.echo(f"what it was stays in the store of this host for now: {done.held}")
