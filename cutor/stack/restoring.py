"""`cutor up --restore`: the streams of a backup, before anything else is made in a new data directory.

`cutor up` makes missing streams when it starts. So a start that died within a restore must not be followed by one
that fills the gaps with empty streams and goes on: `<data>/restoring` stands there from before the first stream until the last
is compared, and a data directory that has it is of no use any more.
"""

from __future__ import annotations

from pathlib import Path

from cutor import backup
from cutor.bus.backup_manifest import Manifest
from cutor.bus.connection import Bus
from cutor.stack.data import DataDirectory, DataDirectoryUnusable, write_privately

ONE_COPY = 1
"""The embedded server is in no cluster."""


def refuse_unfinished(data: DataDirectory) -> None:
    """Raise `DataDirectoryUnusable` where a restore into it did not end."""
    if data.restoring.exists():
        raise DataDirectoryUnusable(
            f"a restore into {data.path} did not end, and its streams are not whole: restore into another data directory"
        )


async def begin(data: DataDirectory, directory: Path) -> Manifest:
    """Check the backup and the data directory; from here on it is one that is being restored into. Under its lock.

    Raises `BackupUnusable`, `ManifestInvalid`, `DataDirectoryUnusable`; nothing was made then.
    """
    if (data.server / "jetstream").exists():
        raise DataDirectoryUnusable(f"{data.path} has streams already: `--restore` takes a data directory without any")
    manifest = backup.read(directory)
    await backup.verify(directory, manifest)
    write_privately(data.restoring, f"{directory}\n".encode())
    return manifest


async def carry_out(data: DataDirectory, directory: Path, manifest: Manifest, server: str) -> None:
    """Restore every stream into the server, which has none. Raises as `cutor.backup.restore`."""
    async with Bus.connect(server, name="cutor up --restore") as bus:
        await backup.restore(bus, directory, manifest, replicas=ONE_COPY)
    data.restoring.unlink()
