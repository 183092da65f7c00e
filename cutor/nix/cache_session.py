"""Copies between this host's store and a binary cache: one in one store container, by Nix's own ``nix copy``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cutor.containers.child import Child
from cutor.containers.errors import EngineRefused
from cutor.containers.host_config import BUILD_UID, Mount
from cutor.nix.cache import CachePlace
from cutor.nix.store_report import CopiedHeader, KeyPairHeader
from cutor.nix.store_session import OnCount, StoreSession

GRACE_S: Final = 60.0
"""How much longer than a copy may take its report is waited for."""


NO_SOURCE: Final = "bind source path does not exist"
"""How Docker says that a directory is not there which is to be mounted."""


class DirectoryMissing(EngineRefused):
    """The directory of a cache is not there, or no directory; ``missing`` says so alone, the message what to do as well."""

    def __init__(self, place: CachePlace) -> None:
        self.missing = f"there is no directory {place.source}"
        super().__init__(f"{self.missing}, which is to be the binary cache: {directory_remedy(place)}")


def directory_remedy(place: CachePlace) -> str:
    """Return what makes a directory one that a cache can be in."""
    return f"on the host of this Docker Engine: `install -d -m 755 -o {BUILD_UID} -g {BUILD_UID} {place.source}`"


class CacheSession(StoreSession):
    """A `StoreSession` for one job that has to do with a cache; `Refused` tells why Nix did not do it."""

    async def publish(
        self, place: CachePlace, secret_key: str, closure: Sequence[str], on_count: OnCount | None = None
    ) -> None:
        """Copy a closure of the store into a cache, signed by ``secret_key``; it may be done again, and by several at once.

        The key goes to the container by its standard input, and lies in its memory.
        """
        secret = secret_key.encode()
        header = {"url": place.url, "secret_bytes": len(secret), "seconds": self._copy_seconds}
        child = await self._begin_at(place, "publish", header, secret + _lines(closure), write=True)
        await self._result(child, CopiedHeader, on_count, self._copy_seconds + GRACE_S)

    async def fetch(
        self, place: CachePlace, public_keys: Sequence[str], key: str, closure: Sequence[str], on_count: OnCount | None = None
    ) -> None:
        """Copy what the store lacks of an environment's closure from a cache, and root it under its ``key``.

        `Refused` where the cache lacks something, or where what it has is not signed by one of ``public_keys``, or was altered:
        no valid path comes of that. `Away` where it does not answer. It may be done again, and by several at once.
        """
        header = {"url": place.url, "public_keys": list(public_keys), "key": key, "seconds": self._copy_seconds}
        child = await self._begin_at(place, "fetch", header, _lines(closure))
        await self._result(child, CopiedHeader, on_count, self._copy_seconds + GRACE_S)

    async def probe(self, place: CachePlace, *, write: bool, path: str = "", public_keys: Sequence[str] = ()) -> None:
        """See that a cache can be reached, and be written to where that is wanted (which is not tried over HTTP).

        Over HTTP it is asked for a store ``path``, too, if any: `Away` where it does not say whether it has that.
        One that is mounted is `Refused` where it has signed paths, and none of the first few by one of ``public_keys``, if any.
        """
        header = {"url": place.url, "write": write, "path": path, "public_keys": list(public_keys)}
        child = await self._begin_at(place, "probe", header, write=write)
        await self._result(child, CopiedHeader)

    async def key_pair(self, name: str) -> tuple[str, str]:
        """Return a new secret key for signing, and the public one that belongs to it, as Nix makes them."""
        pair = await self._result(await self._begin("key-pair", {"name": name}), KeyPairHeader)
        return pair.secret, pair.public

    @property
    def _copy_seconds(self) -> int:
        return -(-self._settings.cache_timeout_ms // 1000)

    async def _begin_at(
        self, place: CachePlace, job: str, header: dict[str, Any], body: bytes = b"", *, write: bool = False
    ) -> Child:
        """Start a container that reaches the cache, and give it the job. Raises `DirectoryMissing`."""
        mount = None if place.mount is None else Mount(place.mount, place.source, read_only=not write)
        try:
            child = await self._start(self._spec(cache=mount, network=place.network))
        except EngineRefused as error:
            if place.mount == "directory" and NO_SOURCE in str(error):
                raise DirectoryMissing(place) from error
            raise
        await self._give(child, job, header, body)
        return child


def _lines(closure: Sequence[str]) -> bytes:
    return "\n".join(closure).encode()
