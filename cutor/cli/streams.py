"""``cutor streams``: the server's streams and consumers beside streams.yaml."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from cutor.bus.connection import Bus
from cutor.bus.topology import apply, plan
from cutor.bus.topology_diff import Change, Topology
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.config import Config
from cutor.journal import Journal
from cutor.stack.streams import wanted as wanted_topology


@click.group("streams", epilog=examples("cutor streams plan", "cutor streams apply", "cutor streams plan ./streams.yaml"))
def command() -> None:
    """Compare the server's streams with streams.yaml, or make them so.

    The file is the shipped one, or `server.streams` of the configuration, or FILE; consumers are made for the configured
    tenants.
    """


_file_argument = click.argument("file", required=False, type=click.Path(path_type=Path))


@command.command("plan", epilog=examples("cutor streams plan"))
@_file_argument
@json_option
@server_option
@click.pass_obj
def plan_command(wanted: Wanted, file: Path | None) -> None:
    """Show what `apply` would change; change nothing."""
    topology = wanted_topology(wanted.loaded.config, file)
    _print(wanted, asyncio.run(_plan(wanted.find_server(), topology)), nothing="the server has streams and consumers as wanted")


@command.command("apply", epilog=examples("cutor streams apply"))
@_file_argument
@json_option
@server_option
@click.pass_obj
def apply_command(wanted: Wanted, file: Path | None) -> None:
    """Make streams and consumers as wanted, read them back, and publish the configured limits.

    Nothing is ever deleted. A change that NATS refuses is found before the first one is made.
    """
    config = wanted.loaded.config
    topology = wanted_topology(config, file)
    changes = asyncio.run(_apply(wanted.find_server(), topology, config))
    _print(wanted, changes, nothing="streams and consumers were as wanted; the limits are published")


async def _plan(server: str, topology: Topology) -> list[Change]:
    async with Bus.connect(server, name="cutor streams plan") as bus:
        return await plan(bus, topology)


async def _apply(server: str, topology: Topology, config: Config) -> list[Change]:
    async with Bus.connect(server, name="cutor streams apply") as bus:
        changes = await apply(bus, topology)
        await Journal(bus).publish_policy(config.policy())
        return changes


def _print(wanted: Wanted, changes: Sequence[Change], *, nothing: str) -> None:
    if wanted.json:
        print_json([_document(change) for change in changes])
        return
    for change in changes:
        click.echo(str(change))
    if not changes:
        click.echo(nothing)


def _document(change: Change) -> dict[str, object]:
    """Return a change as JSON: what is done to which stream or consumer, and every setting with old and new value."""
    fields = [{"field": one.field, "old": one.old, "new": one.new, "refusal": one.refusal} for one in change.fields]
    return {"change": change.kind, "stream": change.stream, "consumer": change.consumer, "fields": fields}
