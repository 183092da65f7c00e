"""The page of the parts: what each has, runs and imports."""

from __future__ import annotations

from docs.drawing import components
from docs.drawing.parts import PARTS, edges, reduced

HEAD = f"""\
# The parts of cutor

Made from the table in `docs/drawing/parts.py` and from the imports in the code by `python docs/generate.py`. A part imports
only what stands beneath it; [architecture](../explanation/architecture.md) says which rules there are, and what keeps each.

![{components.ABOUT}](../diagrams/components.svg)

| part | what it does | packages and modules | runs as | foreign libraries of it alone |
|---|---|---|---|---|
"""
IMPORTS = """
## Who imports whom

Imports for types alone included. In *italics* what the picture leaves out: a longer way implies it.

| part | imports |
|---|---|
"""


def page() -> str:
    """Return the page of the parts."""
    rows = [
        f"| **{part.name}** | {part.about} | {_code(part.modules)} | {', '.join(part.runs)} | {_code(part.libraries)} |\n"
        for part in PARTS
    ]
    return HEAD + "".join(rows) + IMPORTS + "".join(f"| **{part.name}** | {_imports(part.name)} |\n" for part in PARTS)


def _imports(importer: str) -> str:
    found = [part.name for part in PARTS if (importer, part.name) in edges()]
    return ", ".join(name if (importer, name) in reduced() else f"*{name}*" for name in found)


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
