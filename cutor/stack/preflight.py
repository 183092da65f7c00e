"""What must be there before a stack starts, on the side of Docker. Each thing that is missing is one line with its remedy."""

from __future__ import annotations

from typing import Final

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.errors import CutorError
from cutor.jail.protocol import PROTOCOL_VERSION

PROTOCOL_LABEL: Final = "cutor.protocol"
NIX_VERSION_LABEL: Final = "cutor.nix-version"


class PieceMissing(CutorError):
    """Something that `make setup` makes is missing or old."""


async def check_docker(engine: Engine, config: Config) -> None:
    """Check image and volumes of builder and runner. Raises `PieceMissing` and the engine's own errors."""
    for image in sorted({config.docker.image, config.nix.image}):
        labels = await engine.image_labels(image)
        if (found := labels.get(PROTOCOL_LABEL)) != str(PROTOCOL_VERSION):
            raise PieceMissing(
                f"the image {image!r} speaks version {found or 'none'} of the stage protocol, this cutor {PROTOCOL_VERSION}: "
                "build it again with `make setup`"
            )
    for volume in (config.nix.store_volume, config.nix.var_volume, config.nix.packages_volume):
        if await engine.volume_labels(volume) is None:
            raise PieceMissing(f"the Docker volume {volume!r} is missing: make it with `make setup`")


async def remove_containers(engine: Engine, instance: str) -> int:
    """Remove every container of an instance and return how many there were. Raises the engine's own errors."""
    found = await engine.list(instance)
    for container in found:
        await engine.remove(container.id)
    return len(found)
