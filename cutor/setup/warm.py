"""Building the offline package set into the store volume, ahead of the first submission."""

from collections.abc import Sequence
from pathlib import Path

from aiodocker import Docker

from cutor.setup.child_image import NAME
from cutor.setup.console import step
from cutor.setup.docker_api import OneShot, run_once
from cutor.setup.volumes import MAPPED_ROOT, PACKAGES, STORE, VAR

SCRIPT = Path("cutor/setup/nix/warm.py")


def build_shot(command: Sequence[str], store: str = STORE, var: str = VAR) -> OneShot:
    """The container that runs `command` with Nix: the store's owner, no capability, no network, a read-only root."""
    owner = f"mode=700,uid={MAPPED_ROOT},gid={MAPPED_ROOT}"
    return OneShot(
        NAME,
        command,
        volumes={store: "/nix/store", var: "/nix/var", PACKAGES: "/packages"},
        user=f"{MAPPED_ROOT}:{MAPPED_ROOT}",
        host_config={
            "ReadonlyRootfs": True,
            "Tmpfs": {
                "/tmp": f"rw,nosuid,nodev,{owner},size=64m",  # noqa: S108 - in the container
                "/build": f"rw,nosuid,nodev,exec,{owner},size=2g",
            },
        },
    )


async def build(docker: Docker, root: Path, digest: str) -> None:
    """Build and root every package of the set whose digest is `digest`."""
    command = ["/usr/bin/python3", "-c", (root / SCRIPT).read_text(), digest]
    with step("package set: building it into the Nix store"):
        await run_once(docker, build_shot(command), "building the package set")
