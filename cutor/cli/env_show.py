"""``cutor env show``: everything that is known of an environment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli.env_list import since, state
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.cli.rows import UNKNOWN
from cutor.journal.environments import Environments
from cutor.model.catalogue import Entry
from cutor.model.environments import EnvironmentBuilding, Programs
from cutor.model.units import about, counted
from cutor.operations.catalogue import Catalogue, Happening, Use
from cutor.text import escape

SHOWN_USES: Final = 5
"""Submissions that are shown of those that used the environment, the newest."""


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """An environment with what the log holds of it: its history, the newest submissions that were given it, and where it
    stands, its store paths and programs. ``building`` is the newest claim that no build has ended: its owner may have ended.
    """

    environment: Entry
    history: list[Happening]
    newest_uses: list[Use]
    closure: tuple[str, ...] | None
    programs: Programs | None
    building: EnvironmentBuilding | None = None


@click.command("show", epilog=examples("cutor env show 866fa535", "cutor env show 866fa535 --json"))
@click.argument("key", metavar="KEY")
@json_option
@server_option
@click.pass_obj
def show_command(wanted: Wanted, key: str) -> None:
    """Show all that is known of an environment.

    How it is, what it takes, how much it is used, what happened to it, and the newest submissions that were given it. With
    --json also its store paths.
    """
    detail = asyncio.run(_show(wanted.find_server(), key))
    if wanted.json:
        print_json(detail)
        return
    for line in lines(detail, datetime.now(UTC)):
        click.echo(line)


async def _show(server: str, prefix: str) -> Detail:
    async with Bus.connect(server, name="cutor env") as bus:
        catalogue = Catalogue(bus)
        entry = await catalogue.find(prefix)
        history, uses, known = await asyncio.gather(
            catalogue.history(entry.key), catalogue.uses(entry.key, SHOWN_USES), Environments(bus).state(entry.key)
        )
        built = known.built
        return Detail(
            environment=entry,
            history=history,
            newest_uses=uses,
            closure=None if built is None else built.closure,
            programs=None if built is None else built.programs,
            building=known.building,
        )


def lines(detail: Detail, now: datetime) -> Iterator[str]:
    """Yield what a person is shown."""
    one = detail.environment
    yield f"environment  {one.key}"
    yield f"state        {state(one, with_reason=True)}"
    if one.private_to is not None:
        yield f"private to   {escape(one.private_to)} (`cache: false`)"
    yield f"derivation   {escape(one.derivation or UNKNOWN)}"
    if one.closure_bytes is not None and one.closure_paths is not None:
        yield f"size         {about(one.closure_bytes)} in {counted(one.closure_paths, 'store path')}"
    if detail.programs is not None:
        yield f"bash         {escape(detail.programs.bash)}"
    if (claim := detail.building) is not None:
        owner = f"{escape(claim.tenant)}/{escape(claim.id)}"
        yield f"claimed      by {owner}, on {escape(claim.worker)}: others wait until that ends"
    yield f"builds       {one.builds}" + (
        f", the last {since(one.built_at, now)} by {escape(one.worker or UNKNOWN)}" if one.built_at else ""
    )
    yield f"uses         {one.uses}, of which {counted(one.hits, 'hit')}" + (
        f", the last {since(one.last_used_at, now)}" if one.last_used_at else ""
    )
    if one.waiting:
        yield f"not ended    {one.waiting} of the submissions that have it"
    if detail.history:
        yield "history"
        for happening in detail.history:
            why = f": {escape(happening.reason)}" if happening.reason else ""
            by = f" by {escape(happening.worker)}" if happening.worker else ""
            yield f"    {happening.at[:19]}Z  {happening.kind}{by}{why}"
    if detail.newest_uses:
        yield "newest submissions"
        for use in detail.newest_uses:
            yield f"    {use.at[:19]}Z  {escape(use.tenant)}/{escape(use.id)}  {use.outcome or use.status}"
