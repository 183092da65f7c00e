"""Reading `streams.yaml`: strict, and every complaint is one line that names file, place and remedy. Pure.

The result holds each setting as the server's JSON API wants it (durations in nanoseconds, -1 for unlimited), so that it can
be compared with what the server says, field by field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from cutor.bus.errors import TopologyError
from cutor.bus.topology_diff import ConsumerSpec, JsonValue, StreamSpec, Topology
from cutor.bus.topology_promises import check_promises

SOURCE: Final = "streams.yaml"
PLACEHOLDER: Final = "{tenant}"

_UNITS_NS: Final = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_UNITS_BYTES: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TENANT: Final = re.compile(r"[a-z0-9-]{1,32}")
_SUBJECT: Final = re.compile(r"(?:[A-Za-z0-9_-]+|\*)(?:\.(?:[A-Za-z0-9_-]+|\*))*(?:\.>)?")
_MISSING: Final = object()


class _Bad(ValueError):
    """What is wrong with one value; the caller knows the place."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """How a setting is read; `default` is what is sent if it is left out (`_MISSING`: it must be there)."""

    read: Callable[[object], JsonValue]
    default: Any = _MISSING


# -- values ------------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str) or "\n" in value:
        raise _Bad(f"{value!r} is not one line of text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Bad(f"{value!r} is neither true nor false")
    return value


def _count(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _Bad(f"{value!r} is not a whole number from {least} to {most}")
        return value

    return read


def _one_of(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise _Bad(f"{value!r} is not {' or '.join(choices)}")
        return str(value)

    return read


def _unlimited(read: Callable[[object], JsonValue], wire: int) -> Callable[[object], JsonValue]:
    """`unlimited`, which the server writes as `wire`, or a value."""

    def read_either(value: object) -> JsonValue:
        return wire if value == "unlimited" else read(value)

    return read_either


def _duration(value: object) -> int:
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise _Bad(f"{value!r} is not a duration such as 30s: a whole number with ms, s, m, h or d")
    return int(found[1]) * _UNITS_NS[found[2]]


def _size(value: object) -> int:
    found = re.fullmatch(r"(\d+) ?(B|KiB|MiB|GiB|TiB|)", str(value)) if isinstance(value, str | int) else None
    if found is None or isinstance(value, bool) or int(found[1]) == 0:
        raise _Bad(f"{value!r} is not a size such as 8MiB: a whole number with B, KiB, MiB, GiB or TiB")
    return int(found[1]) * _UNITS_BYTES[found[2]]


def _subjects(value: object) -> list[JsonValue]:
    if not isinstance(value, list) or not value:
        raise _Bad(f"{value!r} is not a list of subjects")
    for subject in value:
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject.replace(PLACEHOLDER, "t")):
            raise _Bad(f"{subject!r} is not a subject: words, * and a last > with dots between them")
    if len(set(value)) != len(value):
        raise _Bad("a subject is listed twice")
    return list(value)


STREAM_SETTINGS: Final[Mapping[str, _Setting]] = {
    "description": _Setting(_text, ""),
    "subjects": _Setting(_subjects),
    "retention": _Setting(_one_of("limits")),
    "storage": _Setting(_one_of("file", "memory")),
    "num_replicas": _Setting(_count(1, 5)),
    "discard": _Setting(_one_of("new", "old")),
    "discard_new_per_subject": _Setting(_flag, default=False),
    "max_age": _Setting(_unlimited(_duration, 0)),
    "max_bytes": _Setting(_unlimited(_size, -1)),
    "max_msgs": _Setting(_unlimited(_count(1, 2**53), -1)),
    "max_msgs_per_subject": _Setting(_unlimited(_count(1, 2**53), -1)),
    "max_msg_size": _Setting(_size),
    "duplicate_window": _Setting(_duration),
    "deny_delete": _Setting(_flag),
    "deny_purge": _Setting(_flag),
    "allow_direct": _Setting(_flag),
    "allow_rollup_hdrs": _Setting(_flag, default=False),
    "compression": _Setting(_one_of("none", "s2"), "none"),
}
"""Settings of a stream under NATS's names. `limits` is the only retention: with another one the log would not stay."""

CONSUMER_SETTINGS: Final[Mapping[str, _Setting]] = {
    "description": _Setting(_text, ""),
    "filter_subjects": _Setting(_subjects),
    "ack_policy": _Setting(_one_of("explicit")),
    "ack_wait": _Setting(_duration),
    "max_deliver": _Setting(_unlimited(_count(1, 10**6), -1)),
    "max_ack_pending": _Setting(_count(1, 10**6)),
    "deliver_policy": _Setting(_one_of("all", "new")),
    "replay_policy": _Setting(_one_of("instant")),
    "max_waiting": _Setting(_count(1, 10**6), 512),
}
"""Settings of a consumer; it is durable and pulled from. `explicit` is the only policy: a delivery is a lease."""


# -- the document ------------------------------------------------------------------------------------------------------


class _StrictLoader(yaml.SafeLoader):
    """YAML with plain values only, and no key twice: the second one would win without a word."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[object, object]:
    found: dict[object, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _Bad(f"line {key_node.start_mark.line + 1}: the key {key!r} is not a name")
        if key in found:
            raise _Bad(f"line {key_node.start_mark.line + 1}: {key} is there twice: keep one")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse(text: str, tenants: Sequence[str], *, source: str = SOURCE) -> Topology:
    """The topology of a `streams.yaml` for these tenants, with all that cutor relies on.

    TopologyError, one line with the place: `streams.yaml: streams.EVENTS.retention: …`.
    """
    topology = read(text, tenants, source=source)
    check_promises(topology, tenants)
    return topology


def read(text: str, tenants: Sequence[str], *, source: str = SOURCE) -> Topology:
    """What a `streams.yaml` says, whether cutor could work with it or not. TopologyError as in `parse`."""
    try:
        document = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader with one more check
    except _Bad as error:
        raise TopologyError(f"{source}: {error}") from error
    except RecursionError as error:
        raise TopologyError(f"{source}: nested too deeply; this is no streams.yaml") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise TopologyError(f"{source}: {place}not valid YAML: {getattr(error, 'problem', None) or error}") from error
    _check_tenants(tenants, source)
    streams = _section(document, source, "the file", known={"streams"})["streams"]
    specs = [
        _stream(name, content, tenants, f"{source}: streams.{name}")
        for name, content in _section(streams, source, "streams").items()
    ]
    _check_overlaps(specs, source)
    return Topology(tuple(specs), source)


def _check_tenants(tenants: Sequence[str], source: str) -> None:
    if not tenants:
        raise TopologyError(f"{source}: no tenants are declared: declare one at least in the configuration")
    for tenant in tenants:
        if not _TENANT.fullmatch(tenant):
            raise TopologyError(f"{source}: tenant {tenant!r}: 1 to 32 characters of a-z, 0-9 and - are allowed")
    if len(set(tenants)) != len(tenants):
        raise TopologyError(f"{source}: a tenant is declared twice")


def _section(value: object, source: str, place: str, known: set[str] | None = None) -> dict[str, object]:
    if not isinstance(value, dict) or not value:
        raise TopologyError(f"{source}: {place}: expected settings, found {value!r}")
    for key in value:
        if known is not None and key not in known:
            raise TopologyError(f"{source}: {place}: {key} is not known here: expected {', '.join(sorted(known))}")
    return value


def _settings(content: Mapping[str, object], table: Mapping[str, _Setting], place: str) -> dict[str, JsonValue]:
    """Read all settings of one stream or consumer."""
    for key in content:
        if key not in table:
            raise TopologyError(f"{place}.{key}: not a known setting: remove it, or write one of {', '.join(table)}")
    config: dict[str, JsonValue] = {}
    for key, setting in table.items():
        if key not in content:
            if setting.default is _MISSING:
                raise TopologyError(f"{place}.{key}: missing: this setting has no default, write it down")
            config[key] = setting.default
            continue
        try:
            config[key] = setting.read(content[key])
        except _Bad as error:
            raise TopologyError(f"{place}.{key}: {error}") from error
    return config


def _stream(name: str, content: object, tenants: Sequence[str], place: str) -> StreamSpec:
    if not _NAME.fullmatch(name):
        raise TopologyError(f"{place}: a stream's name has 1 to 64 letters, digits, - or _")
    if not isinstance(content, dict):
        raise TopologyError(f"{place}: expected settings, found {content!r}")
    config = _settings({key: value for key, value in content.items() if key != "consumers"}, STREAM_SETTINGS, place)
    if config["discard_new_per_subject"] and (config["discard"] != "new" or config["max_msgs_per_subject"] == -1):
        raise TopologyError(f"{place}.discard_new_per_subject: needs `discard: new` and a number as max_msgs_per_subject")
    if 0 < _number(config["max_age"]) < _number(config["duplicate_window"]):
        raise TopologyError(f"{place}.duplicate_window: longer than max_age: the server refuses that")
    subjects = _strings(config["subjects"])
    consumers: list[ConsumerSpec] = []
    declared = content.get("consumers", {})
    if not isinstance(declared, dict):
        raise TopologyError(f"{place}.consumers: expected consumers by name, found {declared!r}")
    for template, settings in declared.items():
        consumers += _consumers(name, template, settings, tenants, subjects, f"{place}.consumers.{template}")
    names = [consumer.name for consumer in consumers]
    if len(set(names)) != len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise TopologyError(f"{place}.consumers: two consumers would be called {twice}: rename one")
    return StreamSpec(name, {"name": name, **config}, tuple(consumers))


def _consumers(
    stream: str, template: str, content: object, tenants: Sequence[str], subjects: Sequence[str], place: str
) -> list[ConsumerSpec]:
    """The consumers that one entry stands for: one, or one per tenant."""
    if not isinstance(content, dict):
        raise TopologyError(f"{place}: expected settings, found {content!r}")
    per = content.get("per")
    if per not in {None, "tenant"}:
        raise TopologyError(f"{place}.per: {per!r} is not tenant: write tenant or leave it out")
    if (PLACEHOLDER in template) != (per == "tenant"):
        raise TopologyError(f"{place}: a name with {PLACEHOLDER} and `per: tenant` belong together")
    config = _settings({key: value for key, value in content.items() if key != "per"}, CONSUMER_SETTINGS, place)
    specs = []
    for tenant in tenants if per else [""]:
        name = template.replace(PLACEHOLDER, tenant)
        if not _NAME.fullmatch(name):
            raise TopologyError(f"{place}: a consumer's name has 1 to 64 letters, digits, - or _")
        filters = [subject.replace(PLACEHOLDER, tenant) if per else subject for subject in _strings(config["filter_subjects"])]
        for subject in filters:
            if "{" in subject or not any(covers(pattern, subject) for pattern in subjects):
                raise TopologyError(f"{place}.filter_subjects: {subject} is not within the subjects of {stream}")
        specs.append(ConsumerSpec(stream, name, {**config, "name": name, "durable_name": name, "filter_subjects": [*filters]}))
    return specs


def _check_overlaps(specs: Sequence[StreamSpec], source: str) -> None:
    taken: list[tuple[str, str]] = []
    for spec in specs:
        for subject in _strings(spec.config["subjects"]):
            for other, pattern in taken:
                if overlap(subject, pattern):
                    raise TopologyError(
                        f"{source}: streams.{spec.name}.subjects: {subject} overlaps {pattern} of {other}: "
                        "each subject belongs to one stream"
                    )
            taken.append((spec.name, subject))


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject that matches `subject` (which may have wildcards too) matches `pattern`."""
    wide, narrow = pattern.split("."), subject.split(".")
    for position, word in enumerate(wide):
        if word == ">":
            return len(narrow) > position
        if position >= len(narrow) or narrow[position] == ">" or word not in {"*", narrow[position]}:
            return False
    return len(wide) == len(narrow)


def overlap(one: str, other: str) -> bool:
    """Whether some subject matches both."""
    left, right = one.split("."), other.split(".")
    for mine, theirs in zip(left, right, strict=False):
        if ">" in {mine, theirs}:
            return True
        if mine != theirs and "*" not in {mine, theirs}:
            return False
    return len(left) == len(right)


def _number(value: JsonValue) -> int:
    assert isinstance(value, int)
    return value


def _strings(value: JsonValue) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]
