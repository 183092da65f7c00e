"""Removal of what set-up made, as its labels tell. The engine and installed packages stay.

A name alone is no proof: who has made an image or a volume of the same name by hand keeps it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiodocker import Docker

from cutor.config import Surroundings
from cutor.containers.labels import DATA_LABEL, INSTANCE_LABEL
from cutor.errors import CutorError
from cutor.installation import image_note, image_notes
from cutor.setup import base_image, child_image, engine, volumes
from cutor.setup.console import SetupError, announce, cache_directory, say
from cutor.setup.docker_api import SETUP_LABEL, delete_volume, images, remove_image, running_labels, sweep, volume_labels
from cutor.stack import current

COMPOSE_BASE = "cutor-compose-base"
"""What `make compose-base` makes in a checkout, with set-up's label."""
REPOSITORIES = (child_image.REPOSITORY, base_image.REPOSITORY, COMPOSE_BASE)
VOLUMES = (volumes.STORE, volumes.VAR, volumes.PACKAGES)
DIGEST_LABEL = "cutor.packages"
"""On a package set that was made before volumes had set-up's own label."""


@dataclass
class Plan:
    """What goes, by name; and what stays though its name is one of set-up's, each with the command that removes it."""

    volumes: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    directories: list[Path] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)


def refuse_while_stacks_run(current_stack: Path) -> None:
    """Raise SetupError where a stack of this user runs, also one that has no containers at this moment."""
    try:
        running = current.running(current_stack)
    except CutorError as error:
        raise SetupError(str(error)) from error
    if running:
        directories = " and ".join(sorted(stack.data for stack in running))
        raise SetupError(f"the stack of {directories} runs: stop it first (`cutor down --data DIRECTORY`); nothing is removed")


async def refuse_beside_containers(docker: Docker) -> None:
    """Raise SetupError where containers of a stack or role run on this engine, whoever's they are."""
    found = await running_labels(docker, INSTANCE_LABEL)
    if found:
        owners = sorted({labels.get(DATA_LABEL) or f"the instance {labels[INSTANCE_LABEL]}" for labels in found})
        raise SetupError(
            f"containers of {' and '.join(owners)} run on this engine: whoever started that stops it first; nothing is removed"
        )


async def purge() -> None:
    """Remove images, volumes and downloads, also other cutors', once somebody agrees. SetupError where a stack may use them."""
    surroundings = Surroundings.read()
    refuse_while_stacks_run(surroundings.current_stack)
    directories = [path for path in (image_notes(surroundings.state_home), cache_directory()) if path.exists()]
    if await engine.answers():
        async with Docker() as docker:
            await refuse_beside_containers(docker)
            plan = await planned(docker)
            plan.directories = directories
            tell(plan)
            await sweep(docker)
            await remove(docker, plan)
    else:
        plan = Plan(directories=directories)
        say("no Docker Engine answers: images and volumes stay where they are")
        tell(plan)
    image_note(surroundings.state_home).unlink(missing_ok=True)
    for directory in plan.directories:
        remove_directory(directory)


async def planned(docker: Docker, repositories: Sequence[str] = REPOSITORIES, names: Sequence[str] = VOLUMES) -> Plan:
    """Return which volumes of these names, and images in these repositories, set-up made, older recipes' and checkouts' too."""
    plan = Plan()
    for name in names:
        labels = await volume_labels(docker, name)
        if labels is not None and (SETUP_LABEL in labels or DIGEST_LABEL in labels):
            plan.volumes.append(name)
        elif labels is not None:
            plan.kept.append((f"volume {name}", f"docker volume rm {name}"))
    for repository in repositories:
        for image in await images(docker, repository):
            if SETUP_LABEL in image.labels:
                plan.images += sorted(image.names)
            else:
                plan.kept += [(f"image {name}", f"docker image rm {name}") for name in sorted(image.names)]
    return plan


def tell(plan: Plan) -> None:
    """Say what goes and what stays, and go on where somebody agrees. Raises SetupError where not."""
    for what, command in plan.kept:
        say(f"{what} stays: it has no label of set-up's (made by hand, or by an older cutor); `{command}` removes it")
    going = [
        *(f"volume {name}" for name in plan.volumes),
        *(f"image {name}" for name in plan.images),
        *(f"directory {path}" for path in plan.directories),
    ]
    for one in going:
        say(f"to be removed: {one}")
    announce("removing all of that, for every cutor of this machine" if going else "nothing of set-up's is there")


async def remove(docker: Docker, plan: Plan) -> None:
    """Remove volumes and images of a plan. Raises SetupError at one that is in use."""
    for name in plan.volumes:
        if not await delete_volume(docker, name):
            raise SetupError(f"volume {name} is in use: stop the running stacks (`cutor down`)")
        say(f"removed volume {name}")
    for name in plan.images:
        if not await remove_image(docker, name):
            raise SetupError(f"image {name} is in use: stop the running stacks (`cutor down`)")
        say(f"removed image {name}")


def remove_directory(directory: Path) -> None:
    """Remove a directory with all in it. Raises SetupError where something stays, a link in its place among that."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"{directory} cannot be removed: {error}") from error
    say(f"removed {directory}")
