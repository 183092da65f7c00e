"""What decides in the bus does no I/O, and the bus alone knows NATS."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cutor"
PURE = [
    *("errors", "message", "verdict", "pull", "turns", "topology_diff", "topology_promises", "topology_file"),
    *("address", "permission"),
    "restoring",
    "backup_manifest",
]
BENEATH = "cutor.errors"
"""The root of all errors, itself pure: see test_core_is_pure.py."""
FILES = "cutor.private_files"
"""How cutor writes a file that only its owner may read; it imports nothing of cutor's."""
FORBIDDEN = {"asyncio", "nats", "os", "socket", "subprocess", "pathlib", "time", "random", "secrets"}


def imports(source: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_no_io_and_only_pure_modules(name: str) -> None:
    found = imports(PACKAGE / "bus" / f"{name}.py")
    assert not {module.split(".")[0] for module in found} & FORBIDDEN
    assert {module for module in found if module.startswith("cutor")} <= {BENEATH, *(f"cutor.bus.{pure}" for pure in PURE)}


def test_only_the_bus_imports_nats() -> None:
    importers = {path for path in PACKAGE.rglob("*.py") if any(m.split(".")[0] == "nats" for m in imports(path))}
    assert importers
    assert all(path.parent == PACKAGE / "bus" for path in importers)


def test_the_bus_knows_nothing_of_what_is_in_it() -> None:
    for path in (PACKAGE / "bus").glob("*.py"):
        foreign = {m for m in imports(path) if m.startswith("cutor") and not m.startswith("cutor.bus")} - {BENEATH, FILES}
        assert not foreign, f"{path.name} imports {foreign}"
    assert not {m for m in imports(PACKAGE / "private_files.py") if m.startswith("cutor")}
