"""The core decides and does nothing else: its modules import nothing that could do input or output, and open no file.

Beside `cutor/model` there are modules that decide within their part; each says "Pure." of itself, and is held to it here.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cutor"
MODEL = sorted((PACKAGE / "model").glob("*.py"))
PURE_ELSEWHERE = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path not in MODEL and (ast.get_docstring(ast.parse(path.read_text())) or "").rstrip().endswith("Pure.")
]
FORBIDDEN = {"asyncio", "nats", "aiodocker", "duckdb", "os", "socket", "subprocess", "pathlib", "time", "random", "uuid", "io"}
CALLS = {"open", "input", "print", "exec", "eval", "__import__"}


def imports(source: Path) -> set[str]:
    """Return the names of every module that a source imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def calls(source: Path) -> set[str]:
    """Return the plain names that a source calls."""
    nodes = ast.walk(ast.parse(source.read_text()))
    return {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


@pytest.mark.parametrize("source", MODEL + PURE_ELSEWHERE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_does_no_io(source: Path) -> None:
    assert not {name.split(".")[0] for name in imports(source)} & FORBIDDEN
    assert not calls(source) & CALLS


@pytest.mark.parametrize("source", MODEL, ids=lambda path: path.name)
def test_the_model_knows_nothing_of_the_rest(source: Path) -> None:
    """Beside the root of all errors, which is beneath everything."""
    known = {name for name in imports(source) if name.startswith("cutor") and not name.startswith("cutor.model")}
    assert known <= {"cutor.errors"}


def test_there_is_a_core_to_look_at() -> None:
    assert {"state.py", "decide.py", "events.py", "request.py", "messages.py"} <= {path.name for path in MODEL}
    elsewhere = {path.name for path in PURE_ELSEWHERE}
    assert {"errors.py", "progress.py", "text.py", "key.py", "settings.py", "verdict.py"} <= elsewhere
