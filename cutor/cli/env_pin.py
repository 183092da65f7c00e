"""``cutor env pin`` and ``unpin``: environments that no collection takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli.env_list import KEY_CHARACTERS
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.journal.environments import Environments
from cutor.model.catalogue import Entry
from cutor.model.collection import stands
from cutor.operations.catalogue import Catalogue, EnvironmentUnknown


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one key; ``new`` is false where it was so already, ``stands`` where nothing is built under it now."""

    key: str
    pinned: bool
    new: bool
    stands: bool


keys_argument = click.argument("keys", metavar="KEY...", nargs=-1, required=True)


@click.command("pin", epilog=examples("cutor env pin 866fa535"))
@keys_argument
@json_option
@server_option
@click.pass_obj
def pin_command(wanted: Wanted, keys: tuple[str, ...]) -> None:
    """Keep environments from every collection.

    A pin is of the key: it outlasts a removal, and holds for what is built under the key again. Where nothing stands under it
    now, that is said. With --json one array.
    """
    _report(wanted, asyncio.run(_pin(wanted.find_server(), keys, pinned=True)))


@click.command("unpin", epilog=examples("cutor env unpin 866fa535"))
@keys_argument
@json_option
@server_option
@click.pass_obj
def unpin_command(wanted: Wanted, keys: tuple[str, ...]) -> None:
    """Take pins back.

    Collections treat the environments as any others. With --json one array.
    """
    _report(wanted, asyncio.run(_pin(wanted.find_server(), keys, pinned=False)))


def check_shared(entries: Iterable[Entry]) -> None:
    """Raise `EnvironmentUnknown` for one that a single submission has for itself: it goes with that, pinned or not."""
    for entry in entries:
        if entry.private_to is not None:
            raise EnvironmentUnknown(
                f"{entry.key[:KEY_CHARACTERS]} is of {entry.private_to} alone (`cache: false`): no other will use it"
            )


async def _pin(server: str, prefixes: Sequence[str], *, pinned: bool) -> list[Pin]:
    """Pin or unpin; every key is looked up before the first is."""
    async with Bus.connect(server, name="cutor env") as bus:
        catalogue, environments = Catalogue(bus), Environments(bus)
        await environments.check_written("env-pinned" if pinned else "env-unpinned")
        found = {entry.key: entry for entry in [await catalogue.find(prefix) for prefix in prefixes]}
        if pinned:
            check_shared(found.values())
        return [
            Pin(key=key, pinned=pinned, new=await environments.append_pinned(key, pinned=pinned), stands=stands(entry))
            for key, entry in found.items()
        ]


def _report(wanted: Wanted, pins: Sequence[Pin]) -> None:
    if wanted.json:
        print_json(pins)
        return
    for pin in pins:
        state = "pinned" if pin.pinned else "not pinned any more" if pin.new else "not pinned"
        click.echo(f"{pin.key[:KEY_CHARACTERS]} is {state}" + ("" if pin.new else ", as it was"))
        if pin.pinned and not pin.stands:
            click.echo("nothing stands under this key now: the next submission builds it, or `cutor env build`", err=True)
