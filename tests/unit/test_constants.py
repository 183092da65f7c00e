"""A number that has a name says what it counts and why it is so much: in a docstring beneath it, or a comment on its line.

A unit in the name is not enough: it does not tell what breaks with less, or with more, or that it was a choice.
"""

import ast
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = sorted((ROOT / "cutor").rglob("*.py"))


class Constant(NamedTuple):
    """A number with a name of a module's own, and whether a docstring stands beneath it or a comment on its line."""

    name: str
    is_told: bool


def constants(text: str) -> list[Constant]:
    """Return the constants of a module whose value is a number, computed from numbers and earlier ones, or some of those."""
    lines, found = text.splitlines(), dict[str, bool]()
    for statement, following in pairwise([*ast.parse(text).body, ast.Pass()]):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(target=ast.Name(id=name), value=value):
                if value is not None and is_number(value, found):
                    found[name] = is_text(following) or has_comment(lines[(statement.end_lineno or 0) - 1])
    return [Constant(name, is_told) for name, is_told in found.items()]


def is_number(value: ast.expr, known: dict[str, bool]) -> bool:
    match value:
        case ast.Constant(value=number):
            return type(number) in {int, float}
        case ast.Name(id=name):
            return name in known
        case ast.UnaryOp(operand=operand):
            return is_number(operand, known)
        case ast.BinOp(left=left, right=right):
            parts = (left, right)
            return any(is_number(one, known) for one in parts) and all(
                is_number(one, known) or is_elsewhere(one) for one in parts
            )
        case ast.Tuple(elts=parts) if parts:
            return all(is_number(one, known) for one in parts)
    return False


def is_elsewhere(value: ast.expr) -> bool:
    """Whether it is the name of another module's constant: ``4 * MIB`` is a number, too."""
    return isinstance(value, ast.Name) and value.id.isupper()


def is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    )


def has_comment(line: str) -> bool:
    """Whether there is a comment for readers, not for a tool; no number has a ``#`` in it."""
    comment = line.partition("#")[2].strip()
    return bool(comment) and not comment.startswith(("noqa", "type:"))


def silent(text: str) -> set[str]:
    return {one.name for one in constants(text) if not one.is_told}


def test_a_number_says_what_it_counts() -> None:
    found = {str(path.relative_to(ROOT)): silent(path.read_text()) for path in MODULES}
    assert {module: names for module, names in found.items() if names} == {}


def test_the_numbers_are_found() -> None:
    assert sum(len(constants(path.read_text())) for path in MODULES) > 700


@pytest.mark.parametrize(
    "text",
    [
        "BATCH: Final = 1000",
        "BATCH_BYTES = 1000",
        "BATCH = 1 << 10",
        "BATCH: int = -(2 * 3)",
        'A_BYTES = 2\n"""Of one."""\nBATCH = 3 * A_BYTES',
        "BATCH = 5  # noqa: N816",
        "BATCH = 4 * MIB",
        "BATCH = (5, 6)",
        "BATCH = 0.5\n\n\ndef next_one(): ...",
        'BATCH = 5\nOTHER_S = 6\n"""Of the other."""',
    ],
)
def test_a_silent_number_is_seen(text: str) -> None:
    assert {name.partition("_")[0] for name in silent(text)} == {"BATCH"}


@pytest.mark.parametrize(
    "text",
    [
        'BATCH = 5\n"""Messages at one time."""',
        "BATCH = 5  # messages at one time",
        'NAME = "5"',
        "IS_ON = True",
        "BATCHES = (5, size())",
        "BATCHES = FEW + MANY",
        "BATCH: int",
        "def size():\n    BATCH = 5",
    ],
)
def test_a_number_that_tells_is_none_of_them(text: str) -> None:
    assert silent(text) == set()
