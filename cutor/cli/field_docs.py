"""What fields of structs and constants mean: the docstring beneath each in its source. For the pages of the reference.

Such a docstring is a fragment in Markdown, fit for a cell of a table: units, bounds, what null means.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any


@cache
def field_docs(kind: type[Any]) -> dict[str, str]:
    """Return the docstrings of a class's own fields and those that it inherits, by name; a field without one is not in it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("cutor."):
            found |= _own(base)
    return found


def constant_docs(module: ModuleType) -> dict[str, str]:
    """Return the docstrings of a module's annotated constants, by name."""
    return _documented(ast.parse(inspect.getsource(module)).body)


def _own(kind: type[Any]) -> dict[str, str]:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return _documented(tree.body)


def _documented(statements: Sequence[ast.stmt]) -> dict[str, str]:
    """Return the docstrings of what is annotated in a body, by name."""
    return {
        named.target.id: text.value.value
        for named, text in pairwise(statements)
        if isinstance(named, ast.AnnAssign)
        and isinstance(named.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
