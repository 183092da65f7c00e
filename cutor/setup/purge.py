"""Removal of what set-up made. The engine and installed packages stay."""

import shutil
from pathlib import Path

from aiodocker import Docker

from cutor.config import Surroundings
from cutor.errors import CutorError
from cutor.installation import image_note, image_notes
from cutor.setup import base_image, child_image, engine, volumes
from cutor.setup.console import SetupError, cache_directory, say
from cutor.setup.docker_api import delete_volume, images, remove_image, sweep, volume_labels
from cutor.stack import current


def refuse_while_stacks_run(current_stack: Path) -> None:
    """Raise SetupError where a stack of this user runs: Docker says "in use" only of what has containers at this moment."""
    try:
        running = current.running(current_stack)
    except CutorError as error:
        raise SetupError(str(error)) from error
    if running:
        directories = " and ".join(sorted(stack.data for stack in running))
        raise SetupError(f"the stack of {directories} runs: stop it first (`cutor down --data DIRECTORY`); nothing is removed")


async def purge() -> None:
    """Remove images, volumes and downloads, also other cutors'. SetupError where a running stack uses them."""
    surroundings = Surroundings.read()
    refuse_while_stacks_run(surroundings.current_stack)
    if await engine.answers():
        async with Docker() as docker:
            await sweep(docker)
            await remove_volumes(docker)
            await remove_images(docker)
    image_note(surroundings.state_home).unlink(missing_ok=True)
    remove_directory(image_notes(surroundings.state_home))
    remove_directory(cache_directory())


def remove_directory(directory: Path) -> None:
    """Remove a directory with all in it. Raises SetupError where something stays, a link in its place among that."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"{directory} cannot be removed: {error}") from error
    say(f"removed {directory}")


async def remove_volumes(docker: Docker) -> None:
    """Remove the Nix store, its database and the package set."""
    for name in (volumes.STORE, volumes.VAR, volumes.PACKAGES):
        if await volume_labels(docker, name) is None:
            continue
        if not await delete_volume(docker, name):
            raise SetupError(f"volume {name} is in use: stop the running stacks (`cutor down`)")
        say(f"removed volume {name}")


async def remove_images(docker: Docker) -> None:
    """Remove every child image and every base image, those of older recipes and other checkouts among them."""
    for repository in (child_image.REPOSITORY, base_image.REPOSITORY):
        for name in sorted(name for image in await images(docker, repository) for name in image.names):
            if not await remove_image(docker, name):
                raise SetupError(f"image {name} is in use: stop the running stacks (`cutor down`)")
            say(f"removed image {name}")
