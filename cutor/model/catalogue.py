"""What the views know of an environment, as a value: what commands show, and what a collection is planned from."""

from __future__ import annotations

import re
from typing import Final

import msgspec

LABEL: Final = "cutor"
"""Label of a submission that a command of `cutor env` handed in; its value says which command handed it in."""
PURPOSES: Final = {"env-build": "env build", "env-refresh": "env refresh", "env-test": "env test"}
"""Those values, with their commands."""
KEY_PREFIX: Final = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
"""A key as a command line may name it: the first eight characters at least, more where they are not enough."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An environment: what was built, how large its closure is, and what was done with it. Times are UTC, ISO 8601.

    What only ENVIRONMENTS tells is null where that holds nothing of the key any more. ``hits`` are those ``uses`` by
    submissions in which it was there already. ``closure_bytes`` counts what other environments share with it, too.
    ``private_to`` is the submission that alone may use it (``cache: false``); ``waiting`` how many submissions have it and have
    not ended.
    """

    key: str
    derivation: str | None
    closure_paths: int | None
    closure_bytes: int | None
    worker: str | None
    built_at: str | None
    builds: int
    uses: int
    hits: int
    first_used_at: str | None
    last_used_at: str | None
    removed: bool
    removed_at: str | None
    removal_reason: str | None
    pinned: bool
    private_to: str | None
    waiting: int

    @property
    def touched_at(self) -> str | None:
        """When it was built or given to a submission last, whichever was later; None where neither is known."""
        return max(filter(None, (self.built_at, self.last_used_at)), default=None)
