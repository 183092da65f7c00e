"""What ``cutor doctor`` says of the binary cache: is the key there and nobody else's to read, can the cache be reached."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Final

from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.cli.failures import line_of
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.nix.cache import CachePlace, public_half
from cutor.nix.cache_session import CacheSession, DirectoryMissing, directory_remedy
from cutor.nix.secret_key import SecretKeyUnusable, read_secret_key
from cutor.nix.settings import NixSettings, download_from, upload_setting, upload_to
from cutor.nix.store_session import Away, Refused

WHAT: Final = "binary cache"
TRUST: Final = (
    "put the whole public key of who publishes into nix.cache_public_keys: `cutor doctor` on the builder's host prints it"
)


async def check_cache(engine: Engine, settings: NixSettings) -> AsyncIterator[Finding]:
    """Check what is configured of the cache: nothing is a finding, too. Nothing is changed, and nothing published."""
    upload, download = upload_to(settings), download_from(settings)
    if upload is None and download is None:
        yield ok(WHAT, "none: runners find the environments that this host built (nix.cache_url)")
        return
    if upload is not None:
        yield check_key(settings)
        yield await check_place(engine, settings, upload, f"builders publish to {upload_setting(settings)[1]}", write=True)
    if download is not None:
        what = f"runners fetch from {settings.cache_url} what is signed by {', '.join(settings.cache_public_keys)}"
        yield await check_place(engine, settings, download, what, write=False)


def check_key(settings: NixSettings) -> Finding:
    """Check the secret key, and that this host's runners trust it where they trust any."""
    file = settings.cache_secret_key_file
    assert file is not None, "who publishes has a key"
    try:
        public = public_half(read_secret_key(file))
    except SecretKeyUnusable as error:
        return fail("cache key", line_of(error), "")
    if settings.cache_public_keys and public not in settings.cache_public_keys:
        return warn(
            "cache key", f"{file} holds the key of {public}", "add that to nix.cache_public_keys: runners here don't trust it"
        )
    return ok("cache key", f"{file}, mode 0600, of {public}")


async def check_place(engine: Engine, settings: NixSettings, place: CachePlace, what: str, *, write: bool) -> Finding:
    """Check that store containers reach the cache. A volume is only looked at: whoever writes to a new one first gets it."""
    try:
        if place.mount == "volume" and await engine.volume_labels(place.source) is None:
            return warn(
                WHAT, f"{what}; there is no such volume yet", "the first publication makes it: on the right Docker Engine?"
            )
        async with CacheSession(engine, settings, instance=f"command-{secrets.token_hex(4)}", user="command") as session:
            keys = () if write else settings.cache_public_keys
            await session.probe(place, write=write and place.mount == "directory", public_keys=keys)
    except DirectoryMissing as error:
        return fail(WHAT, f"{what}, which fails: {error.missing}", _remedy(place))
    except ContainerError as error:
        if place.mount is not None and isinstance(error, Refused) and not isinstance(error, Away):
            return fail(WHAT, f"{what}, which fails: {line_of(error)}", TRUST)
        return fail(WHAT, f"{what}, which fails: {line_of(error)}", _remedy(place))
    return ok(WHAT, what)


def _remedy(place: CachePlace) -> str:
    if place.mount == "directory":
        return directory_remedy(place)
    if place.mount == "volume":
        return f"`docker volume inspect {place.source}` shows it; name another one, or remove it where nothing in it is wanted"
    return f"is the server up, and does the Docker network {place.network} (nix.cache_network) reach it?"
