"""Runs of benchmarks as they are kept in JSON, to be compared with later ones. Pure."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec


class Kept(Protocol):
    """A run that says of which format it is: those of different formats are not compared."""

    @property
    def format(self) -> int:
        """The number of the format."""


K = TypeVar("K", bound=Kept)


def encode(run: Kept) -> bytes:
    """Return a run as the JSON document that is kept of it."""
    return msgspec.json.format(msgspec.json.encode(run)) + b"\n"


def decode(raw: bytes, kind: type[K], number: int, command: str) -> K:
    """Return the run in a document that ``command`` has kept. Raises ValueError for what is none, or of another format."""
    try:
        run = msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not what a run of {command} has kept: {error}") from error
    if run.format != number:
        raise ValueError(f"of format {run.format}, and this reads {number}")
    return run
