"""The binary cache by which environments get from one host to others: addresses of one, and keys. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from cutor.model.errors import InvalidPolicy

MOUNTED: Final = "file:///cache"
"""How Nix in a store container is told of a volume or directory that is mounted there."""
PUBLIC_BYTES: Final = 32
"""Of the public key of an Ed25519 key pair."""
SECRET_BYTES: Final = 64
"""Of an Ed25519 key pair; the second half of the secret is the public key (libsodium)."""
MAX_KEY_CHARACTERS: Final = 300
"""A name of 128 characters, a colon and 88 of base64 are 217."""
KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_VOLUME: Final = re.compile(r"volume:([A-Za-z0-9][A-Za-z0-9_.-]*)")
_DIRECTORY: Final = re.compile(r"file://(/[A-Za-z0-9_.+@/-]*)")
_KEY: Final = re.compile(rf"({KEY_NAME.pattern}):([A-Za-z0-9+/]+=*)")
_FORMS: Final = "it must be volume:NAME, file:///DIRECTORY, http://HOST/… or https://HOST/…"


class CachePlace(NamedTuple):
    """Where a store container finds a cache: the ``url`` that Nix is told, what is mounted for it, and its Docker network."""

    url: str
    mount: Literal["volume", "directory"] | None
    source: str
    network: str


def place_of(name: str, url: str, network: str) -> CachePlace:
    """Return the place that a setting names. Raises `InvalidPolicy` that names it."""
    if found := _VOLUME.fullmatch(url):
        return CachePlace(MOUNTED, "volume", found[1], "none")
    if found := _DIRECTORY.fullmatch(url):
        directory = found[1]
        if "/../" in f"{directory}/" or not directory.strip("/"):
            raise InvalidPolicy(f"{name} is {url!r}: the directory must be another than / and have no .. in it")
        return CachePlace(MOUNTED, "directory", directory, "none")
    _check_web_address(name, url)
    if network == "none":
        raise InvalidPolicy(f"{name} is {url!r}: nix.cache_network must name the Docker network over which it is reached")
    return CachePlace(url, None, "", network)


def _check_web_address(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidPolicy(f"{name} is {url!r}: {_FORMS}")
    if "@" in parts.netloc:
        raise InvalidPolicy(
            f"{name} holds a user name: Nix takes no credentials in a cache's address; keep it on a network of its own"
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise InvalidPolicy(f"{name} is {url!r}: it must have no ? and no #; cutor gives Nix the options of a cache")


def public_key_name(key: str) -> str | None:
    """Return the name of a public key, None for what is none."""
    return _name(key, PUBLIC_BYTES)


def secret_key_name(key: str) -> str | None:
    """Return the name of a secret key, None for what is none."""
    return _name(key, SECRET_BYTES)


def public_half(secret: str) -> str:
    """Return the public key that belongs to a secret one. Raises `ValueError` for what is no secret key."""
    if secret_key_name(secret) is None:
        raise ValueError("no secret key")
    name, _, text = secret.partition(":")
    return f"{name}:{base64.b64encode(base64.b64decode(text)[-PUBLIC_BYTES:]).decode()}"


def _name(key: str, size: int) -> str | None:
    found = _KEY.fullmatch(key) if len(key) <= MAX_KEY_CHARACTERS else None
    if found is None:
        return None
    try:
        return found[1] if len(base64.b64decode(found[2], validate=True)) == size else None
    except binascii.Error:
        return None
