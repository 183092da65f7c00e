"""What the fields of structs mean: the docstring that stands beneath each in its source. For the pages of the reference.

Such a docstring is a fragment in Markdown, fit for a cell of a table: units, bounds, what null means.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any


@cache
def field_docs(kind: type[Any]) -> dict[str, str]:
    """Return the docstrings of a class's own fields and those that it inherits, by name; a field without one is not in it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("cutor."):
            found |= _own(base)
    return found


def _own(kind: type[Any]) -> dict[str, str]:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    pairs = zip(tree.body, tree.body[1:], strict=False)
    return {
        field.target.id: text.value.value
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
