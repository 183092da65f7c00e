"""What must be there before a stack starts, on the side of Docker. Each thing that is missing is one line with its remedy."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.errors import CutorError
from cutor.installation import setup_command
from cutor.jail.inside.protocol import PROTOCOL_VERSION
from cutor.nix import requirements
from cutor.nix.requirements import Shortcoming
from cutor.nix.settings import NixSettings

PROTOCOL_LABEL: Final = "cutor.protocol"
NIX_VERSION_LABEL: Final = "cutor.nix-version"


class PieceMissing(CutorError):
    """Something that a stack needs of Docker is missing or old, or another's."""


async def check_docker(engine: Engine, config: Config, instance: str, data: Path, roles: Collection[str]) -> list[str]:
    """Check image, volumes and networks of builder and runner; return what was made, a line each. Raises as `prepare_store`."""
    for image in sorted({config.docker.image, config.nix.image}):
        labels = await engine.image_labels(image)
        if (found := labels.get(PROTOCOL_LABEL)) != str(PROTOCOL_VERSION):
            raise PieceMissing(
                f"the image {image!r} speaks version {found or 'none'} of the stage protocol, this cutor {PROTOCOL_VERSION}: "
                f"make it anew with `{setup_command()}`"
            )
    return await prepare_store(engine, config.nix, instance, data, roles)


async def prepare_store(engine: Engine, settings: NixSettings, instance: str, data: Path, roles: Collection[str]) -> list[str]:
    """Check what builds and fetches need beside the image, and have the store's volumes made and given to its owner (0.4 s).

    Returns which volumes were made, a line each. Raises `PieceMissing` and the engine's own errors.
    """
    _demand(await requirements.package_set(engine, settings))
    for network in await requirements.networks(engine, settings, builds="builder" in roles):
        _demand(network)
    missing = await requirements.missing_store(engine, settings)
    found = await requirements.store_ownership(engine, settings, instance=instance, data=data, adopt=True)
    for shortcoming in found.values():
        _demand(shortcoming)
    return [f"made the Docker volume {getattr(settings, setting)} (nix.{setting}), which was not there" for setting in missing]


async def check_cache(
    engine: Engine, settings: NixSettings, instance: str, data: Path, roles: Collection[str]
) -> tuple[str, ...]:
    """Return what keeps builders and runners from the binary cache, a line each with its remedy: they start all the same."""
    found = await requirements.cache_directories(engine, settings, roles, instance=instance, data=data)
    return tuple(f"the binary cache can't be used: {one.detail}: {one.remedy}" for one in found)


def _demand(shortcoming: Shortcoming | None) -> None:
    if shortcoming is not None:
        raise PieceMissing(f"{shortcoming.detail}: {shortcoming.remedy}")
