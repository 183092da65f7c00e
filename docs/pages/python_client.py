"""The page of the Python client: every public name of the package, by its signature and docstrings."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

import cutor
from cutor import Client, CutorError
from cutor.cli.field_docs import field_docs
from cutor.model.limits import Limit, RequestedLimit
from docs.pages.fields import cell, docstring

SIGNATURE_CHARACTERS: Final = 110

ABOUT: Final = """\
# The Python client

Made from signatures and docstrings of `cutor` and its classes by `python docs/generate.py`.

The client needs Python 3.11 and a server that it can reach, no Docker. What it hands in is a [request](request.md), what comes
back a [result](result.md); [what a producer is told](../explanation/delivery.md) says what each error means for who handed in.

```python
import asyncio

from cutor import Client, CutorError

REQUEST = {
    "files": [
        {"name": "shell.nix", "content": "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3 ]; }"},
        {"name": "cutor-run.sh", "content": "exec python3 -c 'print(int(input()) ** 2)'"},
    ],
    "test_cases": [{"input": "6", "expected_output": "36"}, {"input": "7", "expected_output": "49"}],
}


async def main() -> None:
    async with Client() as client:
        try:
            receipt = await client.submit(REQUEST, labels={"course": "introduction"})
        except CutorError as error:
            print(error, error.exit_code)
            return
        async for update in client.watch(receipt.id):
            print(update.sequence, update.kind, update.status)
        result = await client.result(receipt.id)
        print(result.outcome, [stage.wall_time_ms for stage in result.run])


asyncio.run(main())
```

Every name of the first table is imported from `cutor`, as is `__version__`. Every error is a [CutorError](#cutorerror), also
those that are named below and not listed; any call may raise [BusUnreachable](#busunreachable).
"""


def page() -> str:
    """Return the page."""
    lines = ABOUT.splitlines()
    things = {name: getattr(cutor, name) for name in cutor.__all__ if name != "__version__"}
    errors = [thing for thing in things.values() if issubclass(thing, CutorError)]
    errors.sort(key=lambda thing: (len(thing.__mro__), thing.__name__))
    values = [thing for thing in things.values() if thing is not Client and thing not in errors]
    lines += ["", *_contents(values, errors)]
    lines += _client()
    for kind in values:
        lines += _value(kind)
    for kind in errors:
        lines += _error(kind)
    lines += _others([Client, *values])
    return "\n".join(lines) + "\n"


def _contents(values: list[type[Any]], errors: list[type[Any]]) -> Iterator[str]:
    yield "| what | names |"
    yield "|---|---|"
    for what, kinds in (("client", [Client]), ("values", values), ("errors", errors)):
        yield f"| {what} | {', '.join(f'[{kind.__name__}](#{kind.__name__.lower()})' for kind in kinds)} |"


def _client() -> Iterator[str]:
    """Yield the section of the client: how it is made, and each of its methods."""
    yield from ("", "## Client", "", *signature("Client", Client.__init__))
    for part in docstring(Client):
        yield from ("", part)
    for name, method in vars(Client).items():
        if not name.startswith("_") and inspect.isfunction(method):
            prefix = "await " if inspect.iscoroutinefunction(method) else ""
            yield from ("", f"### {name}", "", *signature(f"{prefix}{name}", method))
            for part in docstring(method):
                yield from ("", part)


def signature(name: str, function: Any) -> Iterator[str]:
    """Yield a block with a signature without ``self``, as it stands in the source, with the values that constants have."""
    whole = inspect.signature(function)
    words, keyword = [], False
    for one in whole.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not keyword:
            words.append("*")
            keyword = True
        default = "" if one.default is one.empty else f" = {one.default!r}".replace("'", '"')
        words.append(f"{one.name}: {one.annotation}{default}")
    result = "" if function is Client.__init__ else f" -> {whole.return_annotation}"
    text = f"{name}({', '.join(words)}){result}"
    long = (f"{name}(", *(f"    {word}," for word in words), f"){result}")
    yield from ("```text", *((text,) if len(text) <= SIGNATURE_CHARACTERS else long), "```")


def _value(kind: type[Any]) -> Iterator[str]:
    """Yield the section of a type of values: its docstring and its fields."""
    yield from ("", f"## {kind.__name__}", "")
    for part in docstring(kind):
        yield from (part, "")
    docs = (field_docs(Limit) if kind is RequestedLimit else {}) | field_docs(kind)
    annotations = {name: getattr(text, "__forward_arg__", text) for name, text in inspect.get_annotations(kind).items()}
    yield from ("| attribute | type | meaning |", "|---|---|---|")
    fields = kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else kind._fields
    for name in fields:
        yield f"| `{name}` | `{cell(annotations[name])}` | {cell(docs[name])} |"


def _error(kind: type[CutorError]) -> Iterator[str]:
    """Yield the section of an error: what it is, of which kind, and with which exit code a command ends."""
    bases = [base for base in kind.__bases__ if issubclass(base, Exception)]
    yield from ("", f"## {kind.__name__}", "")
    for part in docstring(kind):
        yield from (part, "")
    yield f"Is a {' and a '.join(f'`{base.__name__}`' for base in bases)}; exit code {kind.exit_code}."


def _others(known: list[type[Any]]) -> Iterator[str]:
    """Yield what else stands in the types above: other types of values, and names of types that are written out."""
    others = [thing for name, thing in _named(known).items() if isinstance(thing, type) and name not in cutor.__all__]
    yield from ("", "## Other types", "", "What stands in the types above, and is not imported from `cutor`.", "")
    yield from ("| name | what it is |", "|---|---|")
    for name, thing in _named([*known, *others]).items():
        if get_origin(thing) is Literal:
            yield f"| `{name}` | {', '.join(f'`{value}`' for value in get_args(thing))} |"
        elif not isinstance(thing, type):
            yield f"| `{name}` | `{cell(_written(thing))}` |"
    for kind in others:
        yield from _value(kind)


def _named(kinds: list[type[Any]]) -> dict[str, Any]:
    """Return what the names in the types of fields, and of what methods take, stand for; names of cutor's alone."""
    found: dict[str, Any] = {}
    todo = list(kinds)
    while todo:
        kind = todo.pop(0)
        for name in re.findall(r"\b[A-Z]\w+", " ".join(_types(kind))):
            thing = getattr(sys.modules[kind.__module__], name, None)
            if name not in found and thing is not None:
                found[name] = thing
                todo += [thing] if isinstance(thing, type) and thing.__module__.startswith("cutor.") else []
    return {name: thing for name, thing in sorted(found.items()) if name not in ("Any", "None") and not _is_python(thing)}


def _types(kind: type[Any]) -> Iterator[str]:
    """Yield the types in a class's fields, or in what its methods take."""
    if kind is Client:
        for name, method in vars(Client).items():
            if not name.startswith("_") and inspect.isfunction(method):
                yield from (str(one.annotation) for one in inspect.signature(method).parameters.values())
        return
    yield from (getattr(text, "__forward_arg__", text) for text in inspect.get_annotations(kind).values())


def _is_python(thing: Any) -> bool:
    return isinstance(thing, type) and not thing.__module__.startswith("cutor.")


def _written(thing: Any) -> str:
    """Return a name of a type, written out."""
    return re.sub(r"\b(?:cutor|typing|collections)(?:\.\w+)*\.", "", str(thing))
