"""A number that has a name says what it counts: by a unit in the name, a docstring beneath it, or a comment on its line."""

import ast
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = sorted((ROOT / "cutor").rglob("*.py"))
UNITS: Final = frozenset(
    {"S", "SECONDS", "MS", "US", "NS", "BYTES", "KIB", "MIB", "GIB", "CHARACTERS", "LINES", "DAYS", "PERCENT"}
)
"""Words of a name. Not among them: what says how a thing is written, such as digits and columns, but not of what."""
IN_THE_IMAGE: Final = "cutor/setup/image/contents.txt"
SILENT_IN_THE_IMAGE: Final = {
    "cutor/jail/inside/box.py": {"_PROGRESS"},
    "cutor/jail/inside/channel.py": {"UNLIMITED"},
    "cutor/jail/inside/jail_process.py": {"_FIRST_FREE_FD"},
    "cutor/jail/inside/layout.py": {"TMP_INODES"},
    "cutor/jail/inside/weigh.py": {"FEW_FILES", "NODE_BITS"},
    "cutor/nix/inside/additions.py": {"THREADS_AT_ONCE"},
    "cutor/nix/inside/disk_usage.py": {"ENTRIES_AT_ONCE"},
    "cutor/nix/inside/evaluate.py": {"EXIT_REFUSED"},
    "cutor/nix/inside/inventory.py": {"MAX_PATHS", "MAX_REFERENCES"},
    "cutor/nix/inside/jails.py": {"TMP_INODES"},
    "cutor/nix/inside/namespace.py": {"ID_COUNT", "NOBODY"},
    "cutor/nix/inside/network_filter.py": {"PORT"},
    "cutor/nix/inside/shell.py": {"EXIT_TOO_LARGE"},
    "cutor/nix/inside/store_init.py": {"HOST_GONE"},
    "cutor/nix/inside/store_watch.py": {"REST"},
    "cutor/nix/inside/tidying.py": {"LOCKS_AT_ONCE"},
}
"""Numbers that say nothing in files of the child image. A word in one of these files makes an image anew on every machine:
whoever changes such a file for another reason writes what its numbers count, and takes its line out of here."""


class Constant(NamedTuple):
    """A number with a name of a module's own, and whether a docstring stands beneath it or a comment on its line."""

    name: str
    is_told: bool

    @property
    def has_unit(self) -> bool:
        return not UNITS.isdisjoint(self.name.split("_"))


def constants(text: str) -> list[Constant]:
    """Return the constants of a module whose value is a number, or computed from numbers and earlier ones of them."""
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
            return is_number(left, known) and is_number(right, known)
    return False


def is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    )


def has_comment(line: str) -> bool:
    """Whether there is a comment for readers, not for a tool; no number has a ``#`` in it."""
    comment = line.partition("#")[2].strip()
    return bool(comment) and not comment.startswith(("noqa", "type:"))


def silent(text: str) -> set[str]:
    return {one.name for one in constants(text) if not (one.is_told or one.has_unit)}


def test_a_number_says_what_it_counts() -> None:
    found = {str(path.relative_to(ROOT)): silent(path.read_text()) for path in MODULES}
    assert {module: names for module, names in found.items() if names} == SILENT_IN_THE_IMAGE


def test_only_files_of_the_child_image_are_excepted() -> None:
    sources = {line.split()[0] for line in (ROOT / IN_THE_IMAGE).read_text().splitlines() if line.startswith("cutor/")}
    assert SILENT_IN_THE_IMAGE.keys() <= sources


def test_the_numbers_are_found() -> None:
    assert sum(len(constants(path.read_text())) for path in MODULES) > 700


@pytest.mark.parametrize(
    "text",
    [
        "BATCH: Final = 1000",
        "BATCH = 1 << 10",
        "BATCH: int = -(2 * 3)",
        "A_BYTES = 2\nBATCH = 3 * A_BYTES",
        "BATCH = 5  # noqa: N816",
        "BATCH = 0.5\n\n\ndef next_one(): ...",
        'BATCH = 5\nOTHER_S = 6\n"""Of the other."""',
    ],
)
def test_a_silent_number_is_seen(text: str) -> None:
    assert silent(text) == {"BATCH"}


@pytest.mark.parametrize(
    "text",
    [
        "WAIT_S: Final = 1.0",
        "BATCH_BYTES_AT_MOST = 5",
        'BATCH = 5\n"""Messages at one time."""',
        "BATCH = 5  # messages at one time",
        'NAME = "5"',
        "IS_ON = True",
        "BATCHES = (5, 6)",
        "BATCH: int",
        "def size():\n    BATCH = 5",
    ],
)
def test_a_number_that_tells_is_none_of_them(text: str) -> None:
    assert silent(text) == set()
