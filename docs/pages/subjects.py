"""The page of the subjects: each as the code builds it, with its stream, its bodies, and who may publish and hear there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cutor.bus import horizon
from cutor.bus.bodies import CHUNK_BYTES, TOKEN_DIGITS, body_subject
from cutor.bus.service import ANSWER_ID, PART_BYTES
from cutor.bus.topology import default_text
from cutor.bus.topology_file import covers, parse
from cutor.metrics import statistics
from cutor.metrics.table import SECONDS
from cutor.model.build_progress import BuildProgress
from cutor.model.codec import encode
from cutor.model.events import KINDS
from cutor.model.letters import headers_of, letter_of
from cutor.model.subjects import (
    POLICY_SUBJECT,
    SUBMISSION_ID,
    TENANT,
    Address,
    environment_subject,
    event_subject,
    letter_subject,
    parked_subject,
    progress_subject,
)
from cutor.projections.archive import belonging
from cutor.projections.exports import orders as exports
from cutor.projections.queries import questions
from cutor.projections.rebuilds import orders as rebuilds
from docs.pages.fields import body, cell, section, shapes
from docs.pages.samples import PROGRESS, STATISTICS

ACCOUNTS: Final = Path(__file__).resolve().parents[2] / "deploy" / "nats" / "cluster" / "accounts.conf"
_ANY: Final = Address("<tenant>", "<id>")


class Subject(NamedTuple):
    """A subject with places such as ``<tenant>`` in it; what is published there, and what for."""

    pattern: str
    what: str
    body: str


STREAMED: Final = (
    Subject(event_subject(_ANY, "<kind>"), "an event of a submission", "[events](events.md#events-of-a-submission)"),
    Subject(environment_subject("<key>"), "an event of an environment", "[events](events.md#events-of-an-environment)"),
    Subject(parked_subject(_ANY), "what was decided about a parked submission", "[parked-resolved](events.md#parked-resolved)"),
    Subject(body_subject("<sha256>", "<chunk>"), "a chunk of a content over 64 KiB", "[bytes](#contents)"),  # type: ignore[arg-type]
    Subject(letter_subject("<stream>", "<sequence>"), "a copy of a message that is no event", "[as it was](#dead-letters)"),
    Subject(POLICY_SUBJECT, "limits, bounds, tenants", "[Policy](events.md#policy)"),
    Subject(horizon.SUBJECT, "which bodies are to go", "[Horizon](events.md#horizon)"),
    Subject(f"{belonging.SUBJECT}.<directory>", "which archive is in a directory", "32 hexadecimal digits"),
)
"""Subjects of streams: what is published there stays."""

NOTICES: Final = (
    Subject(progress_subject(_ANY), "what Nix prints while an environment is built", "[BuildProgress](#buildprogress)"),
    Subject(
        statistics.subject_of("<role>", "<worker>"), "how a process fares, every 2 s at the least", "[Statistics](#statistics)"
    ),
)
"""Plain messages: whoever listens at the moment hears them, and nobody else ever does."""

EXPORTS: Final = (exports.Begin, exports.Look, exports.Part, exports.End)
"""What may be asked of who makes the views as a file."""

REQUESTS: Final = (
    Subject(questions.SUBJECT, "a question in SQL", "[Question](#question)"),
    Subject(
        exports.SUBJECT, "the views as a file", ", ".join(f"[{kind.__name__}](#{kind.__name__.lower()})" for kind in EXPORTS)
    ),
    Subject(rebuilds.SUBJECT, "have the views made anew", "[Order](#order)"),
    Subject(rebuilds.subject_of("<rebuild>"), "how far that is, or an end to it", "[Order](#order)"),
)
"""Requests that the projector answers."""

ALL: Final = (*STREAMED, *NOTICES, *REQUESTS)

PLACES: Final = {
    "tenant": f"`{TENANT.pattern}`; declared in the configuration",
    "id": f"`{SUBMISSION_ID.pattern}`; unique within the tenant",
    "kind": f"of the event, as in its body: {', '.join(f'`{kind}`' for kind in KINDS)}",
    "key": "of the environment: 64 digits of `[0-9a-f]`",
    "sha256": f"of the content: 64 digits of `[0-9a-f]`; behind them, where that name was taken, `-` and {TOKEN_DIGITS} digits",
    "chunk": "number of the chunk, from 0 on",
    "stream": "name of the message's stream",
    "sequence": "of the message in that stream",
    "directory": "16 digits of `[0-9a-f]`: of the SHA-256 of the directory's path",
    "role": f"{', '.join(f'`{role}`' for role in statistics.RoleName.__args__)}",  # type: ignore[attr-defined]
    "worker": "name of the process, with `_` in the place of each dot",
    "rebuild": "as the answer to the first message names it",
}
"""What may stand in the places of subjects."""

ABOUT: Final = """\
# Subjects

Made from the code that builds each subject, `streams.yaml` and `deploy/nats/cluster/accounts.conf` by
`python docs/generate.py`.

All subjects of cutor begin with `cutor.` Who *may publish* and who *may listen* are the users of that file, which the
[cluster](../how-to/cluster.md#who-may-do-what) and [a server of your own](../how-to/own-nats.md) can have; a stack of
`cutor up` has one user, who may do everything. To listen is to hear what is published from then on. What stands in a stream is
read from it as well, by whoever may ask JetStream: a direct get of the last message under a subject, or a consumer
([follow the events](../how-to/follow-events.md) does both).
"""

CONTENTS: Final = f"""
## Contents

A content over 64 KiB is cut into chunks of {CHUNK_BYTES} bytes, the last one shorter, each under a subject of its own, which
holds one message for ever. A [BodyRef](events.md#bodyref) names all of it: `{body_subject("<sha256>", 0)}` to
`{body_subject("<sha256>", "<chunks - 1>")}`. Read the last message of each subject, put the chunks together, and compare
length and SHA-256: whoever may submit may write there. With a `salt` in the reference the chunk numbered N is under
`{body_subject("<sha256>", "N").rpartition(".")[0]}-<token>.N`, where the token is the first {TOKEN_DIGITS} digits of the
SHA-256 of the text `<salt>.N`. No message id, no fence but an expected last sequence of 0.
"""

LETTERS: Final = """
## Dead letters

The projector copies what is no event, byte by byte and exactly once; a builder or runner does so with what it cannot attend to.
Headers say what it is a copy of: ASCII, with the escapes of Python's strings for everything else. `Cutor-Truncated` is `true`
where headers and body would not have fit into one message. [Dead letters](../how-to/ask.md) can be asked for in SQL, too.
"""

QUERY: Final = f"""
## The query service

A message on `{questions.SUBJECT}` with a reply subject is answered there, in parts of up to {PART_BYTES} bytes: put together
the bodies of the messages whose header `{ANSWER_ID}` is that of the one with `Status: 200`, which is the last. Where no
projector runs, the server says at once that nobody listens. The answer is one JSON object: `columns` (each `name` and `type`),
`rows`, `truncated`, and beside them what [Standing](#standing) has; or a [Failure](#failure). `Client.query` and `cutor query`
do this.
"""


EXPORTING: Final = f"""
## The views as a file

Each request on `{exports.SUBJECT}` is answered by an [ExportReport](#exportreport), but `part`: that by up to
{exports.PART_BYTES} bytes of the file, and by none where there is no such file. A file for which nobody asks for
{exports.PATIENCE_S:g} s is given up.
`cutor projections snapshot` does this.
"""

REBUILDING: Final = f"""
## The views made anew

Each request is answered by a [RebuildReport](#rebuildreport). Where nobody asks for {rebuilds.PATIENCE_S:g} s, the rebuild is
given up.
`cutor projections rebuild` does this.
"""


def page() -> str:
    """Return the page."""
    lines = [
        *ABOUT.splitlines(),
        "",
        "## In streams",
        "",
        "A message stays; a stream takes only what its [settings](streams.md) allow.",
        "",
    ]
    lines += [*_streamed(), "", "## Notices", "", f"{NOTICES_ABOUT}", "", *_others(NOTICES)]
    lines += ["", "## Requests", "", REQUESTS_ABOUT, "", *_others(REQUESTS)]
    lines += ["", "## Places in subjects", "", "| place | what may stand there |", "|---|---|"]
    used = dict.fromkeys(place for one in ALL for place in places(one.pattern))
    assert set(used) == set(PLACES)
    lines += [f"| `<{place}>` | {cell(PLACES[place])} |" for place in used]
    lines += [*CONTENTS.splitlines(), *LETTERS.splitlines(), "", *_letter_headers(), *QUERY.splitlines()]
    for kind in (questions.Question, questions.Standing, questions.AsOf, questions.Failure):
        lines += section(kind)
    lines += EXPORTING.splitlines()
    for kind in (*EXPORTS, exports.ExportReport):
        lines += section(kind)
    lines += REBUILDING.splitlines()
    for kind in (rebuilds.Order, rebuilds.RebuildReport):
        lines += section(kind)
    lines += ["", "## Bodies of notices", *section(BuildProgress), "", *body(encode(PROGRESS))]  # type: ignore[arg-type]
    lines += [*section(statistics.Statistics), "", *body(encode(STATISTICS))]  # type: ignore[arg-type]
    lines += ["", f"Buckets end at {', '.join(f'{second:g}' for second in SECONDS)} seconds; one more holds what took longer."]
    assert shapes(BuildProgress, statistics.Statistics) == []
    return "\n".join(lines) + "\n"


NOTICES_ABOUT: Final = """\
No stream keeps them; who did not listen has missed them. They are for the eyes of people: nothing is decided by them."""


REQUESTS_ABOUT: Final = """\
The projector answers them. What goes over `cutor.projector.` is between cutor's own commands and its projector, and changes
with them; a program asks by `cutor.query`."""


def places(pattern: str) -> list[str]:
    """Return the places in a subject."""
    return re.findall(r"<(\w+)>", pattern)


def wildcard(pattern: str) -> str:
    """Return what matches every subject of a pattern."""
    return re.sub(r"<\w+>", "*", pattern)


def _streamed() -> Iterator[str]:
    streams = [(one.name, subject) for one in parse(default_text(), ["default"]).streams for subject in one.config["subjects"]]
    yield from ("| subject | stream | what | body | may publish | may listen |", "|---|---|---|---|---|---|")
    for one in STREAMED:
        [stream] = [name for name, subject in streams if covers(subject, wildcard(one.pattern))]
        yield f"| `{one.pattern}` | [{stream}](streams.md#{stream.lower()}) | {one.what} | {one.body} | {_allowed(one)} |"


def _others(subjects: tuple[Subject, ...]) -> Iterator[str]:
    yield from ("| subject | what | body | may publish | may listen |", "|---|---|---|---|---|")
    yield from (f"| `{one.pattern}` | {one.what} | {one.body} | {_allowed(one)} |" for one in subjects)


def _allowed(subject: Subject) -> str:
    """Return two cells: the users that may publish there, and those that may listen."""
    return " | ".join(", ".join(_users(subject, action)) or "nobody" for action in ("publish", "subscribe"))


def _users(subject: Subject, action: str) -> Iterator[str]:
    """Yield the users that may do something at some subject of a pattern; with the words for which they may, if not for all."""
    for user, permissions in accounts().items():
        matching = [one for one in permissions[action] if _meet(one, wildcard(subject.pattern))]
        if not matching:
            continue
        if any(covers(one, wildcard(subject.pattern)) for one in matching):
            yield user
        else:
            words = [word for one in matching for word in _own_words(one, wildcard(subject.pattern))]
            yield f"{user} ({', '.join(f'`{word}`' for word in words)})"


def _own_words(permission: str, pattern: str) -> list[str]:
    """Return the words of a permission that stand in places of a pattern."""
    pairs = zip(permission.split("."), pattern.split("."), strict=True)
    return [own for own, wanted in pairs if wanted == "*" and own != "*"]


def _meet(permission: str, pattern: str) -> bool:
    """Return whether a permission is for some of the subjects of a pattern."""
    allowed, wanted = permission.split("."), pattern.split(".")
    if allowed[-1] == ">":
        return len(wanted) >= len(allowed) and all(_word(*pair) for pair in zip(allowed[:-1], wanted, strict=False))
    return len(allowed) == len(wanted) and all(_word(*pair) for pair in zip(allowed, wanted, strict=True))


def _word(one: str, other: str) -> bool:
    return one == other or "*" in (one, other)


def accounts() -> dict[str, dict[str, list[str]]]:
    """Return the subjects of cutor that each user of the cluster may publish and subscribe to."""
    found: dict[str, dict[str, list[str]]] = {}
    user, action = "", ""
    for line in ACCOUNTS.read_text().splitlines():
        text = line.partition("#")[0]
        if named := re.search(r'user: "(\w+)"', text):
            user = named[1]
            found[user] = {"publish": [], "subscribe": []}
        if began := re.search(r"\b(publish|subscribe|deny|exports|imports)\b", text):
            action = began[1]
        if user and action in found[user]:
            found[user][action] += re.findall(r'"(cutor\.[^"]+)"', text)
    return found


def _letter_headers() -> Iterator[str]:
    letter = letter_of(
        stream="EVENTS",
        sequence=1042,
        subject="cutor.ev.default.6f1c2a.ran",
        time_ns=1_769_860_800_000_000_000,
        reason="ran: Object missing required field `index`",
        message_id="made-up",
        size_bytes=17,
        complete_to=1040,
    )
    yield from ("```text", *(f"{name}: {value}" for name, value in headers_of(letter).items()), "```")
