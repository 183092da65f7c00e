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


class EnvironmentInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What decides an environment: ``files`` (``shell.nix`` and the environment files, by name), the settings, the package set
    that NIX_PATH leads to (``packages_digest``; empty where it can't be known), and the version of Nix.
    """

    files: Mapping[str, bytes]
    settings: NixSettings
    packages_digest: str
    nix_version: str


def environment_key(inputs: EnvironmentInputs) -> str:
    """Return the key, 64 characters of [0-9a-f]: equal on every machine for equal inputs, whatever the order of the files."""
    settings = inputs.settings
    options = evaluation_options(settings)
    texts = (inputs.packages_digest, inputs.nix_version, settings.nix_path, str(settings.cores), str(len(options)), *options)
    parts = [b"cutor environment", b"%d" % SCHEMA, *(text.encode() for text in texts)]
    for name in sorted(inputs.files):
        parts += [name.encode(), inputs.files[name]]
    return _digest(parts)


def private_key(key: str, salt: str) -> str:
    """Return a key that no other submission has: for an environment that must not be kept (``cache: false``).

    ``salt`` names the owner, such as ``TENANT/ID``.
    """
    return _digest([b"cutor private environment", key.encode(), salt.encode()])


def _digest(parts: list[bytes]) -> str:
    """Return the SHA-256 over the parts, each led by its length: no two lists of parts give the same bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:KEY_CHARACTERS]
