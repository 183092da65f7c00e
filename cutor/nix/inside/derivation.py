"""Store derivations: the text of a ``.drv`` file, read into a value. Pure.

Nix writes a derivation as ``Derive(outputs, inputDrvs, inputSrcs, system, builder, args, env)`` in ATerm notation: strings
in double quotes, lists in brackets, tuples in parentheses (Nix manual, "Store derivation"). Reading the file saves two
processes of Nix, and the daemon wrote it, so its inputs are in the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

HASH_DIGITS: Final = "0123456789abcdfghijklmnpqrsvwxyz"
"""Those of Nix's base 32: without e, o, t and u. A whole command of Nix fails for one path that has another."""
STORE_PATH: Final = re.compile(rf"/nix/store/[{HASH_DIGITS}]{{32}}-[0-9A-Za-z+._?=-]{{1,211}}")
"""A path directly under the store; 211 bytes is Nix's own bound for a name."""
MAX_PATH_BYTES: Final = len("/nix/store/") + 32 + 1 + 211

_STRING: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}

_MAX_DEPTH: Final = 4
"""Derive( inputs [ input ( outputs [: no valid text is deeper."""

Term = bytes | list["Term"]


class DerivationError(ValueError):
    """A text that is not a derivation this module can read; the message says why."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """What Nix would build: ``outputs`` and ``inputs`` by store path, ``environment`` as the builder would get it.

    ``inputs`` maps a derivation's path to the names of its outputs that are wanted.
    """

    outputs: dict[str, str]
    inputs: dict[str, tuple[str, ...]]
    sources: tuple[str, ...]
    environment: dict[bytes, bytes]


def parse(text: bytes) -> Derivation:
    """Return the derivation that ``text`` describes. Raises `DerivationError` for any other text."""
    if not text.startswith(b"Derive"):
        raise DerivationError("this kind of derivation is not supported: it depends on an experimental feature of Nix")
    match _term(text, len(b"Derive")):
        case ([list(outputs), list(inputs), list(sources), bytes(), bytes(), list(), list(environment)], end) if end == len(
            text
        ):
            return Derivation(
                outputs=dict(_output(term) for term in outputs),
                inputs=dict(_input(term) for term in inputs),
                sources=tuple(_path(term) for term in sources),
                environment=dict(_pair(term) for term in environment),
            )
    raise DerivationError("the derivation has another form than Derive(…) with seven members")


def outputs_of(text: bytes) -> dict[str, str]:
    """Return the outputs of a derivation by name, and read no further: the rest is as long as its author likes.

    16 MB of it take `parse` many seconds. Raises `DerivationError`.
    """
    if not text.startswith(b"Derive("):
        raise DerivationError("this kind of derivation is not supported: it depends on an experimental feature of Nix")
    outputs, _ = _term(text, len(b"Derive("), 1)
    if not isinstance(outputs, list):
        raise DerivationError("the derivation does not begin with its outputs")
    return dict(_output(term) for term in outputs)


def is_store_path(path: str) -> bool:
    """Return whether ``path`` is directly under the store, with a name that Nix would give."""
    return STORE_PATH.fullmatch(path) is not None


def _output(term: Term) -> tuple[str, str]:
    match term:
        case [bytes(name), bytes(path), bytes(), bytes()]:
            if not path:
                raise DerivationError(f"the output {_text(name)!r} has no path before it is built: not supported")
            return _text(name), _path(path)
    raise DerivationError("an output of the derivation is malformed")


def _input(term: Term) -> tuple[str, tuple[str, ...]]:
    match term:
        case [bytes(path), list(names)]:
            return _path(path), tuple(_text(name) for name in names)
    raise DerivationError("an input of the derivation is malformed")


def _pair(term: Term) -> tuple[bytes, bytes]:
    match term:
        case [bytes(name), bytes(value)]:
            return name, value
    raise DerivationError("a variable of the derivation is malformed")


def _path(term: Term) -> str:
    path = _text(term)
    if not is_store_path(path):
        raise DerivationError(f"{path[:300]!r} is not a store path")
    return path


def _text(term: Term) -> str:
    if not isinstance(term, bytes) or not term.isascii():
        raise DerivationError("a name in the derivation is not plain text")
    return term.decode()


def _term(text: bytes, at: int, depth: int = 0) -> tuple[Term, int]:
    """Return the term that starts at ``at`` and where it ends."""
    if (string := _STRING.match(text, at)) is not None:
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), string[1]), string.end()
    closing = {b"(": b")", b"[": b"]"}.get(text[at : at + 1])
    if closing is None or depth == _MAX_DEPTH:
        raise DerivationError(f"unexpected text at byte {at} of the derivation")
    members: list[Term] = []
    at += 1
    while text[at : at + 1] != closing:
        if members:
            if text[at : at + 1] != b",":
                raise DerivationError(f"expected a comma at byte {at} of the derivation")
            at += 1
        member, at = _term(text, at, depth + 1)
        members.append(member)
    return members, at + 1
