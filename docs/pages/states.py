"""The page of the states: the diagrams of submission and environment, and what they are drawn from as tables."""

from __future__ import annotations

from cutor.model.state import TRANSITIONS
from docs.drawing import environments, states

HEAD = f"""\
# The states of a submission

Made from `TRANSITIONS` in `cutor/model/state.py` by `python docs/generate.py`. An event that is not drawn at a state
is a stray there: it is counted, and changes nothing else. After a terminal status only `cleaned` follows, once;
after a cancel it may bring what that interrupted: results that were not appended yet, the stage that was stopped.

![{states.ABOUT}](../diagrams/states.svg)

| status | event | next status |
|---|---|---|
"""
ENVIRONMENTS = f"""
## The states of an environment

What `evolve_environment` in `cutor/model/environments.py` makes of each kind of event; one that comes again is not drawn.
`env-pinned` and `env-unpinned` keep an environment from [collections](../explanation/environments.md), and change nothing else.

![{environments.ABOUT}](../diagrams/environments.svg)

| state | event | next state |
|---|---|---|
"""


def page() -> str:
    """Return the page of the states."""
    of_submissions = [f"| {before or '(none)'} | `{event}` | {after} |\n" for (before, event), after in TRANSITIONS.items()]
    of_environments = [
        f"| {before} | `{event}` | {after} |\n"
        for (before, after), events in environments.transitions().items()
        for event in events
    ]
    return HEAD + "".join(of_submissions) + ENVIRONMENTS + "".join(of_environments)
