"""By which rules the bodies of a segment were decoded: one digest of all that decides what comes of them.

The code is told by its files as they are when this module is imported, which is before or with the modules that they are of. An
update in place puts other files there while a process goes on with the code that it has: `check` tells that, and what runs then
neither decodes nor believes what was decoded.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import duckdb
import msgspec
import nanoarrow

from cutor.projections import schema
from cutor.projections.archive.errors import CodeChanged
from cutor.projections.folds.rows import reading_rules

log = logging.getLogger(__name__)

FORM: Final = 2
"""Counts up when decoded files are laid out in another way."""
_CUTOR: Final = Path(__file__).parents[2]
_READERS: Final = (
    "bus/bulk/columns.py",
    *(f"projections/archive/{name}.py" for name in ("decoded_file", "segment_file")),
    *(
        f"projections/folds/{name}.py"
        for name in ("readings", "incoming", "incoming_environments", "arrow", "relation", "batch", "batches", "streams")
    ),
)


def code_of(cutor: Path) -> dict[str, str]:
    """Return the SHA-256 of each module that has a say, in a directory with the package; empty for one that cannot be read."""
    modules = [*sorted((cutor / "model").rglob("*.py")), *(cutor / name for name in _READERS)]
    return {str(path.relative_to(cutor)): _sha256(path) for path in modules}


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def versions() -> dict[str, str]:
    """Return the versions, as they run, of what decodes beside our own code."""
    return {
        "duckdb": duckdb.__version__,
        "msgspec": msgspec.__version__,
        "nanoarrow": nanoarrow.__version__,
        "python": platform.python_version(),
    }


def digest_of(code: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of what decides what is decoded from a body: the code that does it, and what it goes by."""
    told = [FORM, reading_rules(), schema.transitions(), code, others]
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


_CODE: Final = code_of(_CUTOR)
_RULES: Final = digest_of(_CODE, versions())


def decoding_rules() -> str:
    """Return the digest of the rules by which this process decodes.

    It is of the code's text, not of what somebody remembered to count up: a comment that changes costs files that are made
    again, a rule that changes unnoticed would cost views that are wrong.
    """
    return _RULES


def check() -> None:
    """Raise `CodeChanged` unless the files of the code are those that this process began with. It takes some milliseconds."""
    if "" in _CODE.values() or code_of(_CUTOR) != _CODE:
        raise CodeChanged("the code of cutor on disk is another one than what runs: restart; nothing is decoded until then")


def hold() -> bool:
    """Return whether `check` finds nothing; what it finds is an error in the log, once."""
    try:
        check()
    except CodeChanged as error:
        _tell(str(error))
        return False
    return True


@cache
def _tell(trouble: str) -> None:
    log.error("%s", trouble)
