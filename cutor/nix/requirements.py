"""What settings of builds name that Docker must have: what is missing, and whose the store is, each in words with a remedy.

Store and database need no set-up: Docker makes a volume that is missing, and one that is empty is given to the store's owner
before the first build. A package set and networks cannot be made up.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import PurePath
from typing import Final, NamedTuple

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.containers.host_config import BUILD_UID, NO_NETWORK
from cutor.installation import setup_command
from cutor.nix.cache_session import CacheSession, DirectoryMissing, directory_remedy
from cutor.nix.secret_key import SecretKeyUnusable, read_secret_key
from cutor.nix.settings import NixSettings, download_from, upload_to
from cutor.nix.store_session import StoreSession

STORE_SETTINGS: Final = ("store_volume", "var_volume")


class Shortcoming(NamedTuple):
    """Something that keeps builds or runs from working: ``what`` it is of, the fact, and what to do.

    ``passes`` says that the next start of a stack sees to it.
    """

    what: str
    detail: str
    remedy: str
    passes: bool = False


async def package_set(engine: Engine, settings: NixSettings) -> Shortcoming | None:
    """Return what there is to say of the volume with the package set; null where it is there."""
    name = settings.packages_volume
    if await engine.volume_labels(name) is not None:
        return None
    remedy = f"make it with `{setup_command()}`"
    if name != NixSettings().packages_volume:
        remedy = "name one that is there, or make one and put a package set into it (docs/how-to/nixpkgs.md, A checkout)"
    return Shortcoming("volume", f"the Docker volume {name!r} (nix.packages_volume) is missing", remedy)


async def networks(engine: Engine, settings: NixSettings, *, builds: bool = True) -> list[Shortcoming]:
    """Return the networks that are missing: that of builds, where some are made here, and that of the binary cache."""
    named = [("nix.network", settings.network)] if builds else []
    caches = {place.network for place in (upload_to(settings), download_from(settings)) if place is not None}
    named += [("nix.cache_network", network) for network in sorted(caches)]
    return [
        Shortcoming(
            "network",
            f"there is no Docker network {name!r} ({setting})",
            f"make it with `docker network create {name}`, or name another one",
        )
        for setting, name in named
        if name != NO_NETWORK and not await engine.has_network(name)
    ]


async def cache_directories(
    engine: Engine, settings: NixSettings, roles: Collection[str], *, instance: str, data: PurePath
) -> list[Shortcoming]:
    """Return what keeps these roles from the binary cache, as far as files show it: the secret key's, and a directory.

    A volume is made by the first publication. What is reached over a network may come later; a role tells of it once it is
    missed. A container for each directory (0.4 s).
    """
    found = []
    upload = upload_to(settings) if "builder" in roles else None
    download = download_from(settings) if "runner" in roles else None
    if upload is not None and settings.cache_secret_key_file is not None:
        try:
            read_secret_key(settings.cache_secret_key_file)
        except SecretKeyUnusable as error:
            found.append(Shortcoming("cache key", "nothing that is built here is published to the binary cache", str(error)))
    for place in {place for place in (upload, download) if place is not None and place.mount == "directory"}:
        try:
            async with CacheSession(engine, settings, instance=instance, user="command", data=data) as session:
                await session.probe(place, write=place == upload)
        except DirectoryMissing as error:
            found.append(Shortcoming("binary cache", error.missing, directory_remedy(place)))
        except ContainerError as error:
            found.append(Shortcoming("binary cache", f"{place.source}: {error}", directory_remedy(place)))
    return found


async def missing_store(engine: Engine, settings: NixSettings) -> list[str]:
    """Return which of the two settings of the store name a volume that Docker does not have (yet)."""
    return [setting for setting in STORE_SETTINGS if await engine.volume_labels(getattr(settings, setting)) is None]


async def store_ownership(
    engine: Engine, settings: NixSettings, *, instance: str | None = None, data: PurePath | None = None, adopt: bool = False
) -> dict[str, Shortcoming | None]:
    """Return what there is to say of the volumes of store and database, by setting; null: the store's owner has it.

    With ``adopt`` it is given those that are empty before, which Docker makes where they are missing. Raises `ContainerError`.
    """
    instance = instance or f"command-{secrets.token_hex(4)}"
    async with StoreSession(engine, settings, instance=instance, user="command", data=data) as session:
        found = await session.ownership(adopt=adopt)
    whose = {"store_volume": found.store, "var_volume": found.var}
    return {setting: _told(setting, getattr(settings, setting), owner) for setting, owner in whose.items()}


def _told(setting: str, name: str, owner: str) -> Shortcoming | None:
    volume = f"the Docker volume {name!r} (nix.{setting})"
    if owner == "own":
        return None
    if owner == "new":
        return Shortcoming("volume", f"{volume} is empty, and not the store's yet", "`cutor up` sees to that", passes=True)
    return Shortcoming(
        "volume",
        f"{volume} holds something, and is not uid {BUILD_UID}'s as cutor's stores are",
        "name another one; one that is not there is made",
    )
