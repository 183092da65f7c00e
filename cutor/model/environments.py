"""The events of the stream ENVIRONMENTS: what is known of an environment, by its key."""

from __future__ import annotations

import msgspec

from cutor.model.content import Content


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """Store paths of what every stage needs: ``bash`` runs the scripts; ``sh`` and ``env`` are links in the jail."""

    bash: str
    sh: str
    env: str


class _EnvironmentEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    version: int = 1


class EnvironmentBuilt(_EnvironmentEvent, frozen=True, kw_only=True, tag="env-built"):
    """The environment stands in the store. ``variables`` is the captured block: ``NAME=VALUE`` and a NUL byte, each."""

    key: str
    derivation: str
    closure: tuple[str, ...]
    closure_bytes: int
    variables: Content
    programs: Programs
    worker: str


class EnvironmentRemoved(_EnvironmentEvent, frozen=True, kw_only=True, tag="env-removed"):
    """The environment is gone from the store, or must not be trusted to be there."""

    key: str
    reason: str


EnvironmentEvent = EnvironmentBuilt | EnvironmentRemoved


def pack_variables(variables: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return variables as one block: ``NAME=VALUE`` and a NUL byte, each."""
    return b"".join(name + b"=" + value + b"\0" for name, value in variables)


def unpack_variables(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the variables of a block made by `pack_variables`. Raises ValueError for a block of another form."""
    if block and not block.endswith(b"\0"):
        raise ValueError("the block of variables does not end with a NUL byte")
    pairs = (entry.partition(b"=") for entry in block.split(b"\0")[:-1])
    return tuple((name, value) for name, _, value in pairs)
