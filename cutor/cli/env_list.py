"""``cutor env list``: the environments that stand, with what they take and how much they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.cli.render import print_table
from cutor.cli.rows import UNKNOWN, age
from cutor.model.catalogue import LABEL, PURPOSES, Entry
from cutor.model.units import about
from cutor.operations.catalogue import Catalogue, Given
from cutor.text import escape

HEADINGS: Final = ("key", "state", "size", "uses", "hits", "touched", "used by")
NUMBERS: Final = ("size", "uses", "hits")
KEY_CHARACTERS: Final = 12
"""Of the beginning of a key, in the table; commands take 8 or more."""


@click.command("list", epilog=examples("cutor env list", "cutor env list --all --json"))
@click.option("--all", "everything", is_flag=True, help="Those, too, that were removed.")
@json_option
@server_option
@click.pass_obj
def list_command(wanted: Wanted, everything: bool) -> None:
    """List the environments that stand.

    The one that was built or given to a submission last comes first. The size is that of all store paths that it needs:
    what several need is in the store once. Used by: the labels of the newest submission that was given it, or that itself,
    where it has none; nobody, where no more than a command of `cutor env` asked for it, without labels. With --json one
    array, with everything that the view `environments` knows of each, and that submission as `given`.
    """
    entries, given = asyncio.run(_list(wanted.find_server(), everything=everything))
    if wanted.json:
        print_json([msgspec.structs.asdict(entry) | {"given": given.get(entry.key)} for entry in entries])
        return
    if entries:
        print_table(HEADINGS, lines(entries, given, datetime.now(UTC)), right=NUMBERS, fold="used by")
    if not entries:
        click.echo("no environment was ever built" if everything else "no environment stands")


async def _list(server: str, *, everything: bool) -> tuple[list[Entry], dict[str, Given]]:
    async with Bus.connect(server, name="cutor env") as bus:
        catalogue = Catalogue(bus)
        entries = await catalogue.entries(removed=everything)
        return entries, await catalogue.given(entry.key for entry in entries)


def lines(entries: Iterable[Entry], given: Mapping[str, Given], now: datetime) -> Iterable[Sequence[str]]:
    """Yield the cells of each."""
    for one in entries:
        size = UNKNOWN if one.closure_bytes is None else about(one.closure_bytes)
        uses, hits, touched = str(one.uses), str(one.hits), since(one.touched_at, now)
        yield one.key[:KEY_CHARACTERS], state(one), size, uses, hits, touched, used_by(given.get(one.key))


def state(entry: Entry, *, with_reason: bool = False) -> str:
    """Return in a word or two how it is with an environment; ``with_reason``: also why it was removed."""
    words = ["removed" if entry.removed or entry.built_at is None else "built"]
    if with_reason and entry.removed and entry.removal_reason:
        words[0] += f" ({escape(entry.removal_reason)})"
    words += ["pinned"] if entry.pinned else []
    words += ["private"] if entry.private_to is not None else []
    return ", ".join(words)


def since(time: str | None, now: datetime) -> str:
    """Return how long ago something was: ``3 min ago``."""
    if time is None:
        return UNKNOWN
    return f"{age(max(0, int((now - datetime.fromisoformat(time).replace(tzinfo=UTC)).total_seconds())))} ago"


def used_by(given: Given | None) -> str:
    """Return what a person knows an environment by: labels of a submission that has it, else that submission.

    One of `cutor env` is nobody's, and its id as wide as a terminal: its command stands in its place.
    """
    if given is None:
        return UNKNOWN
    labels = [f"{name}={value}" for name, value in sorted(given.labels.items()) if name != LABEL]
    if labels:
        return ", ".join(labels)
    if (by := PURPOSES.get(given.labels.get(LABEL, ""))) is not None:
        return f"nobody ({by})"
    return given.id if given.tenant == "default" else f"{given.tenant}/{given.id}"
