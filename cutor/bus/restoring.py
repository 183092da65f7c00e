"""The mark of a restore that has not ended, in the server that is restored into. Pure.

A restore that dies leaves a server with some streams whole, one in part and the others missing, and nothing in that tells: made
anew by `cutor streams apply`, what is missing would look as if it had never been. So the first stream that a restore makes,
`MARKED`, is made with a note in its metadata which says of what backup. The last thing that a restore does, when every stream
has been compared and every consumer has its place, is to take it away. One stream is enough: nothing is there before it, and
its configuration is changed in one step, in a cluster as well. While the note stands nothing is built upon what is there, and
the restore of that same backup again ends what was begun, where it died between the last comparison and that step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cutor.bus.errors import RestoreUnfinished

MARKED: Final = "BODIES"
"""The first stream of every restore."""
NOTE: Final = "cutor-restoring"
"""The key in its metadata; the value is the backup's `backup_manifest.identity_of`."""

_Config = Mapping[str, Any]


def marked(config: _Config, identity: str) -> dict[str, Any]:
    """Return a stream's configuration with the note."""
    return {**config, "metadata": {**(config.get("metadata") or {}), NOTE: identity}}


def unmarked(config: _Config) -> dict[str, Any]:
    """Return a stream's configuration without it."""
    return {**config, "metadata": {key: value for key, value in (config.get("metadata") or {}).items() if key != NOTE}}


def note_in(config: _Config) -> str | None:
    """Return of which backup part is held, by a stream's configuration; None: no restore stands open."""
    note = (config.get("metadata") or {}).get(NOTE)
    return None if note is None else str(note)


HELD: Final = "holds part of a backup: a restore into it did not end, or still runs: nothing of it may be used"
PAGE: Final = "(docs/how-to/backup.md, “A restore that failed”)"


def unfinished(address: str) -> RestoreUnfinished:
    """Return the error for a restore into a server that holds part of a backup which that restore can't end."""
    return RestoreUnfinished(f"the server at {address} {HELD}: empty the server's store and restore again {PAGE}")


def refuse_part(config: _Config, address: str) -> None:
    """Raise `RestoreUnfinished` where a stream's configuration has the note.

    What may have been appended since is kept by the same restore, where it can end; so that is to be tried first.
    """
    if note_in(config) is not None:
        raise RestoreUnfinished(
            f"the server at {address} {HELD}: run the same restore again, which ends it or says what else is to be done {PAGE}"
        )
