"""`python -m deploy.setup`: everything that `make setup` does after the Python environment."""

import argparse
import asyncio
import fcntl
import re
import secrets
import sys
from pathlib import Path
from typing import IO

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from deploy.setup import base_image, child_image, engine, package_set, purge, volumes, warm
from deploy.setup.console import SetupError, cache_directory, fail, say
from deploy.setup.docker_api import OWNER, sweep, volume_labels

ROOT = Path(__file__).resolve().parents[2]


async def set_up(*, refresh: bool) -> None:
    """Bring the machine to where submissions can run; what is there already is left alone."""
    await engine.ensure()
    async with Docker() as docker:
        if left := await sweep(docker):
            say(f"removed {left} containers that a killed set-up left behind")
        base = await base_image.ensure(docker, refresh=refresh)
        await child_image.ensure(docker, ROOT, base)
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


def main() -> int:
    """Run set-up, or with --purge its undoing, under a lock, so that two at once don't race. Returns the exit code."""
    arguments = argparse.ArgumentParser(prog="deploy.setup", description=__doc__)
    arguments.add_argument("--refresh", action="store_true", help="take today's packages of Debian")
    arguments.add_argument("--purge", action="store_true", help="remove images, Nix volumes and downloads")
    chosen = arguments.parse_args()
    cache_directory().mkdir(parents=True, exist_ok=True)
    with (cache_directory() / "lock").open("a+") as lock:
        wait_for(lock)
        OWNER.set(name_in(lock))
        try:
            asyncio.run(purge.purge(ROOT) if chosen.purge else set_up(refresh=chosen.refresh))
        except SetupError as error:
            fail(error)
            return 1
        except (DockerError, aiohttp.ClientError) as error:
            fail(SetupError(f"the Docker Engine refused or went away: {error}"))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
