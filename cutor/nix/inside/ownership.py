"""Whose the volumes are on which a store container works: a new one is given to the store's owner, any other is left alone.

A new volume is root's and empty. Root of the container can give it away before it has become nobody, where it has CHOWN; what
holds anything already is somebody's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from cutor.nix.inside.namespace import HOST_ID_BASE

STORE: Final = Path("/nix/store")
VAR: Final = Path("/nix/var")

Ownership = Literal["own", "new", "foreign"]


def adopt(*places: Path) -> None:
    """Give those that are empty to the store's owner; for root of the container, who may be without the capability."""
    for place in places:
        with suppress(OSError):
            if place.stat().st_uid != HOST_ID_BASE and _is_empty(place):
                os.chown(place, HOST_ID_BASE, HOST_ID_BASE)


def ownership(place: Path) -> Ownership:
    """Return whether a volume is the store's owner's, as root of the namespace sees it; ``new``: nobody has used it."""
    if place.stat().st_uid == 0:
        return "own"
    try:
        return "new" if _is_empty(place) else "foreign"
    except PermissionError:
        return "foreign"


def _is_empty(place: Path) -> bool:
    with os.scandir(place) as entries:
        return next(entries, None) is None
