"""The Docker volumes that all instances of this machine share: the Nix store and Nix's database."""

from aiodocker import Docker

from deploy.setup.child_image import NAME
from deploy.setup.docker_api import OneShot, run_once

STORE = "cutor-nix-store"
VAR = "cutor-nix-var"
MAPPED_ROOT = 200_000
"""Host uid and gid that build containers map to root of their user namespace: the owner of both volumes."""


async def ensure(docker: Docker) -> None:
    """Make both volumes unless they are there, and give their top directories to the mapped root.

    The owner is set every time (0.2 s): a volume whose first set-up was killed looks like any other from outside.
    """
    for name in (STORE, VAR):
        await docker.volumes.create({"Name": name})
    owner = f"{MAPPED_ROOT}:{MAPPED_ROOT}"
    shot = OneShot(
        NAME,
        ["/usr/bin/chown", owner, "/nix/store", "/nix/var"],
        capabilities=["CHOWN"],
        volumes={STORE: "/nix/store", VAR: "/nix/var"},
    )
    await run_once(docker, shot, "handing the Nix store volumes to their owner")
