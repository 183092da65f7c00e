"""What `streams plan` and `apply` say: settings in the words of streams.yaml and config.toml, and how policies differ. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cutor.bus.topology_diff import Change, FieldChange
from cutor.model.limits import Policy
from cutor.model.units import size

_UNLIMITED: Final = frozenset({"max_age", "max_bytes", "max_msgs", "max_msgs_per_subject", "max_msg_size", "max_deliver"})
"""Settings for whose absence NATS writes -1 or 0."""
_NANOSECONDS: Final = frozenset(
    {"max_age", "duplicate_window", "ack_wait", "inactive_threshold", "idle_heartbeat", "max_expires"}
)
_BYTES: Final = frozenset({"max_bytes", "max_msg_size"})
_DURATIONS: Final = (
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
)


def change_text(change: Change) -> str:
    """Return a change as a line for people."""
    fields = f": {fields_text(change.fields)}" if change.fields else ""
    return f"{change.kind} {change.target}{fields}"


def fields_text(fields: tuple[FieldChange, ...]) -> str:
    """Return settings with old and new value, and why one cannot be."""
    return ", ".join(
        f"{one.field}: {value_text(one.field, one.old)} → {value_text(one.field, one.new)}"
        + (f" ({one.refusal})" if one.refusal else "")
        for one in fields
    )


def value_text(field: str, value: Any) -> str:
    """Return a value with its unit, as the file that it comes from would have it: ``5m``, ``8 MiB``, ``unlimited``."""
    name = field.rpartition(".")[2]
    if value is None:
        return "unset"
    if name in _UNLIMITED and value in (-1, 0):
        return "unlimited"
    if name in _NANOSECONDS and isinstance(value, int):
        return duration(value)
    if (name in _BYTES or name.endswith("_bytes")) and isinstance(value, int):
        return size(value)
    return f"{value} ms" if name.endswith("_ms") else str(value)


def duration(nanoseconds: int) -> str:
    """Return ``5m`` or ``250ms``: the largest unit of streams.yaml that is exact."""
    for unit, length in _DURATIONS:
        if nanoseconds and nanoseconds % length == 0:
            return f"{nanoseconds // length}{unit}"
    return f"{nanoseconds}ns"


def policy_changes(old: Policy | None, new: Policy) -> tuple[FieldChange, ...]:
    """Return how a published policy differs from a wanted one, setting by setting; None is one that nobody published."""
    before, after = ({} if policy is None else _flat(msgspec.to_builtins(policy)) for policy in (old, new))
    names = dict.fromkeys([*before, *after])
    return tuple(FieldChange(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name))


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
