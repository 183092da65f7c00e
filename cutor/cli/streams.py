"""``cutor streams``: the server's streams and consumers beside streams.yaml, its published limits beside the configuration.

Backup and restore, which need neither, are in `streams_backup`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from cutor.bus.connection import Bus
from cutor.bus.errors import BusUnreachable, CredentialRefused, StreamMissing
from cutor.bus.topology import apply, plan
from cutor.bus.topology_diff import Change, FieldChange, Topology
from cutor.bus.waiting import NoAnswer
from cutor.cli.changes import change_text, fields_text, policy_changes
from cutor.cli.options import Seconds, Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.cli.streams_backup import backup_command, redeliver_command, restore_command
from cutor.journal.stack_policy import PolicyMissing, publish_policy, read_policy
from cutor.model.codec import EventError
from cutor.model.limits import Policy
from cutor.model.subjects import STACK
from cutor.model.versions import announcing
from cutor.stack.streams import wanted as wanted_topology

BETWEEN_TRIES_S: Final = 0.5
"""A choice: a server that starts answers within seconds, and half a second later nobody minds."""


class Difference(NamedTuple):
    """What the server holds otherwise than wanted: streams and consumers, and the settings that it publishes."""

    changes: list[Change]
    policy: tuple[FieldChange, ...]
    published: bool


@click.group(
    "streams",
    no_args_is_help=False,
    epilog=examples(
        "cutor streams plan", "cutor streams apply", "cutor streams plan ./streams.yaml", "cutor streams backup ./backup"
    ),
)
def command() -> None:
    """Compare the server's streams with streams.yaml, make them so, back them up, restore them.

    For plan and apply, the file is the shipped one, or `server.streams` of the configuration, or FILE; consumers are made for
    the configured tenants. The configuration is that of --config, else for the stack of this machine the one with which it was
    started.
    """


command.add_command(backup_command)
command.add_command(restore_command)
command.add_command(redeliver_command)
_file_argument = click.argument("file", required=False, type=click.Path(path_type=Path))
_timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Try again for so long while no server answers, or its cluster has no leader yet; else once.",
)


@command.command(
    "plan",
    epilog=examples("cutor streams plan", "cutor streams plan --timeout 60     # a server that was started just now"),
)
@_file_argument
@_timeout_option
@json_option
@server_option
@click.pass_obj
def plan_command(wanted: Wanted, file: Path | None, timeout_s: float) -> None:
    """Show what `apply` would change; change nothing."""
    config = wanted.loaded_of_stack.config
    topology = wanted_topology(config, file)
    difference = asyncio.run(_plan(wanted.find_server(), topology, config.policy(), timeout_s))
    _print(wanted, difference, nothing="the server has streams and consumers as wanted")


@command.command("apply", epilog=examples("cutor streams apply", "cutor streams apply --timeout 60"))
@_file_argument
@_timeout_option
@json_option
@server_option
@click.pass_obj
def apply_command(wanted: Wanted, file: Path | None, timeout_s: float) -> None:
    """Make streams and consumers as wanted, and publish the limits.

    They are read back; the limits are the configured ones. Nothing is ever deleted. A change that NATS refuses is found before
    the first one is made. Builders and runners learn of other limits and tenants when they are started again.
    """
    config = wanted.loaded_of_stack.config
    topology = wanted_topology(config, file)
    difference = asyncio.run(_apply(wanted.find_server(), topology, config.policy(), timeout_s))
    _print(wanted, difference, nothing="streams and consumers were as wanted; the limits are published")
    if difference.policy and difference.published:
        click.echo("note: builders and runners keep to the old limits and tenants until they are started again", err=True)


async def _plan(server: str, topology: Topology, policy: Policy, timeout_s: float) -> Difference:
    async def look() -> Difference:
        async with Bus.connect(server, name="cutor streams plan") as bus:
            published = await _published(bus)
            changes = policy_changes(published, announcing(policy, published))
            return Difference(await plan(bus, topology), changes, published is not None)

    return await _as_soon_as_it_answers(look, timeout_s)


async def _apply(server: str, topology: Topology, policy: Policy, timeout_s: float) -> Difference:
    """Begin once the plan can be made: what is made is made in one go, and told."""
    if timeout_s:
        await _plan(server, topology, policy, timeout_s)
    async with Bus.connect(server, name="cutor streams apply") as bus:
        published = await _published(bus)
        changes = await apply(bus, topology)
        await publish_policy(bus, policy)
        return Difference(changes, policy_changes(published, announcing(policy, published)), published is not None)


async def _as_soon_as_it_answers(look: Callable[[], Awaitable[Difference]], timeout_s: float) -> Difference:
    """Look until a server answers, saying once why not; the last error after `timeout_s`, and at once a refused credential."""
    deadline_s, told = time.monotonic() + timeout_s, False
    while True:
        try:
            return await look()
        except CredentialRefused:
            raise
        except (BusUnreachable, NoAnswer) as error:
            if time.monotonic() + BETWEEN_TRIES_S > deadline_s:
                raise
            if not told:
                click.echo(f"waiting for up to {timeout_s:g} s: {error}", err=True)
                told = True
        await asyncio.sleep(BETWEEN_TRIES_S)


async def _published(bus: Bus) -> Policy | None:
    """Return the policy that the stack publishes, or None where there is none that can be read."""
    try:
        return await read_policy(bus)
    except (PolicyMissing, StreamMissing, EventError):
        return None


def _print(wanted: Wanted, difference: Difference, *, nothing: str) -> None:
    if wanted.json:
        print_json([*map(_document, difference.changes), *_policy_document(difference)])
        return
    for change in difference.changes:
        click.echo(change_text(change))
    if difference.policy:
        said = fields_text(difference.policy) if difference.published else "none are published yet"
        click.echo(f"publish limits: {said}")
    elif not difference.changes:
        click.echo(nothing)


def _document(change: Change) -> dict[str, object]:
    """Return a change as JSON: what is done to which stream or consumer, and every setting with old and new value."""
    return {"change": change.kind, "stream": change.stream, "consumer": change.consumer, "fields": _fields(change.fields)}


def _policy_document(difference: Difference) -> list[dict[str, object]]:
    """Return the change of what is published in the same shape; none where nothing changes."""
    if not difference.policy:
        return []
    return [{"change": "publish", "stream": STACK, "consumer": None, "fields": _fields(difference.policy)}]


def _fields(fields: Sequence[FieldChange]) -> list[dict[str, object]]:
    return [{"field": one.field, "old": one.old, "new": one.new, "refusal": one.refusal} for one in fields]
