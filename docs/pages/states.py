"""The page of the states, with their diagram: drawn from the transition table."""

from __future__ import annotations

from cutor.model.state import TERMINAL, TRANSITIONS


def page() -> str:
    """Return the page with the state diagram, drawn from the transition table."""
    lines = [
        "# The states of a submission",
        "",
        "Made from `TRANSITIONS` in `cutor/model/state.py` by `python docs/generate.py`. An event that is not drawn at a state",
        "is a stray there: it is counted, and changes nothing else. After a terminal status only `cleaned` follows, once;",
        "after a cancel it may bring what that interrupted: results that were not appended yet, the stage that was stopped.",
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
