"""The page of the modules: every one of cutor, with what it says of itself in its first line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ABOUT_MODULES: Final = """\
# The modules of cutor

Made from the first line of each module by `python docs/generate.py`. The map in reading order is in
[contributing](../../CONTRIBUTING.md#a-map-in-reading-order); which part may import which, [parts](parts.md) says.
"""


def page() -> str:
    """Return the page: a table a package, in the order of their names, the modules at the top of cutor first."""
    lines = ABOUT_MODULES.splitlines()
    for package in sorted({path.parent for path in _modules()}, key=_name):
        lines += ["", f"## `{_name(package)}`", "", _opening(package), "", "| module | what it has |", "|---|---|"]
        lines += [
            f"| `{path.stem}` | {_in_table(summary(path))} |"
            for path in sorted(package.glob("*.py"))
            if path.name != "__init__.py"
        ]
    return "\n".join(lines) + "\n"


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring on one line; empty where it has none."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].replace("``", "`").split())


def _modules() -> Iterator[Path]:
    return (path for path in (ROOT / "cutor").rglob("*.py") if path.name != "__init__.py")


def _name(package: Path) -> str:
    return ".".join(package.relative_to(ROOT).parts)


def _opening(package: Path) -> str:
    place = package.relative_to(ROOT)
    opening = package / "__init__.py"
    said = summary(opening) if opening.exists() else ""
    return f"{said} [`{place}/`](../../{place}/)".strip()


def _in_table(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
