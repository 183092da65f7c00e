"""The key of an environment: everything that decides what ``shell.nix`` gives, as one digest. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from cutor.nix.settings import NixSettings, evaluation_options

SCHEMA: Final = 1
"""Raised when cutor itself makes another environment of the same inputs: another capture, other programs."""

KEY_CHARACTERS: Final = 64
"""Hexadecimal digits of a whole SHA-256: nothing is cut."""


class EnvironmentInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What decides an environment: ``files`` (``shell.nix`` and the environment files, by name), the settings, the package set
    that NIX_PATH leads to (``packages_digest``; empty where it can't be known), the version of Nix, and the digest of its
    configuration in the image (``nix_configuration``).
    """

    files: Mapping[str, bytes]
    settings: NixSettings
    packages_digest: str
    nix_version: str
    nix_configuration: str


def environment_key(inputs: EnvironmentInputs) -> str:
    """Return the key, 64 characters of [0-9a-f]: equal on every machine for equal inputs, whatever the order of the files.

    Whose signatures count is among them, so that nobody is given what another builder took from a cache that is not his.
    """
    settings = inputs.settings
    texts = [inputs.packages_digest, inputs.nix_version, inputs.nix_configuration, settings.nix_path, str(settings.cores)]
    for several in (evaluation_options(settings), settings.substituters, settings.trusted_public_keys):
        texts += [str(len(several)), *several]
    parts = [b"cutor environment", b"%d" % SCHEMA, *(text.encode() for text in texts)]
    for name in sorted(inputs.files):
        parts += [name.encode(), inputs.files[name]]
    return _digest(parts)


def private_key(key: str, lease_token: str) -> str:
    """Return a key that nothing else has: for an environment that must not be kept (``cache: false``).

    ``lease_token`` is that of the lease under which it is built. It is random; an owner's name would not do, since stacks that
    share a store may each have a submission of one name, and the roots of a key go with the end of either.
    """
    return _digest([b"cutor private environment", key.encode(), lease_token.encode()])


def _digest(parts: list[bytes]) -> str:
    """Return the SHA-256 over the parts, each led by its length: no two lists of parts give the same bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:KEY_CHARACTERS]
