"""What no test runs is imported at least: a benchmark that imports a name which has moved would be noticed by nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
IMPORT: Final = """
import importlib, sys, traceback
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception:
        print(name, traceback.format_exc(limit=-1))
"""


def test_every_module_beneath_tests_can_be_imported() -> None:
    """All that is no test itself, nor a program that an attack hands in: in one process of its own."""
    paths = [path for path in (ROOT / "tests").rglob("*.py") if (path.parent / "__init__.py").exists()]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if not path.name.startswith("test_")]
    modules = sorted(name.removesuffix(".__init__") for name in names if not name.endswith("__main__"))
    assert "tests.bench.live" in modules
    command = [sys.executable, "-c", IMPORT, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
