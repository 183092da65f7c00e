"""`python -m deploy.setup`: everything that `make setup` does after the Python environment."""

import asyncio
import fcntl
import sys
from pathlib import Path

from aiodocker import Docker

from deploy.setup import base_image, child_image, package_set, volumes, warm
from deploy.setup.console import SetupError, cache_directory, fail, say

ROOT = Path(__file__).resolve().parents[2]


async def set_up(*, refresh: bool) -> None:
    """Bring the machine to where submissions can run; what is there already is left alone."""
    async with Docker() as docker:
        base = await base_image.ensure(docker, refresh=refresh)
        await child_image.ensure(docker, ROOT, base)
        await volumes.ensure(docker)
        await package_set.ensure(docker, ROOT, refresh=refresh)
        labels = await volumes.labels_of(docker, volumes.PACKAGES) or {}
        contents = await volumes.claim(docker)
        if contents.packages != labels.get("cutor.packages"):
            contents = await refill(docker)
        if contents.built != contents.packages:
            await warm.build(docker, ROOT, contents.packages)


async def refill(docker: Docker) -> volumes.Contents:
    """Fill the packages volume anew: an earlier set-up was ended while it did so."""
    say("package set: volume is incomplete, filling it anew")
    await package_set.make(docker, ROOT, refresh=False)
    return await volumes.claim(docker)


def main() -> int:
    """Run set-up under a lock, so that two at once don't race. Returns the exit code."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    with (cache_directory() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            asyncio.run(set_up(refresh="--refresh" in sys.argv[1:]))
        except SetupError as error:
            fail(error)
            return 1
    say("set-up is complete")
    return 0


sys.exit(main())
