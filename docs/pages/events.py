"""The page of the events: every kind in the log, who appends it, its fields, an example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

import msgspec

from cutor.bus import horizon
from cutor.bus.horizon import Horizon
from cutor.model import decisions, environments, state
from cutor.model.codec import UPCASTERS, VERSIONS, encode
from cutor.model.content import INLINE_BYTES
from cutor.model.decisions import ParkedResolved
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import EVENT_TYPES, TERMINAL_KINDS, kind_of
from cutor.model.limits import Limit, Policy
from cutor.model.spill import EVENT_BYTES
from cutor.model.state import TRANSITIONS
from cutor.model.subjects import POLICY_SUBJECT, environment_subject, event_subject, fence, parked_subject
from cutor.projections.archive import belonging as archive
from docs.drawing.environments import transitions
from docs.pages.fields import body, docstring, paragraph, section, shapes, table
from docs.pages.samples import ADDRESS, KEY, LIFE, message_id_of, samples_of

NEWEST: Final = ", ".join(map(str, sorted(set(VERSIONS.values()))))

ABOUT: Final = f"""\
# The events

Made from the types and docstrings in `cutor/model` by `python docs/generate.py`; the examples are read by its codec.

Everything that happens to a submission is an event: a message in the stream EVENTS of NATS JetStream, under a subject that
names tenant, submission and kind. Environments have events of their own in ENVIRONMENTS, decisions about parked submissions in
PARKED, and what a stack tells its clients stands in STACK. [Subjects](subjects.md) has every subject and who may use it,
[streams](streams.md) how the streams are set up, [follow the events](../how-to/follow-events.md) a program that reads them.

## What every event has

- **A place.** The message's sequence in the stream is the order of all events. The message's time, which the server gave it, is
  when it happened: no body has a time.
- **A subject.** Tenant and id stand there, and in no body. A body whose `kind` is not that of the subject is no event.
- **A body**: one JSON object in UTF-8, with its headers no more than {EVENT_BYTES} bytes. `kind` says what it is, `version`
  of which shape. What is not in the tables below is left aside: a newer cutor may write it. A field that came later may be left
  out, and the column of that name says what it is then. Any other change is a new `version`. Today's is {NEWEST}.
- **A message id** (`Nats-Msg-Id`): a second append of the same event is a duplicate.
- **A fence.** An event of a submission is appended on the condition that none has come since its writer read them: with
  `Nats-Expected-Last-Subject-Sequence`, and `Nats-Expected-Last-Subject-Sequence-Subject: {fence(ADDRESS)}`.
- **No large contents.** What has more than {INLINE_BYTES} bytes stands in the stream BODIES, and the event has a
  [BodyRef](#bodyref). Where many smaller contents would make an event large, the largest of them go there, too.

Units stand in names: `_ms` are milliseconds, `_bytes` bytes. null means none or not known; 0 is a number.

## What is no event

Whoever may publish to a subject can put anything there, and a worker that lost its lease may be late. What has not the shape
that is described here, or has no place where the submission stands, is a *stray*: it changes nothing. With these rules every
reader comes to the same:

"""


def rules(module: Any) -> list[str]:
    """Return the numbered rules in a module's docstring, a line each."""
    found: list[str] = []
    for line in str(module.__doc__).splitlines():
        if line[:1].isdigit():
            found.append(line)
        elif found and line.startswith("   "):
            found[-1] += " " + line.strip()
    assert found, module.__name__
    return [paragraph(line).replace("`TRANSITIONS` says", "[The transitions](states.md) say") for line in found]


def page() -> str:
    """Return the page."""
    lines = [*ABOUT.splitlines(), *rules(state), "", "## Events of a submission", "", *_overview()]
    for kind in EVENT_TYPES:
        lines += _kind(kind, event_subject(ADDRESS, tag(kind)))
    lines += [
        *("", "## Events of an environment", "", "Under `cutor.env.<key>`, whatever the kind. What they come to:", ""),
        *rules(environments),
    ]
    for kind in get_args(EnvironmentEvent):
        lines += _kind(kind, environment_subject(KEY))
    about = " ".join(decisions.__doc__.split("\n\n")[1].split())
    lines += ["", "## Decisions about parked submissions", "", about, *_kind(ParkedResolved, parked_subject(ADDRESS))]
    lines += ["", "## What a stack tells its clients", "", *_values()]
    lines += [
        "",
        "## Shapes in events",
        "",
        "What several events have in them. An event holds a shape whole, or null where it says so.",
    ]
    for kind in shapes(*EVENT_TYPES, *get_args(EnvironmentEvent), ParkedResolved):
        lines += section(kind)
    return "\n".join(lines) + "\n"


def tag(kind: type[msgspec.Struct]) -> str:
    """Return the kind as it stands in a body."""
    return str(kind.__struct_config__.tag)


def _overview() -> Iterator[str]:
    yield from ("| kind | what happened | of a submission that is |", "|---|---|---|")
    for kind in EVENT_TYPES:
        name = tag(kind)
        befores = ", ".join(dict.fromkeys(before or "new" for before, event in TRANSITIONS if event.partition("(")[0] == name))
        yield f"| [`{name}`](#{name}) | {docstring(kind)[0]} | {befores} |"
    yield from ("", f"A submission ends with exactly one of {', '.join(f'`{name}`' for name in sorted(TERMINAL_KINDS))}.")
    yield "[States](states.md) draws what may follow what. The examples below are of one submission:"
    yield f"{', '.join(f'`{kind_of(event)}`' for event in LIFE)}. What it comes to is [a result](result.md#an-example)."


def _kind(kind: Any, subject: str) -> Iterator[str]:
    """Yield the section of a kind of event."""
    name = tag(kind)
    yield from ("", f"### {name}", "")
    for part in docstring(kind):
        yield from (part, "")
    yield f"- subject: `{subject}`"
    examples = samples_of(kind)
    if kind in EVENT_TYPES:
        yield f"- message id, such as `{message_id_of(examples[0])}`"  # type: ignore[arg-type]
        yield f"- {_transitions(name)}"
    elif kind is not ParkedResolved:
        yield f"- {_transitions_of_environments(name)}"
    older = sorted(version for other, version in UPCASTERS if other == name)
    yield f"- version {VERSIONS[name]}" + (f"; {', '.join(map(str, older))} are read, too" if older else "")
    yield from ("", *table(kind))
    for example in dict.fromkeys(encode(one) for one in examples):
        yield from ("", *body(example))


def _transitions(name: str) -> str:
    """Return the transitions of an event in a line."""
    found = [
        f"{before or 'nothing'} → {after}" + (f" ({event.partition('(')[2]}" if "(" in event else "")
        for (before, event), after in TRANSITIONS.items()
        if event.partition("(")[0] == name
    ]
    assert found, name
    return f"[states](states.md): {', '.join(found)}"


def _transitions_of_environments(name: str) -> str:
    """Return the transitions of an environment's event in a line."""
    found = [f"{before} → {after}" for (before, after), events in transitions().items() if name in events]
    return f"[states](states.md#the-states-of-an-environment): {'; '.join(found) or 'as before'}"


def _values() -> Iterator[str]:
    """Yield what stands in the stream STACK: values, each of which takes the place of the one before it."""
    policy, until = docstring(Policy)[0], docstring(Horizon)[0]
    yield "STACK holds values: a new one takes the place of the old one under its subject. They have no `kind`, and no fence."
    yield from ("", f"- `{POLICY_SUBJECT}`: [Policy](#policy). {policy} `cutor up` and `cutor streams apply` publish it.")
    yield f"- `{horizon.SUBJECT}`: [Horizon](#horizon). {until} An archiver that lets bodies go publishes it."
    yield f"- `{archive.SUBJECT}.<directory>`: 32 hexadecimal digits, no JSON: the mark of the archive in a directory."
    yield from section(Policy)
    yield from section(Horizon)
    for kind in shapes(Policy, known=(Limit,)):
        yield from section(kind)
