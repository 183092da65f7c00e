"""Writes the pages that are made from code: ``python docs/generate.py``. With ``--check`` it only says which are stale.

`PAGES` is the table of them; each is made by a module of `docs.pages`, or by what it is about. The pages of command line and
configuration are made by ``cutor.cli.reference``; ``make docs`` runs both. Beside the pages there are the diagrams, as
DOT (`docs.drawing`), and what an empty file of views defines (`cutor.projections.definitions`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from cutor.projections.definitions import DIGEST, Defined, defined
from docs.drawing import rendering
from docs.pages import events, metrics, modules, parts, python_client, request, result, states, streams, subjects, views
from tests.attacks.campaign import load_attacks
from tests.attacks.coverage import page as page_of_attacks
from tests.fault.page import page as page_of_faults
from tests.fault.points import POINTS

ROOT: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = ROOT / "docs" / "reference"


def definitions() -> str:
    """Return the digest of what an empty file of views defines."""
    return msgspec.json.format(msgspec.json.encode(Defined.of(defined())), indent=1).decode() + "\n"


PAGES: Final[dict[Path, Callable[[], str]]] = {
    REFERENCE / "request.md": request.page,
    REFERENCE / "result.md": result.page,
    REFERENCE / "python-client.md": python_client.page,
    REFERENCE / "events.md": events.page,
    REFERENCE / "subjects.md": subjects.page,
    REFERENCE / "streams.md": streams.page,
    REFERENCE / "states.md": states.page,
    REFERENCE / "parts.md": parts.page,
    REFERENCE / "modules.md": modules.page,
    REFERENCE / "views.md": views.page,
    REFERENCE / "metrics.md": metrics.page,
    REFERENCE / "attacks.md": lambda: page_of_attacks(load_attacks()),
    REFERENCE / "faults.md": lambda: page_of_faults(POINTS),
    DIGEST: definitions,
} | {rendering.DIRECTORY / f"{name}.dot": partial(rendering.source, name) for name in rendering.DIAGRAMS}


def main() -> int:
    """Write the pages, or check them. Exit code 1: a page is out of date."""
    stale = []
    for path, page in PAGES.items():
        text = page()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in sys.argv:
            path.write_text(text)
    print("\n".join(stale) or "all pages are current")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
