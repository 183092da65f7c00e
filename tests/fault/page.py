"""The page of the points: what is killed where, in words. Pure; ``docs/generate.py`` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.fault.points import Point

HEAD: Final = """\
# The points at which processes are killed

Made from `tests/fault/points.py` by `python docs/generate.py`; [faults](../explanation/faults.md) explains how. `make fault`
kills at each of them, with submissions in work; `make fault ONLY='runner.*'` at some. *before*: the step has not begun; *sent*:
the message or request has left the process, its answer has not been read; *queued*: it was handed to the client library,
which may not have sent it; *within* and *during*: in the midst of it; *after*:
it is done, and nothing has followed.
"""
TITLES: Final = {
    "builder": "The builder kills itself",
    "runner": "The runner kills itself",
    "projector": "The projector kills itself",
    "producer": "A client kills itself while it hands in or cancels",
    "operator": "`cutor parked retry`, `cutor parked drop` and `cutor streams redeliver` kill themselves",
    "supervisor": "The supervisor kills itself while it starts or ends",
    "outside": "Killed from outside, and garbage",
    "network": "The connection between a role and the server, and roles that stand still",
    "cluster": "A server of a cluster of three, under load",
}
WORDS: Final = {
    "append-submitted": "`submitted` is appended",
    "append-leased": "the lease is appended",
    "append-cache-built": "`cache-built` is appended",
    "append-env-building": "an environment is claimed that three submissions need: `env-building` is appended to ENVIRONMENTS",
    "append-env-removed": "`env-removed` is appended: the submission is clean for which alone an environment was built",
    "private-note": "it is noted on disk that an environment is built for one submission alone",
    "private-release": "the roots of such an environment are removed",
    "private-forget": "the note of such an environment is removed",
    "append-env-built": "`env-built` is appended to ENVIRONMENTS",
    "append-compiled": "`compiled` is appended",
    "append-ran": "`ran` is appended",
    "append-finished": "`finished` is appended",
    "append-cleaned": "`cleaned` is appended by the worker that had the lease",
    "append-cleaned-by-sweep": "`cleaned` is appended by a role that starts again: it was killed behind the end",
    "append-cleaned-by-takeover": "`cleaned` is appended by who has no lease: the only one was lost by a kill",
    "append-rejected": "`rejected` is appended",
    "append-parked": "`parked` is appended: the step failed under the only lease",
    "append-parked-by-step": "`parked` is appended instead of a lease: the only one was lost by a kill",
    "append-parked-by-poison": "`parked` is appended: attending to it failed by a bug each time",
    "append-cache-lost": "`cache-lost` is appended",
    "append-body": "a chunk of a large content is written to BODIES",
    "append-letter": "a letter is written to DEADLETTERS",
    "append-decision": "it is recorded that a parked submission was retried",
    "append-drop": "it is recorded that a parked submission is dropped",
    "append-cancelled": "`cancelled` is appended",
    "consumer-reset": "a consumer is set back: by `cutor streams redeliver`, or after a power failure",
    "ack": "a delivery is acknowledged",
    "nak": "a delivery is handed back after a fault",
    "term": "a delivery is ended of which nobody can make anything: a bug each time",
    "hand-back": "a delivery is handed back, as the role was asked to end by SIGTERM and the time for that is over",
    "heartbeat": "a delivery is kept alive",
    "in-hand-note": "a delivery is noted on disk",
    "in-hand-forget": "the note of a delivery is removed",
    "former-life": "a role that starts settles what its former life had in hand",
    "sweep-list": "a role that starts looks for containers of its former life",
    "container-create": "a container is created",
    "container-attach": "its pipes are attached",
    "container-start": "it is started",
    "container-sockets": "its memory for sockets is limited",
    "container-limits": "its limits are changed",
    "container-remove": "it is removed",
    "mark-create": "an environment is marked as used",
    "mark-remove": "its mark is removed",
    "ready": "its init says that it is ready",
    "hand-over": "the submission is handed over",
    "compile": "the compile stage runs",
    "run": "a test case runs",
    "stop": "a stage or build that was cancelled is stopped",
    "build-frame": "the build is handed over",
    "build": "the environment is built",
    "publish": "what was built is copied into the binary cache",
    "publish-begun": "the container that copies it there begins",
    "fetch": "what the store lacks is copied from the binary cache",
    "fetch-begun": "the container that copies it from there begins",
    "commit": "a transaction of the views is committed",
    "checkpoint": "the write-ahead log is worked into the file",
    "snapshot": "the file is copied for a question",
    "set-aside": "a file that cannot be continued is set aside",
    "open": "the file is opened",
    "verify": "the views are compared with the streams",
    "leftovers": "drafts of a dead life are removed",
    "put-in-place": "a draft takes the place of a file of the data directory",
    "check": "Docker's parts are looked at",
    "sweep": "containers of a dead life are removed",
    "server-start": "the server is started",
    "apply": "streams and consumers are compared and made",
    "stream-apply": "a stream is made, at the first start of all",
    "consumer-apply": "a consumer is made, at the first start of all",
    "stop-server": "the stack ends: the server is stopped",
    "stop-sweep": "the stack ends: containers that the roles left are removed",
    "publish-policy": "the policy is published",
    "announce": "the stack says that it is ready",
    "server": "nats-server, while appends are in flight",
    "garbage-behind-each-event": "nothing is killed: behind each event comes garbage, which may cost no lease",
    "server-again": "nats-server, and once more as soon as it is back",
    "everything": "every process at once",
    "supervisor": "the supervisor",
    "builder": "the builder, at any moment",
    "runner": "the runner, at any moment",
    "projector": "the projector, at any moment",
    "container": "a container at work, by Docker",
    "init": "the first process of a container at work",
    "jail": "nsjail in a container at work",
    "daemon": "the jail of nix-daemon in a container at work",
    "cut": "every connection is reset, new ones too, for some seconds",
    "frozen": "no byte goes through for some seconds, nothing is closed",
    "slow": "each byte comes 150 ms later, in each direction",
    "flapping": "the connection is reset again and again",
    "append-unanswered": "the connection is reset when a result is stored and its answer is under way",
    "lease-unanswered": "the connection is reset when a lease is stored and its answer is under way",
    "append-halved": "the connection is reset when half of a result has passed",
    "stopped-at-its-append": "SIGSTOP when a result is about to be appended; SIGCONT when a second process has done everything",
    "stopped-before-its-lease": "SIGSTOP when a lease is about to be appended; SIGCONT when a second one has done everything",
    "stopped-past-its-lease": "SIGSTOP for longer than a lease lasts, with a second runner beside it; then SIGCONT",
    "frozen-past-its-lease": "no byte goes through for longer than a lease lasts, with a second runner beside it",
    "leader": "the leader of EVENTS, three times",
    "follower": "another server, three times",
}
"""What happens at a point, by the middle of its name; of points from outside, what is killed or done."""


def words(point: Point) -> str:
    """Return what happens at a point."""
    return WORDS[what(point)]


def what(point: Point) -> str:
    """Return the middle of a point's name; of those from outside what follows the name of a role, where that says it."""
    parts = point.name.split(".")
    if len(parts) == 3:
        return parts[1]
    role, _, rest = parts[1].partition("-")
    return rest if role in {"builder", "runner", "projector"} and rest else parts[1]


def page(points: Sequence[Point]) -> str:
    """Return the page."""
    return "\n".join(_lines(points)) + "\n"


def _lines(points: Sequence[Point]) -> Iterator[str]:
    yield from HEAD.splitlines()
    for role, title in TITLES.items():
        yield from ("", f"## {title}", "", "| point | where | what is done there |", "|---|---|---|")
        groups: dict[str, list[Point]] = {}
        for point in points:
            if point.role == role:
                groups.setdefault(point.name if point.name.count(".") == 1 else point.name.rpartition(".")[0], []).append(point)
        for name, several in groups.items():
            places = ", ".join(point.name.rpartition(".")[2] for point in several) if name != several[0].name else ""
            yield f"| `{name}` | {places} | {words(several[0])} |"
    yield from ("", f"{len(points)} points.")
