"""The Docker volumes that all instances of this machine share: the Nix store and Nix's database."""

from dataclasses import dataclass

from aiodocker import Docker

from cutor.setup.child_image import NAME
from cutor.setup.docker_api import SETUP_LABEL, OneShot, create_volume, run_once

STORE = "cutor-nix-store"
VAR = "cutor-nix-var"
PACKAGES = "cutor-nix-packages"
MAPPED_ROOT = 200_000
"""Host uid and gid that build containers map to root of their user namespace: the owner of store and database."""

INSPECT = f"""set -e
for directory in /nix/store /nix/var; do
  [ "$(stat -c %u $directory)" = {MAPPED_ROOT} ] || chown {MAPPED_ROOT}:{MAPPED_ROOT} $directory
done
for file in /packages/digest /nix/var/cutor-packages; do
  if [ -f $file ]; then cat $file; fi
  echo
done
"""
"""A volume that has its owner is left alone: a daemon gives the store to another group, and may be at work now."""


@dataclass(frozen=True)
class Contents:
    """What the volumes hold, by digests of the package set; an empty string where there is none."""

    packages: str
    built: str


async def ensure(docker: Docker, store: str = STORE, var: str = VAR) -> None:
    """Make the volumes of store and database unless they are there."""
    for name in (store, var):
        await create_volume(docker, name, {SETUP_LABEL: ""})


async def claim(docker: Docker, store: str = STORE, var: str = VAR) -> Contents:
    """Give the store to its owner and read which package set is there and which is built.

    Done at every set-up (0.3 s), since a volume whose first set-up was killed looks like any other from outside.
    """
    shot = OneShot(
        NAME,
        ["/usr/bin/bash", "-c", INSPECT],
        capabilities=["CHOWN"],
        volumes={store: "/nix/store", var: "/nix/var", PACKAGES: "/packages"},
    )
    packages, built = (await run_once(docker, shot, "reading the Nix volumes")).split("\n")[:2]
    return Contents(packages, built)
