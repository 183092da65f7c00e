"""The child image of a role: it may be removed while the stack runs, and no submission is to blame for that."""

from __future__ import annotations

import asyncio

from cutor.containers.errors import ContainerError, ImageMissing
from cutor.containers.facts import Facts
from cutor.installation import setup_command
from cutor.roles.step import WorkerUnable
from cutor.roles.sweep import CHECK_S


async def check_image(facts: Facts, image: str) -> None:
    """Make sure that the image of child containers is there, before a lease is spent. Raises `WorkerUnable`."""
    try:
        async with asyncio.timeout(CHECK_S):
            await facts.image_id(image)
    except TimeoutError as error:
        raise WorkerUnable(f"Docker did not say within {CHECK_S:g} s whether it has the child image") from error
    except ImageMissing as error:
        raise WorkerUnable(
            f"the child image {image} is gone: start the stack again, after `{setup_command()}` where there is none at all"
        ) from error
    except (ContainerError, LookupError, TypeError) as error:
        raise WorkerUnable(f"whether the child image is there could not be seen: {error}") from error
