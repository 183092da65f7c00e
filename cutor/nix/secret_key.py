"""The key by which a builder signs what it publishes: read from its file each time, so that it may change meanwhile."""

from __future__ import annotations

import os
import stat
from typing import Final

from cutor.errors import CutorError
from cutor.nix.cache import MAX_KEY_CHARACTERS, secret_key_name

OTHERS: Final = 0o077
"""Bits of a file's mode that let group and others in: a secret key has none of them."""


class SecretKeyUnusable(CutorError):
    """The file of `nix.cache_secret_key_file` can't be used; the message says why, and what to do."""


def read_secret_key(file: str) -> str:
    """Return the key that a file holds; nobody but its owner may have access to it. Raises `SecretKeyUnusable`."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would be waited for
        with os.fdopen(handle, "rb") as opened:
            facts = os.fstat(opened.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise SecretKeyUnusable(f"nix.cache_secret_key_file: {file} is no regular file")
            if stat.S_IMODE(facts.st_mode) & OTHERS:
                mode = f"{stat.S_IMODE(facts.st_mode):04o}"
                raise SecretKeyUnusable(
                    f"nix.cache_secret_key_file: others have access to {file} (mode {mode}): chmod 0600 {file}"
                )
            key = opened.read(MAX_KEY_CHARACTERS + 2).decode("ascii", "replace").strip()
    except OSError as error:
        raise SecretKeyUnusable(
            f"nix.cache_secret_key_file: {file} can't be read ({error.strerror}): `cutor env cache-key NAME {file}` makes one"
        ) from error
    if secret_key_name(key) is None:
        raise SecretKeyUnusable(
            f"nix.cache_secret_key_file: {file} holds no secret key of Nix's: `cutor env cache-key` makes one"
        )
    return key
