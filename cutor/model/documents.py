"""Documents before they have a type: what JSON allows and cutor does not, and values that were built in Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from cutor.model.errors import InvalidRequest
from cutor.model.quoting import SHOWN_CHARACTERS, shown, visible


def check_keys(raw: bytes) -> None:
    """Raise `InvalidRequest` for a key that is twice in an object of a JSON document, which msgspec has read already.

    Readers of JSON differ in which of the two they take: who checked such a request need not have seen what is run.
    """
    _UNIQUE_KEYS.decode(raw.decode())


def _check_object(pairs: list[tuple[str, Any]]) -> None:
    known: set[str] = set()
    for key, _ in pairs:
        if key in known:
            raise InvalidRequest(f"request: the key {shown(key)} is twice in one object")
        known.add(key)


_UNIQUE_KEYS: Final = json.JSONDecoder(object_pairs_hook=_check_object, strict=False, parse_int=str)
"""As lenient as msgspec about control characters in strings. Numbers stay texts: Python reads none of more than 4300 digits."""


def plain(value: Any, where: str = "") -> Any:
    """Return a value with a mapping in place of every struct: msgspec would take a struct as it is, whatever it holds.

    It also takes everything that can be subscribed for a mapping, a range for one without keys: `InvalidRequest` says where.
    """
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {name: plain(item, _inside(where, name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if hasattr(value, "__getitem__") and not isinstance(value, str | bytes | bytearray):
        raise InvalidRequest(f"request: {_cut(where) or 'it'} is a {type(value).__name__}, which is nothing of JSON's")
    return value


def _inside(where: str, field: object) -> str:
    name = visible(str(field)[:SHOWN_CHARACTERS])
    return f"{where}.{name}" if where else name


def _cut(where: str) -> str:
    return where if len(where) <= SHOWN_CHARACTERS else f"…{where[-SHOWN_CHARACTERS:]}"


def place_of(text: str, document: Any) -> str:
    """Return the words for where a string stands in a plain document: the first place of it, keys included."""
    return _cut(next((where for where, found in _strings(document, "") if found == text), "a string"))


def _strings(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{where}: the name of a field" if where else "the name of a field", key
            yield from _strings(item, _inside(where, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _strings(item, f"{where}[{position}]")
    elif isinstance(value, str):
        yield where, value
