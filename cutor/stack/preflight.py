"""What must be there before a stack starts, on the side of Docker. Each thing that is missing is one line with its remedy."""

from __future__ import annotations

import asyncio
from typing import Final

from cutor.config import Config
from cutor.containers.engine import REQUEST_TIMEOUT_S, Engine
from cutor.containers.errors import EngineFailure, EngineUnreachable
from cutor.errors import CutorError
from cutor.jail.protocol import PROTOCOL_VERSION

PROTOCOL_LABEL: Final = "cutor.protocol"
NIX_VERSION_LABEL: Final = "cutor.nix-version"


class PieceMissing(CutorError):
    """Something that `make setup` makes is missing or old."""


class ContainersStuck(EngineFailure):
    """Docker does not let go some containers; the others are removed. The message names one, and what Docker said of it."""


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


async def remove_containers(engine: Engine, instance: str, *, within_s: float = REQUEST_TIMEOUT_S) -> int:
    """Remove every container of an instance, ``within_s`` seconds for each and all at once; return how many there were.

    Raises `ContainersStuck` once all were tried, and `EngineUnreachable`.
    """
    found = await engine.list(instance)
    failures = await asyncio.gather(*(_failure(engine, container.id, within_s) for container in found))
    stuck = [(container.name, failure) for container, failure in zip(found, failures, strict=True) if failure is not None]
    for _name, failure in stuck:
        if isinstance(failure, EngineUnreachable):
            raise failure
    if stuck:
        name, why = stuck[0]
        raise ContainersStuck(f"Docker does not let go {len(stuck)} of {len(found)} containers; of {name} it says: {why}")
    return len(found)


async def _failure(engine: Engine, container_id: str, within_s: float) -> EngineFailure | None:
    """Remove a container; return why that failed, None where it did not."""
    try:
        async with asyncio.timeout(within_s):
            await engine.remove(container_id)
    except EngineFailure as error:
        return error
    except TimeoutError:
        return EngineFailure(f"nothing within {within_s:g} s")
    return None
