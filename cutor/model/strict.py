"""Shapes of events as strict readers of JSON want them: what cutor itself writes, and nothing beside it. Pure.

An event tolerates fields that nobody knows, and what is in them is not looked at. Where every field is known, reading one has
looked at every byte of a body: it is valid JSON, of valid UTF-8. And an object that the garbage collector need not follow is
made in half the time.
"""

from __future__ import annotations

import types
from functools import reduce
from operator import or_
from typing import Any, Literal, Union, get_args, get_origin

import msgspec


def strict(shape: Any, *, without: frozenset[str] = frozenset()) -> Any:
    """Return a type of the same names and tags that takes no other fields, and none of ``without``; nor do those within it.

    ``shape``: a struct, or a union, tuple or dictionary of such.
    """
    return _strict(shape, without, {})


def _strict(shape: Any, without: frozenset[str], made: dict[Any, Any]) -> Any:
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        if shape not in made:
            made[shape] = _struct(shape, without, made)
        return made[shape]
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is None or origin is Literal:
        return shape
    parts = [_strict(one, without, made) for one in arguments]
    if origin in {Union, types.UnionType}:
        return reduce(or_, parts)
    return origin[tuple(parts)]


def _struct(shape: type[msgspec.Struct], without: frozenset[str], made: dict[Any, Any]) -> Any:
    fields: list[Any] = []
    for field in msgspec.structs.fields(shape):
        if field.encode_name in without:
            continue
        default = msgspec.field(name=field.encode_name)
        if field.default is not msgspec.NODEFAULT:
            default = msgspec.field(default=field.default, name=field.encode_name)
        elif field.default_factory is not msgspec.NODEFAULT:
            default = msgspec.field(default_factory=field.default_factory, name=field.encode_name)
        fields.append((field.name, _strict(field.type, without, made), default))
    config = shape.__struct_config__
    return msgspec.defstruct(
        shape.__name__,
        fields,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
        tag=config.tag,
        tag_field=config.tag_field,
    )
