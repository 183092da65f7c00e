"""Streams and consumers as they should be, as they are, and the way from one to the other. Pure.

`diff` decides; `plan` and `apply` of `topology` are its shell. Applying reads everything back: a setting that the server
ignored is an error. No stream and no consumer is ever deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

JsonValue = Any
"""A value as `json` reads it."""
Config = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable pull consumer as it should be."""

    stream: str
    name: str
    config: Config


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream as it should be, with its consumers."""

    name: str
    config: Config
    consumers: tuple[ConsumerSpec, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """All of `source` (the file's name, for messages)."""

    streams: tuple[StreamSpec, ...]
    source: str

    def with_replicas(self, count: int) -> Topology:
        """The same with `count` copies of every stream; consumers take the number of theirs."""
        streams = tuple(replace(stream, config={**stream.config, "num_replicas": count}) for stream in self.streams)
        return replace(self, streams=streams)


@dataclass(frozen=True, slots=True)
class HeldStream:
    """A stream as the server holds it: its configuration, and that of the consumers that were asked for."""

    config: Config
    consumers: Mapping[str, Config]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One setting: what the server holds, what it should hold, and why that cannot be done (None: it can)."""

    field: str
    old: JsonValue
    new: JsonValue
    refusal: str | None = None

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.old)} → {_shown(self.new)}" + (f" ({self.refusal})" if self.refusal else "")


@dataclass(frozen=True, slots=True)
class Change:
    """One step. `config` is what is sent: for an update the server's configuration with the changed fields in it."""

    kind: Literal["create", "update", "refuse"]
    stream: str
    consumer: str | None
    config: Config
    fields: tuple[FieldChange, ...] = ()

    @property
    def target(self) -> str:
        """What is changed, in words."""
        return f"stream {self.stream}" if self.consumer is None else f"consumer {self.consumer} of stream {self.stream}"

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (": " + ", ".join(str(field) for field in self.fields) if self.fields else "")


_UNORDERED: Final = frozenset({"subjects", "filter_subjects"})
_STREAM_NEUTRAL: Final = (
    "no_ack",
    "sealed",
    "mirror",
    "sources",
    "subject_transform",
    "republish",
    "allow_msg_ttl",
    "allow_msg_counter",
    "allow_msg_schedules",
    "allow_atomic",
    "allow_batched",
    "persist_mode",
    "max_consumers",
)
"""Settings of a stream that the file has no word for and that would break its promises: they must be off."""
_CONSUMER_NEUTRAL: Final = (
    "deliver_subject",
    "deliver_group",
    "mem_storage",
    "headers_only",
    "backoff",
    "flow_control",
    "inactive_threshold",
    "pause_until",
    "max_batch",
    "max_expires",
    "max_bytes",
    "priority_policy",
)
"""Likewise for a consumer."""
_OFF: Final[tuple[JsonValue, ...]] = (None, False, "", 0, [], {}, "default", "none")
_FIXED_STREAM: Final = {
    "storage": "NATS cannot change it",
    "mirror": "NATS cannot change it",
    "sealed": "a sealed stream stays sealed",
    "allow_msg_ttl": "NATS cannot take it back",
    "allow_msg_counter": "NATS cannot change it",
    "allow_msg_schedules": "NATS cannot take it back",
    "persist_mode": "NATS cannot change it",
}
_FIXED_CONSUMER: Final = dict.fromkeys(
    ("ack_policy", "deliver_policy", "replay_policy", "max_waiting", "mem_storage", "deliver_subject", "flow_control"),
    "NATS cannot change it",
)


def diff(held: Mapping[str, HeldStream], wanted: Topology) -> list[Change]:
    """The steps that make the server as wanted, streams before their consumers; empty if it is so already."""
    changes: list[Change] = []
    for stream in wanted.streams:
        there = held.get(stream.name)
        if there is None:
            changes.append(Change("create", stream.name, None, stream.config))
        else:
            changes += _updated(stream.name, None, there.config, stream.config)
        for consumer in stream.consumers:
            config = there.consumers.get(consumer.name) if there else None
            if config is None:
                changes.append(Change("create", stream.name, consumer.name, consumer.config))
            else:
                changes += _updated(stream.name, consumer.name, config, consumer.config)
    return changes


def _updated(stream: str, consumer: str | None, held: Config, wanted: Config) -> list[Change]:
    held = _normal(held)
    neutral = _STREAM_NEUTRAL if consumer is None else _CONSUMER_NEUTRAL
    target = dict(wanted) | {field: None for field in neutral if not _is_off(field, held.get(field))}
    fields = []
    for field, new in target.items():
        old = held.get(field)
        if field == "deny_purge" and old and not new:
            target[field] = old  # NATS cannot take it back, and only retention misses it: `cutor doctor` says so
        elif not _same(field, old, new):
            fields.append(FieldChange(field, old, new, _refusal(field, old, new, of_stream=consumer is None)))
    if not fields:
        return []
    kind: Literal["update", "refuse"] = "refuse" if any(field.refusal for field in fields) else "update"
    config = {field: value for field, value in {**held, **target}.items() if value is not None}
    return [Change(kind, stream, consumer, config, tuple(fields))]


def _is_off(field: str, value: JsonValue) -> bool:
    """Whether a neutral setting is off. Consumers without a bound are the server's -1."""
    return value in _OFF or (field == "max_consumers" and value == -1)


def _normal(config: Config) -> dict[str, JsonValue]:
    """One spelling where the server has two: a consumer's only filter may come as `filter_subject`."""
    normal = dict(config)
    single = normal.pop("filter_subject", None)
    if single and not normal.get("filter_subjects"):
        normal["filter_subjects"] = [single]
    return normal


def _same(field: str, old: JsonValue, new: JsonValue) -> bool:
    if old in _OFF and new in _OFF:
        return True
    if field in _UNORDERED and isinstance(old, list) and isinstance(new, list):
        return sorted(old) == sorted(new)
    return bool(old == new)


def _refusal(field: str, old: JsonValue, new: JsonValue, *, of_stream: bool) -> str | None:
    """Why the server would refuse this change; None if it may be tried."""
    if of_stream and field == "deny_delete" and old and not new:
        return "NATS cannot take it back"
    if of_stream and field == "retention" and "workqueue" in {old, new}:
        return "NATS cannot change it from or to workqueue"
    return (_FIXED_STREAM if of_stream else _FIXED_CONSUMER).get(field)


def _shown(value: JsonValue) -> str:
    return "unset" if value is None else str(value)
