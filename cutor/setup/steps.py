"""The steps of set-up in their order, one set-up of a user at a time."""

import asyncio
import fcntl
import re
import secrets
from collections.abc import Coroutine
from typing import IO, Any

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from cutor.config import Surroundings
from cutor.installation import ROOT, image_note
from cutor.model.units import counted
from cutor.setup import base_image, child_image, engine, package_set, purge, volumes, warm
from cutor.setup.console import SetupError, cache_directory, say
from cutor.setup.docker_api import OWNER, sweep, volume_labels


def set_up(*, refresh: bool) -> None:
    """Bring the machine to where submissions can run; what is there already is left alone. Raises SetupError.

    `refresh` takes the packages of Debian of today, where those of an earlier set-up would do.
    """
    alone(_set_up(refresh=refresh))


def undo() -> None:
    """Remove what set-up made: images, Nix volumes, downloads. Raises SetupError."""
    alone(purge.purge())


def alone(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` under a lock, so that two at once don't race. Raises SetupError, also where the engine went away."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    with (cache_directory() / "lock").open("a+") as lock:
        wait_for(lock)
        OWNER.set(name_in(lock))
        try:
            asyncio.run(work)
        except (DockerError, aiohttp.ClientError) as error:
            raise SetupError(f"the Docker Engine refused or went away: {error}") from error


async def _set_up(*, refresh: bool) -> None:
    await engine.ensure()
    async with Docker() as docker:
        if left := await sweep(docker):
            say(f"removed {counted(left, 'container')} that a killed set-up left behind")
        base = await base_image.ensure(docker, refresh=refresh)
        await child_image.ensure(docker, ROOT, base, image_note(Surroundings.read().state_home))
        await volumes.ensure(docker)
        await package_set.ensure(docker, ROOT, refresh=refresh)
        labels = await volume_labels(docker, volumes.PACKAGES) or {}
        contents = await volumes.claim(docker)
        if contents.packages != labels.get("cutor.packages"):
            contents = await refill(docker)
        if contents.built != contents.packages:
            await warm.build(docker, ROOT, contents.packages)
    say("set-up is complete")


async def refill(docker: Docker) -> volumes.Contents:
    """Fill the packages volume anew: an earlier set-up was ended while it did so."""
    say("package set: volume is incomplete, filling it anew")
    await package_set.make(docker, ROOT, refresh=False)
    return await volumes.claim(docker)


def wait_for(lock: IO[str]) -> None:
    """Take the lock; say so where another set-up holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another set-up is running: waiting for its end")
        fcntl.flock(lock, fcntl.LOCK_EX)


def name_in(lock: IO[str]) -> str:
    """The name of this set-up, by which it knows its containers again; made up once, and kept in the file of its lock."""
    lock.seek(0)
    name = lock.read(100).strip()
    if not re.fullmatch(r"[0-9a-f]{12}", name, re.ASCII):
        name = secrets.token_hex(6)
        lock.truncate(0)
        lock.write(f"{name}\n")
        lock.flush()
    return name
