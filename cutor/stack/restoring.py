"""`cutor up --restore`: the streams of a backup, before anything else is made in a new data directory.

`cutor up` makes missing streams when it starts. So a start that died within a restore must not be followed by one
that fills the gaps with empty streams and goes on: `<data>/restoring` stands there from just before the first stream until the
last is compared, and a data directory that has it is of no use any more. A start that fails before the first stream (no port
for the server, a backup that this server cannot take) leaves a data directory as good as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from cutor.bus.backup_manifest import Manifest
from cutor.bus.connection import EVENTS, Bus
from cutor.bus.errors import BusError
from cutor.errors import REFUSED, CutorError
from cutor.journal import backup
from cutor.private_files import write_privately
from cutor.stack import current
from cutor.stack.data import DataDirectory, DataDirectoryUnusable, command_for
from cutor.stack.keeper import Orders, first_of
from cutor.stack.server import KeptServer, StoppedAtItsStart

ONE_COPY: Final = 1
"""The embedded server is in no cluster."""
LOOK_S: Final = 5.0
"""A stack whose server does not answer for so long is not looked at."""


class OriginalRuns(CutorError):
    """The stack that a backup was made of still runs, and both would work on what was queued; the message names it."""

    exit_code = REFUSED


async def refuse_beside_original(manifest: Manifest, current_file: Path) -> None:
    """Raise `OriginalRuns` where a running stack of this user is the one that the backup was made of.

    The two would share no file, port, container or name; but each would run what the backup has queued, and commands would talk
    to the new one, which knows nothing of what the old one was handed since. Not for a stack without builder and runner.
    """
    for stack in current.running(current_file):
        try:
            async with asyncio.timeout(LOOK_S), Bus.connect(stack.server, name="cutor up --restore") as bus:
                created = str((await bus.stream_info(EVENTS))["created"])
        except (BusError, TimeoutError):
            continue  # it cannot be asked: nothing is claimed
        if manifest.is_of(EVENTS, created):
            down = command_for("down", Path(stack.data))
            raise OriginalRuns(
                f"the stack of {stack.data}, which the backup is of, runs: both would run what was queued; stop it first "
                f"(`{down}`), or look at the backup with `--roles projector`"
            )


def refuse_unfinished(data: DataDirectory) -> None:
    """Raise `DataDirectoryUnusable` where a restore into it did not end."""
    if data.restoring.exists():
        raise DataDirectoryUnusable(
            f"a restore into {data.path} did not end, and its streams are not whole: restore into another data directory"
        )


@asynccontextmanager
async def restored(
    data: DataDirectory,
    directory: Path | None,
    server: KeptServer,
    orders: Orders,
    say: Callable[[str], None],
    *,
    apart_from: Path | None,
) -> AsyncIterator[None]:
    """Run the server while the block lasts, with the streams of a backup if there is one. Under the data directory's lock.

    ``apart_from`` is the current-stack file of a stack that works: none of the others there may be that of the backup.
    Backup and data directory are checked before the server starts: `BackupUnusable`, `ManifestInvalid`, `OriginalRuns` and
    `DataDirectoryUnusable` mean that nothing was made, the server's `ServerFailed` and `RestoreRefused` that no stream was.
    Then as `cutor.journal.backup.restore`, and `StoppedAtItsStart`.
    """
    manifest = None if directory is None else await _checked(data, directory)
    if manifest is not None and apart_from is not None:
        await refuse_beside_original(manifest, apart_from)
    async with server:
        if directory is not None and manifest is not None:
            say(f"restoring the streams of {directory}")
            await _carry_out(data, directory, manifest, server.url, orders)
            say(f"the streams are restored as they were at {manifest.made_at}")
        yield


async def _checked(data: DataDirectory, directory: Path) -> Manifest:
    """Return the manifest of a backup, after a look at both; that the server has no streams, it says itself once it runs."""
    if any(data.server.glob("jetstream/*/streams/*")):
        raise DataDirectoryUnusable(f"{data.path} has streams already: `--restore` takes one without any (`--data NEW`)")
    manifest = backup.read(directory)
    await backup.verify(directory, manifest)
    return manifest


async def _carry_out(data: DataDirectory, directory: Path, manifest: Manifest, server: str, orders: Orders) -> None:
    """Restore every stream into the server, which has none. Raises `StoppedAtItsStart`, with or without the mark."""
    done = asyncio.Event()

    async def restore() -> None:
        async with Bus.connect(server, name="cutor up --restore") as bus:
            mark = partial(write_privately, data.restoring, f"{directory}\n".encode())
            await backup.restore(bus, directory, manifest, replicas=ONE_COPY, begin=mark)
        data.restoring.unlink()
        done.set()

    await first_of(restore(), orders.stop.wait())
    if not done.is_set():
        raise StoppedAtItsStart("stopped before the streams were restored")
