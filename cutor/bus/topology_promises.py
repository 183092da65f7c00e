"""What cutor relies on in its streams and consumers, setting by setting, each with the reason. Pure.

A deployer's `streams.yaml` decides the rest: replicas, ages, sizes, how much may be in flight. What is refused here would lose
events, hand them to nobody, or let them be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cutor.bus.errors import TopologyError
from cutor.bus.topology_diff import Config, JsonValue, Topology

HEARTBEAT_S: Final = 8.0
"""Between two signs of life of a worker that holds a delivery. A consumer's ``ack_wait`` must have room for three: one may be
late, one may be lost."""
LEASE_S: Final = 3 * HEARTBEAT_S
"""The least that an ``ack_wait`` may be: how long a lease lasts without a sign of life where the consumer cannot be asked."""


@dataclass(frozen=True, slots=True)
class _Must:
    """A setting, and which of its values keep cutor's promises; ``words`` say it in the file's terms, and why."""

    setting: str
    holds: Callable[[Any], bool]
    words: str


def _is(setting: str, value: JsonValue, words: str) -> _Must:
    return _Must(setting, lambda found: bool(found == value), words)


def _least(setting: str, value: int, words: str) -> _Must:
    return _Must(setting, lambda found: bool(found >= value), words)


def _must_be_bounded(setting: str, words: str) -> _Must:
    return _Must(setting, lambda found: bool(found > 0), words)


_EVERYWHERE: Final = (
    _is("storage", "file", "file: what is in memory alone is gone when the server restarts"),
    _is("allow_direct", True, "true: cutor reads by direct get"),
)
_LOG: Final = (
    _is("discard", "new", "new: a full stream refuses what comes, it forgets nothing"),
    _is("deny_delete", True, "true: nobody edits history"),
)
_HISTORY: Final = (*_LOG, _is("deny_purge", True, "true: nobody edits history"))
_REPLACED: Final = _is("discard_new_per_subject", False, "false: a new value takes the place of the old one")
_STREAMS: Final[Mapping[str, tuple[str, tuple[_Must, ...]]]] = {
    "EVENTS": (
        "cutor.ev.>",
        (
            *_LOG,
            _is("max_msgs_per_subject", -1, "unlimited: `ran` comes several times under one subject"),
            _least("max_msg_size", 8 << 20, "8MiB or more: an event may be as large as that"),
        ),
    ),
    "BODIES": (
        "cutor.body.>",
        (
            *_LOG,
            _is("max_msgs_per_subject", 1, "1: a chunk is written once"),
            _is("discard_new_per_subject", True, "true: a chunk is written once"),
            _is("max_age", 0, "unlimited: a body that is used again keeps its first age, and newer events refer to it"),
            _least("max_msg_size", 1 << 20, "1MiB or more: a chunk has 512KiB, and headers"),
        ),
    ),
    "ENVIRONMENTS": ("cutor.env.>", (_REPLACED, _least("max_msg_size", 8 << 20, "8MiB or more: an event may be as large"))),
    "STACK": (
        "cutor.stack.>",
        (
            _REPLACED,
            _is("max_age", 0, "unlimited: the stack's limits stay published"),
            _least("max_msg_size", 1 << 20, "1MiB or more: the limits name every tenant"),
        ),
    ),
    "PARKED": (
        "cutor.dead.parked.>",
        (
            *_HISTORY,
            _is("max_msgs_per_subject", -1, "unlimited: a decision is written behind what is there, whatever that is"),
            _is("max_age", 0, "unlimited: a submission whose decision expired would be undecided again"),
            _least("max_msg_size", 1 << 20, "1MiB or more, as shipped"),
        ),
    ),
    "DEADLETTERS": (
        "cutor.dead.message.>",
        (
            _is("discard", "old", "old: a full stream of letters keeps nothing waiting"),
            _must_be_bounded("max_bytes", "a size: a flood of garbage must not fill the disk"),
            _is("max_msgs_per_subject", 1, "1: one letter for a message"),
            _least("max_msg_size", 8 << 20, "8MiB or more: a letter holds a message as large as that"),
        ),
    ),
}
"""Every stream of cutor's with its subject, and what else must be so in it."""

ROLES: Final[Mapping[str, tuple[str, ...]]] = {"builder": ("submitted", "cache-lost"), "runner": ("cache-built",)}
"""The kinds of events that a role is given; each tenant has a consumer of its own for it."""
_CONSUMER: Final = (
    _is("max_deliver", -1, "unlimited: leases are counted and bounded in the log"),
    _is("deliver_policy", "all", "all: what was submitted before the consumer was made waits, too"),
    _least("ack_wait", int(LEASE_S * 10**9), f"{LEASE_S:g}s or more: three signs of life of a worker"),
)


def promises() -> Iterator[tuple[str, str, str]]:
    """Yield what a `streams.yaml` must keep to: a stream, a setting in it, and which value for which reason.

    Those of the consumers stand under their role.
    """
    for stream, (_, musts) in _STREAMS.items():
        yield from ((stream, must.setting, must.words) for must in (*_EVERYWHERE, *musts))
    for role in ROLES:
        yield from ((role, must.setting, must.words) for must in _CONSUMER)


def check_promises(topology: Topology, tenants: Sequence[str]) -> None:
    """Refuse a topology with which cutor could not keep its promises to these tenants: TopologyError for the first setting."""
    specs = {spec.name: spec for spec in topology.streams}
    for name, (subject, musts) in _STREAMS.items():
        if name not in specs:
            raise TopologyError(f"{topology.source}: streams: {name} is missing: cutor needs it, with the subject {subject}")
        place = f"{topology.source}: streams.{name}"
        if subject not in specs[name].config["subjects"]:
            raise TopologyError(f"{place}.subjects: {subject} is missing: it must be among them")
        _check_musts(specs[name].config, (*_EVERYWHERE, *musts), place)
    consumers = {consumer.name: consumer.config for consumer in specs["EVENTS"].consumers}
    for tenant in tenants:
        for role, kinds in ROLES.items():
            filters = [f"cutor.ev.{tenant}.*.{kind}" for kind in kinds]
            _check_consumer(consumers, role, tenant, filters, f"{topology.source}: streams.EVENTS.consumers")


def _check_consumer(consumers: Mapping[str, Config], role: str, tenant: str, filters: Sequence[str], place: str) -> None:
    name = f"{role}-{tenant}"
    if name not in consumers:
        raise TopologyError(f"{place}: {name} is missing: write {role}-{{tenant}} with `per: tenant`")
    if sorted(consumers[name]["filter_subjects"]) != sorted(filters):
        raise TopologyError(f"{place}.{name}.filter_subjects: must be {' and '.join(filters)}, and nothing else")
    _check_musts(consumers[name], _CONSUMER, f"{place}.{name}")


def _check_musts(config: Config, musts: Sequence[_Must], place: str) -> None:
    for must in musts:
        if not must.holds(config[must.setting]):
            raise TopologyError(f"{place}.{must.setting}: must be {must.words}")
