"""By which rules the bodies of a segment were decoded: one mark for all that decides what comes of them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from cutor.projections import schema
from cutor.projections.folds.rows import reading_rules

FORM: Final = 1
"""Counts up when decoded files are laid out in another way."""
_CUTOR: Final = Path(__file__).parents[2]
_READERS: Final = ("readings", "incoming", "incoming_environments", "arrow", "relation", "batch", "batches", "streams")


def decoding_rules() -> str:
    """Return the SHA-256, in hex, of what decides what is decoded from a body: the code that does it, and what it goes by.

    It is the code's text, not what somebody remembered to count up: a comment that changes costs files that are made again,
    a rule that changes unnoticed would cost views that are wrong.
    """
    told = [FORM, msgspec.__version__, reading_rules(), schema.transitions(), _code()]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


@cache
def _code() -> dict[str, str]:
    """Return the SHA-256 of each module that has a say."""
    folds = _CUTOR / "projections" / "folds"
    modules = [*sorted((_CUTOR / "model").rglob("*.py")), *(folds / f"{name}.py" for name in _READERS)]
    return {str(path.relative_to(_CUTOR)): hashlib.sha256(path.read_bytes()).hexdigest() for path in modules}
