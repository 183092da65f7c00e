"""Every point at which something is killed, and what must be handed in and done so that it is passed. Pure.

A point's name is ``<role>.<what>.<before|within|queued|sent|after>``. ``sent``: the message or request has left the process,
its answer has not been read; ``queued``: the client library has it, and may not have sent it. The docs list them from here, and
a run fails for a point that was armed and never passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Final, Literal, NamedTuple

AROUND: Final = ("before", "after")
UNANSWERED: Final = ("before", "queued", "after")
ANSWERED: Final = ("before", "sent", "after")

Deed = Literal[
    "nothing",
    "fail",
    "query",
    "spoil-views",
    "restart",
    "terminate",
    "garbage",
    "poison",
    "bug",
    "unclean",
    "lose-lease",
    "cancel",
    "retry",
    "drop",
    "redeliver",
]
"""What the harness does beside handing in: lets the step fail once first, asks the views, puts another file in their place,
kills the role once so that its start is passed, asks it to end, puts garbage into the stream, lets the role fail by a bug at
one submission (so that nothing can be made of it, or that it is parked), kills it first before it says that one is clean, or
with the only lease; cancels one, retries or drops a parked one, has everything that waits delivered again."""
Group = Literal["stack", "strict", "start", "stop", "new", "outside", "network", "cluster"]
"""Where a point is passed: on the usual stack; on one that allows a single lease; at a start over what a dead life left; at an
orderly end; at the first start of all; on the usual stack, by a kill from outside or a fault of the network; on a cluster."""


class Point(NamedTuple):
    """A point, the kinds of submissions beside the usual ones that pass it, and what else is to be done."""

    name: str
    kinds: tuple[str, ...] = ()
    deed: Deed = "nothing"
    group: Group = "stack"
    passing: int = 1

    @property
    def role(self) -> str:
        """The process that is killed."""
        return self.name.partition(".")[0]


def before(point: Point) -> list[str]:
    """Return the points at which the role is killed first, so that this one is passed."""
    words = {"unclean": "append-cleaned.before", "lose-lease": "append-leased.after"}
    return [f"{point.role}.{words[point.deed]}"] if point.deed in words else []


def _appends(
    role: str, what: str, *kinds: str, deed: Deed = "nothing", group: Group = "stack", passing: int = 1
) -> Iterator[Point]:
    yield from (Point(f"{role}.append-{what}.{when}", kinds, deed, group, passing) for when in ANSWERED)


def _around(name: str, *kinds: str, deed: Deed = "nothing", group: Group = "stack", passing: int = 1) -> Iterator[Point]:
    yield from (Point(f"{name}.{when}", kinds, deed, group, passing) for when in AROUND)


def _shared(role: str, builds: str, lasts: str, cancelled: str) -> Iterator[Point]:
    """Points of both roles; ``builds`` is a kind whose step has a container, ``lasts`` one whose step takes its time."""
    yield from _appends(role, "leased")
    yield from (Point(f"{role}.ack.{when}") for when in UNANSWERED)
    yield from (Point(f"{role}.nak.{when}", (builds,), "fail") for when in UNANSWERED)
    yield from _around(f"{role}.term", f"poison-{role}", deed="poison")
    yield from _around(f"{role}.hand-back", lasts, deed="terminate")
    yield from _around(f"{role}.heartbeat", lasts)
    for what in ("container-create", "container-start"):
        yield from (Point(f"{role}.{what}.{when}", (builds,)) for when in ANSWERED)
    yield from _around(f"{role}.container-attach", builds)
    yield from _around(f"{role}.container-sockets", builds)
    yield from _around(f"{role}.ready", builds)
    yield from (Point(f"{role}.container-remove.{when}", (builds,)) for when in ANSWERED)
    yield from _around(f"{role}.stop", cancelled)
    yield from _around(f"{role}.in-hand-note")
    yield from _around(f"{role}.in-hand-forget")
    yield from _around(f"{role}.sweep-list", builds, deed="restart")
    yield from _around(f"{role}.former-life", builds, deed="restart")
    yield from _appends(role, "parked", builds, group="strict")
    yield from _appends(role, "parked-by-step", builds, deed="lose-lease", group="strict")
    yield from _appends(role, "cleaned-by-takeover", builds, deed="lose-lease", group="strict")
    yield from _appends(role, "parked-by-poison", f"bug-{role}", deed="bug")


def _builder() -> Iterator[Point]:
    yield from _shared("builder", "builds", "lasts-building", "cancelled-build")
    yield from _appends("builder", "cache-built")
    yield from _appends("builder", "env-building", "twin", "twin", "twin")
    yield from _appends("builder", "env-built", "twin", "twin", "twin")
    yield from _appends("builder", "env-removed", "private")
    yield from _around("builder.private-note", "private")
    yield from _around("builder.private-release", "private")
    yield from _around("builder.private-forget", "private")
    yield from _appends("builder", "finished", "no-environment")
    yield from _appends("builder", "cleaned", "no-environment")
    yield from _appends("builder", "cleaned-by-sweep", "no-environment", deed="unclean")
    yield from _appends("builder", "rejected", "refused")
    yield from _appends("builder", "body", "no-environment-big")
    yield from _around("builder.build-frame", "builds")
    yield from _around("builder.build", "builds", "private")
    yield from _around("builder.publish", "builds")
    yield from _around("builder.publish-begun", "builds")


def _runner() -> Iterator[Point]:
    yield from _shared("runner", "plain", "lasts", "cancelled-run")
    yield from _appends("runner", "compiled")
    yield from _appends("runner", "ran", passing=3)
    yield from _appends("runner", "finished")
    yield from _appends("runner", "cleaned")
    yield from _appends("runner", "cleaned-by-sweep", deed="unclean")
    yield from _appends("runner", "cache-lost", "lost")
    yield from _appends("runner", "body", "big")
    yield from _around("runner.container-limits", "compiles")
    for what in ("mark-create", "mark-remove"):
        yield from (Point(f"runner.{what}.{when}", ("plain",)) for when in ANSWERED)
    yield from _around("runner.hand-over")
    yield from _around("runner.compile")
    yield from _around("runner.run", passing=2)
    yield from _around("runner.fetch", "fetched")
    yield from _around("runner.fetch-begun", "fetched")


def _projector() -> Iterator[Point]:
    yield from (Point(f"projector.commit.{when}", passing=2) for when in ("before", "within", "during", "after"))
    yield from (Point(f"projector.checkpoint.{when}", passing=2) for when in ("before", "during", "after"))
    yield from (Point(f"projector.snapshot.{when}", deed="query") for when in ("before", "within", "after"))
    yield from (Point(f"projector.set-aside.{when}", deed="spoil-views") for when in ("before", "within", "after"))
    yield from _around("projector.open", deed="restart")
    yield from _around("projector.verify", deed="restart")
    yield from (Point(f"projector.append-letter.{when}", deed="garbage") for when in ANSWERED)


def _producer() -> Iterator[Point]:
    """A client that dies while it hands in, or cancels: who does the same again finds out."""
    yield from _appends("producer", "submitted", "plain")
    yield from _appends("producer", "body", "big-input")
    yield from _appends("producer", "cancelled", "until-cancelled", deed="cancel")


def _operator() -> Iterator[Point]:
    """Somebody who retries or drops what is parked, or has everything delivered again, and dies of it, and does so again."""
    for what in ("submitted", "decision"):
        yield from _appends("operator", what, deed="retry", group="strict")
    yield from _appends("operator", "drop", deed="drop", group="strict")
    yield from (Point(f"operator.consumer-reset.{when}", ("until-cancelled",), "redeliver") for when in ANSWERED)


def _supervisor() -> Iterator[Point]:
    """In the order of a start: several are passed one after the other, over what one dead life left."""
    steps = ("leftovers", "put-in-place", "check", "container-remove", "sweep", "server-start", "apply", "publish-policy")
    for what in (*steps, "consumer-reset", "announce"):
        yield from _around(f"supervisor.{what}", "lasts", "builds", group="start")
    for what in ("consumer-apply", "stream-apply"):
        yield from (Point(f"supervisor.{what}.{when}", group="new") for when in ANSWERED)
    for what in ("stop-server", "stop-sweep"):
        yield from _around(f"supervisor.{what}", "lasts", group="stop")


def _outside() -> Iterator[Point]:
    """Kills from outside: no process kills itself there. And garbage, with nothing killed beside it."""
    yield Point("outside.garbage-behind-each-event", ("many", "many"), group="outside")
    for what in ("server", "everything", "supervisor"):
        yield Point(f"outside.{what}", ("lasts", "lasts-building", "big"), group="outside")
    yield Point("outside.server-again", ("lasts", "lasts-building"), group="outside")
    for role in ("builder", "runner", "projector"):
        yield Point(f"outside.{role}", ("lasts", "lasts-building"), group="outside")
    for role, kind in (("builder", "lasts-building"), ("runner", "lasts")):
        yield Point(f"outside.{role}-container", (kind,), group="outside")
        yield Point(f"outside.{role}-init", (kind,), group="outside")
        yield Point(f"outside.{role}-jail", (kind,), group="outside")
    yield Point("outside.builder-daemon", ("lasts-building",), group="outside")


def _network() -> Iterator[Point]:
    """The connection between one role and the server; and a role that is stopped for longer than its lease lasts."""
    for role, kind in (("builder", "lasts-building"), ("runner", "lasts"), ("projector", "plain")):
        for how in ("cut", "frozen", "slow", "flapping"):
            yield Point(f"network.{role}-{how}", (kind,), group="network")
    for role, kind in (("builder", "builds"), ("runner", "lasts")):
        yield Point(f"network.{role}-append-unanswered", (kind,), group="network")
        yield Point(f"network.{role}-append-halved", (kind,), group="network")
    for role in ("builder", "runner"):
        yield Point(f"network.{role}-stopped-at-its-append", group="network")
        yield Point(f"network.{role}-stopped-before-its-lease", group="network")
        yield Point(f"network.{role}-lease-unanswered", group="network")
    yield Point("network.runner-stopped-past-its-lease", ("until-cancelled",), group="network")
    yield Point("network.runner-frozen-past-its-lease", ("until-cancelled",), group="network")


def _cluster() -> Iterator[Point]:
    yield Point("cluster.leader", group="cluster")
    yield Point("cluster.follower", group="cluster")


POINTS: Final[tuple[Point, ...]] = (
    *(*_builder(), *_runner(), *_projector(), *_producer(), *_operator(), *_supervisor()),
    *(*_outside(), *_network(), *_cluster()),
)


def matching(patterns: Sequence[str], points: Sequence[Point] = POINTS) -> list[Point]:
    """Return the points whose names fit one of the patterns."""
    return [point for point in points if any(fnmatch(point.name, pattern) for pattern in patterns)]


CHAIN: Final = 4
"""Points of one role that are passed one after the other before everything is looked at."""


def rounds(points: Sequence[Point]) -> Iterator[list[list[Point]]]:
    """Yield what is killed before everything is looked at: for each role some points, one after the other."""
    left = {role: [point for point in points if point.role == role] for role in dict.fromkeys(point.role for point in points)}
    while any(left.values()):
        yield [of_role[:CHAIN] for of_role in left.values() if of_role]
        left = {role: of_role[CHAIN:] for role, of_role in left.items()}
