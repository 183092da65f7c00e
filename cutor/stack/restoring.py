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

from cutor import backup
from cutor.bus.backup_manifest import Manifest
from cutor.bus.connection import Bus
from cutor.stack.data import DataDirectory, DataDirectoryUnusable, write_privately
from cutor.stack.keeper import Orders, first_of
from cutor.stack.server import KeptServer, StoppedAtItsStart

ONE_COPY: Final = 1
"""The embedded server is in no cluster."""


def refuse_unfinished(data: DataDirectory) -> None:
    """Raise `DataDirectoryUnusable` where a restore into it did not end."""
    if data.restoring.exists():
        raise DataDirectoryUnusable(
            f"a restore into {data.path} did not end, and its streams are not whole: restore into another data directory"
        )


@asynccontextmanager
async def restored(
    data: DataDirectory, directory: Path | None, server: KeptServer, orders: Orders, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Run the server while the block lasts, with the streams of a backup if there is one. Under the data directory's lock.

    Backup and data directory are checked before the server starts: `BackupUnusable`, `ManifestInvalid` and
    `DataDirectoryUnusable` mean that nothing was made, the server's `ServerFailed` and `RestoreRefused` that no stream was.
    Then as `cutor.backup.restore`, and `StoppedAtItsStart`.
    """
    manifest = None if directory is None else await _checked(data, directory)
    async with server:
        if directory is not None and manifest is not None:
            say(f"restoring the streams of {directory}")
            await _carry_out(data, directory, manifest, server.url, orders)
            say(f"the streams are restored as they were at {manifest.made_at}")
        yield


async def _checked(data: DataDirectory, directory: Path) -> Manifest:
    """Return the manifest of a backup, after a look at both; that the server has no streams, it says itself once it runs."""
    if any(data.server.glob("jetstream/*/streams/*")):
        raise DataDirectoryUnusable(f"{data.path} has streams already: `--restore` takes a data directory without any")
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
