"""Removal of what set-up made outside the repository. The engine and installed packages stay."""

import shutil

from aiodocker import Docker

from deploy.setup import base_image, child_image, engine, volumes
from deploy.setup.console import SetupError, cache_directory, say
from deploy.setup.docker_api import delete_volume, image_names, remove_image, volume_labels


async def purge() -> None:
    """Remove images, volumes and downloads. SetupError where a running stack uses them."""
    if await engine.answers():
        async with Docker() as docker:
            await remove_volumes(docker)
            await remove_images(docker)
    shutil.rmtree(cache_directory(), ignore_errors=True)
    say(f"removed {cache_directory()}")


async def remove_volumes(docker: Docker) -> None:
    """Remove the Nix store, its database and the package set."""
    for name in (volumes.STORE, volumes.VAR, volumes.PACKAGES):
        if await volume_labels(docker, name) is None:
            continue
        if not await delete_volume(docker, name):
            raise SetupError(f"volume {name} is in use: stop the running stacks (`cutor down`)")
        say(f"removed volume {name}")


async def remove_images(docker: Docker) -> None:
    """Remove the child image and all base images, those of older recipes among them."""
    for name in (child_image.NAME, *await image_names(docker, base_image.REPOSITORY)):
        if not await remove_image(docker, name):
            raise SetupError(f"image {name} is in use: stop the running stacks (`cutor down`)")
        say(f"removed image {name}")
