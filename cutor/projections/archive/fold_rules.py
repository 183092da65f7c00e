"""By which rules a sealed fold was made: those of decoding (`rules`), and all that makes views of what was decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from cutor.projections import schema
from cutor.projections.archive import rules
from cutor.projections.archive.errors import CodeChanged

FORM: Final = 2
"""Counts up when a sealed fold is laid out in another way, or made of something else: those of 1 were of what was decoded."""
_CUTOR: Final = Path(__file__).parents[2]
_FOLD_CODE: Final = (
    "bus/bulk/columns.py",
    "model/**/*.py",
    "projections/sql/**/*.sql",
    "projections/folds/*.py",
    *(f"projections/{name}.py" for name in ("schema", "session", "store", "writer")),
    *(f"projections/archive/{name}.py" for name in ("folding", "joined", "sealed_batch", "segment_file", "decoded_file")),
)


def code_of(cutor: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that has a say, in a directory with the package."""
    paths = sorted({path for pattern in _FOLD_CODE for path in cutor.glob(pattern)})
    return {str(path.relative_to(cutor)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def digest_of(code: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of what decides what a fold of messages holds."""
    told = [FORM, rules.decoding_rules(), schema.rules_digest(), code]
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


_CODE: Final = code_of(_CUTOR)
_RULES: Final = digest_of(_CODE)


def folding_rules() -> str:
    """Return the digest of the rules by which this process folds; of the code's text, as `rules.decoding_rules` is."""
    return _RULES


def check() -> None:
    """Raise `CodeChanged` unless the files of the code are those that this process began with. It takes some milliseconds."""
    rules.check()
    try:
        found = code_of(_CUTOR)
    except OSError:
        found = {}
    if found != _CODE:
        raise CodeChanged("the code of cutor on disk is another one than what runs: restart; no fold is sealed until then")
