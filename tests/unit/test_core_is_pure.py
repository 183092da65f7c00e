"""The core decides and does nothing else: its modules import nothing that could do input or output."""

import ast
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "cutor" / "model"
FORBIDDEN = {"asyncio", "nats", "aiodocker", "duckdb", "os", "socket", "subprocess", "pathlib", "time", "random", "uuid", "io"}


def imports(source: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
            if node.module.startswith("cutor"):
                assert node.module.startswith("cutor.model"), f"{source.name} imports {node.module}"
    return found


@pytest.mark.parametrize("source", sorted(MODEL.glob("*.py")), ids=lambda path: path.name)
def test_imports_no_io(source: Path) -> None:
    assert not imports(source) & FORBIDDEN


def test_there_is_a_core_to_look_at() -> None:
    assert {"state.py", "decide.py", "events.py", "request.py"} <= {path.name for path in MODEL.glob("*.py")}
