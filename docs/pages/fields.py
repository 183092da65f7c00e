"""Structs as tables in Markdown: a row for each field, with its type, what it is where it is left out, and its docstring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

from cutor.cli.field_docs import field_docs

_WORDS: Final = {
    inspect.BoolType: "true or false",
    inspect.StrType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.NoneType: "null",
    inspect.AnyType: "anything",
}


def paragraph(text: str) -> str:
    """Return text of a docstring as Markdown, one line."""
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join(text.split()))


def docstring(thing: Any) -> list[str]:
    """Return the paragraphs of a docstring as Markdown. Raises ValueError where there is none."""
    text = thing.__doc__
    if not text:
        raise ValueError(f"{thing.__qualname__} has no docstring")
    return [paragraph(part) for part in text.strip().split("\n\n")]


def cell(text: str) -> str:
    """Return text that can stand in a cell of a table."""
    return text.replace("|", "\\|")


def anchor(kind: type[Any]) -> str:
    """Return the anchor of the section of a struct."""
    return f"#{kind.__name__.lower()}"


def table(
    kind: type[msgspec.Struct],
    *,
    leave_out: Iterable[str] = (),
    borrowed: type[Any] | None = None,
    whole: bool = False,
) -> Iterator[str]:
    """Yield the table of a struct's fields. Raises KeyError for a field that has no docstring.

    ``borrowed`` is the struct whose docstrings those are of which this one has none. Of a ``whole`` document nothing is left
    out.
    """
    docs = (field_docs(borrowed) if borrowed else {}) | field_docs(kind)
    yield from (
        ("| field | type | meaning |", "|---|---|---|")
        if whole
        else ("| field | type | left out | meaning |", "|---|---|---|---|")
    )
    config = kind.__struct_config__
    if config.tag is not None:
        yield f"| `{config.tag_field}` | `{config.tag}` | must be there | what it is |"
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        if field.name not in leave_out:
            left_out = "" if whole else f" {_left_out(field)} |"
            yield f"| `{field.encode_name}` | {cell(type_text(field.type))} |{left_out} {cell(docs[field.name])} |"


def _left_out(field: inspect.Field) -> str:
    """Return what a field is where a body does not have it."""
    if field.required:
        return "must be there"
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    elif field.default is not msgspec.NODEFAULT:
        value = field.default
    else:
        return "not told"
    text = msgspec.json.encode(value).decode()
    return f"`{text}`" if len(text) <= 24 else "each as in its table"


def type_text(kind: inspect.Type) -> str:
    """Return a type in words; a struct is a link to its section."""
    text = _WORDS.get(type(kind), "")
    match kind:
        case inspect.Metadata(type=inner):
            text = type_text(inner)
        case inspect.StructType(cls=cls):
            text = f"[{cls.__name__}]({anchor(cls)})"
        case inspect.UnionType(types=types):
            text = " or ".join(map(type_text, types))
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            text = f"list of {type_text(item)}"
        case inspect.TupleType(item_types=items):
            text = f"list of {' and '.join(map(type_text, items))}"
        case inspect.DictType(value_type=value):
            text = f"object of {type_text(value)}"
        case inspect.LiteralType(values=values):
            text = (" or " if len(values) < 4 else ", ").join(f"`{value}`" for value in values)
        case inspect.IntType(ge=low, le=high) if low is not None or high is not None:
            text = f"integer from {low} to {high}"
        case inspect.StrType(min_length=short, max_length=long) if long is not None:
            text = f"text of {short} to {long} characters"
    assert text, kind
    return text


def shapes(*roots: type[Any], known: Iterable[type[Any]] = ()) -> list[type[msgspec.Struct]]:
    """Return the structs in the fields of these, and in theirs, in the order in which they are met; not the roots."""
    found: dict[type[msgspec.Struct], None] = {}
    met = {*roots, *known}

    def look(kind: inspect.Type) -> None:
        if isinstance(kind, inspect.StructType):
            if kind.cls not in met:
                met.add(kind.cls)
                found[kind.cls] = None
                walk(kind.cls)
            return
        for name in ("type", "types", "item_type", "item_types", "value_type"):
            inner = getattr(kind, name, ())
            for one in inner if isinstance(inner, tuple) else (inner,):
                look(one)

    def walk(cls: type[Any]) -> None:
        for field in inspect.type_info(cls).fields:  # type: ignore[attr-defined]
            look(field.type)

    for root in roots:
        walk(root)
    return list(found)


def section(kind: type[msgspec.Struct], level: int = 3, **options: Any) -> Iterator[str]:
    """Yield the section of a struct: its docstring and its table."""
    yield from ("", f"{'#' * level} {kind.__name__}", "")
    for part in docstring(kind):
        yield from (part, "")
    yield from table(kind, **options)


def body(document: bytes) -> Iterator[str]:
    """Yield a body of JSON as a block, laid out for people."""
    yield from ("```json", *msgspec.json.format(document, indent=2).decode().splitlines(), "```")
