"""The image's list of files, against the modules that its programs import: what is missing fails when a container starts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LIST: Final = ROOT / "cutor/setup/image/contents.txt"


def listed() -> dict[str, str]:
    """Return where each file of the repository goes in the image."""
    lines = (line.split() for line in LIST.read_text().splitlines() if line.strip() and not line.startswith("#"))
    return {fields[0]: fields[1] for fields in lines}


def imported(source: Path) -> Iterator[str]:
    """Yield the files of this repository that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = name.replace(".", "/")
            yield from (file for file in (f"{path}.py", f"{path}/__init__.py") if (ROOT / file).is_file())


def test_what_a_module_in_the_image_imports_is_in_the_image() -> None:
    files = listed()
    modules = [name for name in files if name.endswith(".py")]
    assert len(modules) > 20, "the list has another form"
    missing = {(name, needed) for name in modules for needed in imported(ROOT / name) if needed not in files}
    assert not missing, f"missing from {LIST.name}: {sorted(missing)}"


def test_every_module_lies_where_it_is_imported_from() -> None:
    modules = {name: target for name, target in listed().items() if name.startswith("cutor/") and "cutor/setup" not in name}
    assert {name: f"/opt/cutor/{name}" for name in modules} == modules
