"""Writes the pages that are made from code: ``python docs/generate.py``. With ``--check`` it only says which are stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from cutor.model.state import TERMINAL, TRANSITIONS

DOCS: Final = Path(__file__).parent


def states() -> str:
    """Return the page with the state diagram, drawn from the transition table."""
    lines = [
        "# The states of a submission",
        "",
        "Made from `TRANSITIONS` in `cutor/model/state.py` by `python docs/generate.py`. An event that is not drawn at a state",
        "is a stray there: it is counted, and changes nothing else. After a terminal status only `cleaned` follows, once.",
        "",
        "```mermaid",
        "stateDiagram-v2",
    ]
    drawn: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        drawn.setdefault((before or "[*]", after), []).append(event)
    lines += [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in drawn.items()]
    lines += [f"    {status} --> [*]" for status in sorted(TERMINAL)]
    lines += ["```", "", "| status | event | next status |", "|---|---|---|"]
    lines += [f"| {before or '(none)'} | `{event}` | {after} |" for (before, event), after in TRANSITIONS.items()]
    return "\n".join(lines) + "\n"


PAGES: Final = {"reference/states.md": states}


def main() -> int:
    """Write the pages, or check them. Exit code 1: a page is out of date."""
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    print("\n".join(f"docs/{name}" for name in stale) or "all pages are current")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
