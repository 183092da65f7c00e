"""``cutor env remove``: environments that no submission is given any more."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli.env_list import KEY_CHARACTERS
from cutor.cli.env_pin import keys_argument
from cutor.cli.host_store import collecting, warn_of_another_store
from cutor.cli.interruption import run
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import print_json
from cutor.client.client import check_reason
from cutor.errors import REFUSED, CutorError
from cutor.journal.environments import Environments
from cutor.model.environments import EnvironmentRemoved
from cutor.operations.catalogue import Catalogue

REASON: Final = "removed by an operator"
NOT_TRIED: Final = "the store was not asked"


class PinnedEnvironment(CutorError):
    """A pinned environment is not removed by chance."""

    exit_code = REFUSED


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one key. ``removed``: the log has given it up now; false where it had before.

    ``held``: why this host's store keeps its paths from the next collection; null where it does not.
    """

    key: str
    removed: bool
    held: str | None


@click.command(
    "remove", epilog=examples("cutor env remove 866fa535", 'cutor env remove 866fa535 a0a918f7 --reason "old course"')
)
@keys_argument
@click.option("--reason", metavar="TEXT", help="Why; it is kept with the removal.")
@json_option
@server_option
@click.pass_obj
def remove_command(wanted: Wanted, keys: tuple[str, ...], reason: str | None) -> None:
    """Give environments up.

    The next submission that brings the same files has its built anew. Runs that are going on are not disturbed. What this
    host's store keeps for it is freed for the next `cutor gc`; where no Docker Engine answers here, or something runs in the
    environment, a later `cutor gc` on the host with the store does that. A pinned one is refused: unpin it first. With --json
    one array; after an error or Ctrl-C, what was done by then stands beside `error` as `removals`.
    """
    check_reason(reason)
    removals: dict[str, Removal] = {}
    warn_of_another_store(wanted)
    try:
        run(_remove(wanted, keys, reason or REASON, removals))
    finally:
        _report(wanted, [*removals.values()])


def _report(wanted: Wanted, removals: Sequence[Removal]) -> None:
    """Print what was removed: also where an error or an interruption follows, and how far it had come by then."""
    if not wanted.json:
        for removal in removals:
            click.echo(_line(removal))
    elif (error := sys.exc_info()[0]) is None:
        print_json(removals)
    elif removals or issubclass(error, KeyboardInterrupt):
        wanted.done_so_far = {"removals": removals}


async def _remove(wanted: Wanted, prefixes: Sequence[str], reason: str, removals: dict[str, Removal]) -> None:
    """Remove from the log, then from the store, and put down each; every key is looked up before the first is removed."""
    async with Bus.connect(wanted.find_server(), name="cutor env") as bus:
        catalogue, environments = Catalogue(bus), Environments(bus)
        keys = list(dict.fromkeys([(await catalogue.find(prefix)).key for prefix in prefixes]))
        for key in keys:
            if (await environments.state(key)).pinned:
                raise _pinned(key)
        await environments.check_written("env-removed")
        for key in keys:
            removals[key] = Removal(key=key, removed=await _give_up(environments, key, reason), held=NOT_TRIED)
    held = await release_roots(wanted, keys)
    for key in keys:
        removals[key] = msgspec.structs.replace(removals[key], held=held.get(key))


async def _give_up(environments: Environments, key: str, reason: str) -> bool:
    """Return whether the log gives a key up now. Raises `PinnedEnvironment` for one that was pinned by now."""
    if await environments.append_removed(EnvironmentRemoved(key=key, reason=reason), "operator", unless_pinned=True):
        return True
    if (await environments.state(key)).built is not None:
        raise _pinned(key)
    return False


def _pinned(key: str) -> PinnedEnvironment:
    short = key[:KEY_CHARACTERS]
    return PinnedEnvironment(f"{short} is pinned: `cutor env unpin {short}` first")


async def release_roots(wanted: Wanted, keys: Sequence[str]) -> dict[str, str]:
    """Let this host's store keep these keys no more; return why it keeps some."""
    try:
        async with collecting(wanted) as collector:
            return await collector.release(keys)
    except CutorError as error:
        return dict.fromkeys(keys, str(error))


def _line(removal: Removal) -> str:
    name = removal.key[:KEY_CHARACTERS]
    log = f"{name} is removed" if removal.removed else f"{name} was removed before"
    if removal.held is None:
        return f"{log}; `cutor gc` deletes what nothing else needs of it"
    return f"{log}; its paths stay in the store for now: {removal.held}"
