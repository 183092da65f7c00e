"""An environment that the log knows and the binary cache holds, and that is taken from the store again and again."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from cutor.bus.connection import Bus
from cutor.journal.environments import Environments
from cutor.nix.settings import NixSettings
from tests.attacks.leftovers import docker

SHELL: Final = """
{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { FETCHED = pkgs.runCommand "fetched-TOKEN" { } "echo TOKEN > $out"; }
"""


class FetchedEnvironment:
    """The environment of one campaign on a store: its ``shell``, and who was given it so far."""

    def __init__(self, store: NixSettings) -> None:
        self._store = store
        self.shell = SHELL.replace("TOKEN", secrets.token_hex(8))
        self.users: list[str] = []
        self._path = ""

    async def learn(self, bus: Bus, key: str) -> None:
        """Note the store path that belongs to this environment, which is built by now, and to no other."""
        known = await Environments(bus).find(key)
        assert known is not None
        (self._path,) = (path for path in known.built.closure if "-fetched-" in path)

    async def forget(self) -> None:
        """Take that path from the store, and from Nix's database: as on a host that never had it."""
        await asyncio.to_thread(_delete, self._store, self._path)


def _delete(settings: NixSettings, path: str) -> None:
    volumes = (f"{settings.store_volume}:/nix/store", f"{settings.var_volume}:/nix/var")
    mounts = [word for volume in volumes for word in ("-v", volume)]
    variables = [word for variable in ("NIX_REMOTE=local", "HOME=/tmp") for word in ("-e", variable)]
    options = ["--rm", "--network", "none", "--user", "200000:200000", "--tmpfs", "/tmp:uid=200000", *mounts, *variables]
    docker("run", *options, settings.image, "/usr/bin/nix-store", "--delete", "--ignore-liveness", path)
