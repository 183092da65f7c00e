"""`streams.yaml`: what it says, every way to get it wrong, and what has to be done about a server that differs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cutor.bus.errors import TopologyError
from cutor.bus.topology import default_text
from cutor.bus.topology_diff import Config, HeldStream, Topology, diff
from cutor.bus.topology_file import covers, overlap, parse, read
from cutor.model.events import KINDS
from cutor.model.spill import EVENT_BYTES

STREAM = """\
streams:
  EVENTS:
    subjects: [cutor.ev.>]
    retention: limits
    storage: file
    num_replicas: 1
    discard: new
    max_age: unlimited
    max_bytes: unlimited
    max_msgs: unlimited
    max_msgs_per_subject: unlimited
    max_msg_size: 8MiB
    duplicate_window: 5m
    deny_delete: true
    deny_purge: true
    allow_direct: true
"""
CONSUMER = """\
    consumers:
      runner-{tenant}:
        per: tenant
        filter_subjects: ["cutor.ev.{tenant}.*.cache-built"]
        ack_policy: explicit
        ack_wait: 30s
        max_deliver: unlimited
        max_ack_pending: 1000
        deliver_policy: all
        replay_policy: instant
"""
OTHER = STREAM.replace("streams:\n", "").replace("EVENTS", "BODIES").replace("cutor.ev.>", "cutor.body.>")


def topology(text: str = STREAM + CONSUMER, tenants: tuple[str, ...] = ("default",)) -> Topology:
    """What a file says with which cutor could not work: it has one stream, and one consumer a tenant."""
    return read(text, tenants)


def test_values_are_those_of_the_servers_api() -> None:
    (stream,) = topology().streams
    assert stream.config["name"] == "EVENTS"
    assert stream.config["duplicate_window"] == 300_000_000_000
    assert stream.config["max_msg_size"] == 8 << 20
    assert (stream.config["max_age"], stream.config["max_bytes"], stream.config["max_msgs"]) == (0, -1, -1)
    (consumer,) = stream.consumers
    assert consumer.config["ack_wait"] == 30_000_000_000
    assert consumer.config["max_deliver"] == -1


def test_per_tenant_means_one_consumer_each() -> None:
    (stream,) = topology(tenants=("default", "batch")).streams
    assert [(c.name, c.config["filter_subjects"]) for c in stream.consumers] == [
        ("runner-default", ["cutor.ev.default.*.cache-built"]),
        ("runner-batch", ["cutor.ev.batch.*.cache-built"]),
    ]


BAD = [
    ("", "streams.yaml: the file: expected settings"),
    ("streams: [", "streams.yaml: line 1: not valid YAML"),
    ("streams: {}", "streams.yaml: streams: expected settings"),
    ("streams: 3", "streams.yaml: streams: expected settings"),
    ("stream: {}", "streams.yaml: the file: stream is not known here: expected streams"),
    ("streams: {EVENTS: 1}", "streams.yaml: streams.EVENTS: expected settings, found 1"),
    ("streams: {a.b: {}}", "streams.yaml: streams.a.b: a stream's name has"),
    ("streams: {1: {}}", "streams.yaml: line 1: the key 1 is not a name"),
    (STREAM + "    retension: x\n", "streams.yaml: streams.EVENTS.retension: not a known setting"),
    (STREAM + "    storage: file\n", "streams.yaml: line 17: storage is there twice: keep one"),
    (STREAM + STREAM.replace("streams:\n", ""), "streams.yaml: line 17: EVENTS is there twice"),
    (STREAM.replace("    retention: limits\n", ""), "streams.yaml: streams.EVENTS.retention: missing"),
    (STREAM.replace("limits", "workqueue"), "streams.yaml: streams.EVENTS.retention: 'workqueue' is not limits"),
    (STREAM.replace("storage: file", "storage: disk"), "streams.yaml: streams.EVENTS.storage: 'disk' is not file or memory"),
    (STREAM.replace("5m", "5 minutes"), "streams.yaml: streams.EVENTS.duplicate_window: '5 minutes' is not a duration"),
    (STREAM.replace("5m", "300"), "streams.yaml: streams.EVENTS.duplicate_window: 300 is not a duration"),
    (STREAM.replace("5m", "0s"), "streams.yaml: streams.EVENTS.duplicate_window: '0s' is not a duration"),
    (STREAM.replace("8MiB", "8MB"), "streams.yaml: streams.EVENTS.max_msg_size: '8MB' is not a size"),
    (STREAM.replace("8MiB", "-1"), "streams.yaml: streams.EVENTS.max_msg_size: -1 is not a size"),
    (STREAM.replace("8MiB", "true"), "streams.yaml: streams.EVENTS.max_msg_size: True is not a size"),
    (STREAM.replace("num_replicas: 1", "num_replicas: 0"), "streams.yaml: streams.EVENTS.num_replicas: 0 is not a whole"),
    (STREAM.replace("num_replicas: 1", "num_replicas: true"), "streams.yaml: streams.EVENTS.num_replicas: True is not"),
    (STREAM.replace("deny_purge: true", "deny_purge: 1"), "streams.yaml: streams.EVENTS.deny_purge: 1 is neither true nor"),
    (STREAM.replace("[cutor.ev.>]", "cutor.ev.>"), "streams.yaml: streams.EVENTS.subjects: 'cutor.ev.>' is not a list"),
    (STREAM.replace("[cutor.ev.>]", "[cutor..ev]"), "streams.yaml: streams.EVENTS.subjects: 'cutor..ev' is not a subject"),
    (STREAM.replace("[cutor.ev.>]", "['cutor ev']"), "streams.yaml: streams.EVENTS.subjects: 'cutor ev' is not a subject"),
    (STREAM.replace("[cutor.ev.>]", "[a, a]"), "streams.yaml: streams.EVENTS.subjects: a subject is listed twice"),
    (STREAM + "    description: [x]\n", "streams.yaml: streams.EVENTS.description: ['x'] is not one line of text"),
    (STREAM + "    discard_new_per_subject: true\n", "streams.yaml: streams.EVENTS.discard_new_per_subject: needs"),
    (STREAM.replace("max_age: unlimited", "max_age: 1m"), "streams.yaml: streams.EVENTS.duplicate_window: longer than max_age"),
    (
        STREAM + OTHER.replace("cutor.body.>", "cutor.*.x"),
        "streams.yaml: streams.BODIES.subjects: cutor.*.x overlaps cutor.ev.>",
    ),
    (STREAM + "    consumers: [a]\n", "streams.yaml: streams.EVENTS.consumers: expected consumers by name"),
    (STREAM + "    consumers: {a: 1}\n", "streams.yaml: streams.EVENTS.consumers.a: expected settings, found 1"),
    (STREAM + CONSUMER.replace("30s", "soon"), "streams.EVENTS.consumers.runner-{tenant}.ack_wait: 'soon' is not a duration"),
    (
        STREAM + CONSUMER.replace("explicit", "none"),
        "streams.EVENTS.consumers.runner-{tenant}.ack_policy: 'none' is not explicit",
    ),
    (
        STREAM + CONSUMER.replace("per: tenant", "per: user"),
        "streams.EVENTS.consumers.runner-{tenant}.per: 'user' is not tenant",
    ),
    (STREAM + CONSUMER.replace("        per: tenant\n", ""), "a name with {tenant} and `per: tenant` belong together"),
    (STREAM + CONSUMER.replace("runner-{tenant}:", "runner:"), "a name with {tenant} and `per: tenant` belong together"),
    (STREAM + CONSUMER.replace("cutor.ev.{tenant}", "cutor.env.{tenant}"), "is not within the subjects of EVENTS"),
    (STREAM + CONSUMER.replace("runner-{tenant}", "run ner-{tenant}"), "a consumer's name has 1 to 64"),
    (STREAM + CONSUMER + "        acks: 1\n", "streams.EVENTS.consumers.runner-{tenant}.acks: not a known setting"),
    ("streams: &a {EVENTS: *a}", "streams.yaml: line 1: not valid YAML: found unconstructable recursive node"),
    ("streams: !!python/object/apply:os.getcwd []", "streams.yaml: line 1: not valid YAML"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[-40:] for _, message in BAD])
def test_a_bad_file_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(text, ["default"])
    assert message in str(caught.value)
    assert str(caught.value).startswith("streams.yaml: ")
    assert "\n" not in str(caught.value)


def changed(place: str, setting: str | None, value: object = None) -> str:
    """The shipped file with one setting changed, or without it or the whole place; a place is a stream, or a consumer in it."""
    document = yaml.safe_load(default_text())
    stream, _, consumer = place.partition(".")
    holder, name = (document["streams"][stream]["consumers"], consumer) if consumer else (document["streams"], stream)
    if setting is None:
        del holder[name]
    elif value is None:
        del holder[name][setting]
    else:
        holder[name][setting] = value
    return yaml.safe_dump(document)


BUILDER, RUNNER = "EVENTS.builder-{tenant}", "EVENTS.runner-{tenant}"
BUILDS = ["cutor.ev.{tenant}.*.submitted", "cutor.ev.{tenant}.*.cache-lost"]
STREAMS = ("EVENTS", "BODIES", "ENVIRONMENTS", "STACK", "PARKED", "DEADLETTERS")
BROKEN = [
    *((name, None, None, f"streams: {name} is missing") for name in STREAMS),
    ("EVENTS", "subjects", ["cutor.events.>"], "streams.EVENTS.consumers.builder-{tenant}.filter_subjects: cutor.ev."),
    ("BODIES", "subjects", ["cutor.bodies.>"], "streams.BODIES.subjects: cutor.body.> is missing"),
    ("STACK", "subjects", ["cutor.stack.*.>"], "streams.STACK.subjects: cutor.stack.> is missing"),
    *((name, "allow_direct", False, f"streams.{name}.allow_direct: must be true") for name in STREAMS),
    *((name, "storage", "memory", f"streams.{name}.storage: must be file") for name in STREAMS),
    *(
        (name, setting, value, f"streams.{name}.{setting}: must be {words}")
        for name in ("EVENTS", "BODIES", "PARKED")
        for setting, value, words in (
            ("discard", "old", "new"),
            ("deny_delete", False, "true"),
            ("deny_purge", False, "true"),
        )
        if (name, setting) not in {("BODIES", "discard"), ("EVENTS", "deny_purge"), ("BODIES", "deny_purge")}
    ),
    ("BODIES", "discard", "old", "streams.BODIES.discard_new_per_subject: needs `discard: new`"),
    ("EVENTS", "max_msgs_per_subject", 5, "streams.EVENTS.max_msgs_per_subject: must be unlimited"),
    ("EVENTS", "max_msg_size", "7MiB", "streams.EVENTS.max_msg_size: must be 8MiB or more"),
    ("BODIES", "max_msgs_per_subject", 2, "streams.BODIES.max_msgs_per_subject: must be 1"),
    ("BODIES", "discard_new_per_subject", False, "streams.BODIES.discard_new_per_subject: must be true"),
    ("BODIES", "max_msg_size", "512KiB", "streams.BODIES.max_msg_size: must be 1MiB or more"),
    ("BODIES", "max_age", "30d", "streams.BODIES.max_age: must be unlimited: a body that is used again keeps its first age"),
    ("ENVIRONMENTS", "max_msg_size", "1MiB", "streams.ENVIRONMENTS.max_msg_size: must be 8MiB or more"),
    ("STACK", "max_msg_size", "1KiB", "streams.STACK.max_msg_size: must be 1MiB or more"),
    ("STACK", "max_age", "1d", "streams.STACK.max_age: must be unlimited"),
    ("PARKED", "max_msgs_per_subject", 1, "streams.PARKED.max_msgs_per_subject: must be unlimited"),
    ("PARKED", "max_age", "30d", "streams.PARKED.max_age: must be unlimited"),
    ("DEADLETTERS", "discard", "new", "streams.DEADLETTERS.discard: must be old"),
    ("DEADLETTERS", "max_bytes", "unlimited", "streams.DEADLETTERS.max_bytes: must be a size"),
    ("DEADLETTERS", "max_msgs_per_subject", "unlimited", "streams.DEADLETTERS.max_msgs_per_subject: must be 1"),
    ("DEADLETTERS", "max_msg_size", "1MiB", "streams.DEADLETTERS.max_msg_size: must be 8MiB or more"),
    (BUILDER, None, None, "streams.EVENTS.consumers: builder-default is missing: write builder-{tenant} with `per: tenant`"),
    (RUNNER, None, None, "streams.EVENTS.consumers: runner-default is missing: write runner-{tenant} with `per: tenant`"),
    (
        BUILDER,
        "filter_subjects",
        BUILDS[:1],
        "builder-default.filter_subjects: must be cutor.ev.default.*.submitted and cutor.ev",
    ),
    (
        BUILDER,
        "filter_subjects",
        ["cutor.ev.{tenant}.>"],
        "builder-default.filter_subjects: must be cutor.ev.default.*.submitted",
    ),
    (
        RUNNER,
        "filter_subjects",
        BUILDS,
        "runner-default.filter_subjects: must be cutor.ev.default.*.cache-built, and nothing else",
    ),
    *(
        (consumer, setting, value, f".{setting}: must be {words}")
        for consumer in (BUILDER, RUNNER)
        for setting, value, words in (
            ("max_deliver", 2, "unlimited: leases are counted"),
            ("deliver_policy", "new", "all"),
            ("ack_wait", "23s", "24s or more"),
        )
    ),
]


@pytest.mark.parametrize(("place", "setting", "value", "message"), BROKEN, ids=[f"{b[0]} {b[1]} {b[2]}" for b in BROKEN])
def test_what_would_break_a_promise_is_one_clear_line(place: str, setting: str | None, value: object, message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(changed(place, setting, value), ["default"])
    assert message in str(caught.value)
    assert str(caught.value).startswith("streams.yaml: streams")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "config"), [("ENVIRONMENTS", {"max_msgs_per_subject": 1}), ("STACK", {"discard": "new"})], ids=["ENV", "STACK"]
)
def test_a_subject_that_is_written_again_must_not_be_refused(name: str, config: dict[str, Any]) -> None:
    document = yaml.safe_load(changed(name, "discard_new_per_subject", True))
    document["streams"][name] |= config
    with pytest.raises(TopologyError, match=rf"streams.{name}.discard_new_per_subject: must be false"):
        parse(yaml.safe_dump(document), ["default"])


@pytest.mark.parametrize(
    ("place", "setting", "value"),
    [
        ("EVENTS", "num_replicas", 3),
        ("EVENTS", "max_age", "365d"),
        ("EVENTS", "max_bytes", "100GiB"),
        ("EVENTS", "max_msgs", 10**9),
        ("EVENTS", "max_msg_size", "16MiB"),
        ("EVENTS", "duplicate_window", "10m"),
        ("EVENTS", "compression", "s2"),
        ("EVENTS", "subjects", ["other.>", "cutor.ev.>"]),
        ("ENVIRONMENTS", "max_age", "30d"),
        ("EVENTS", "deny_purge", True),
        ("ENVIRONMENTS", "deny_purge", False),
        ("STACK", "discard", "new"),
        ("DEADLETTERS", "max_bytes", "10GiB"),
        ("DEADLETTERS", "max_age", "90d"),
        (RUNNER, "ack_wait", "24s"),
        (BUILDER, "max_ack_pending", 4),
        (BUILDER, "filter_subjects", BUILDS[::-1]),
    ],
)
def test_everything_else_is_the_deployers_decision(place: str, setting: str, value: object) -> None:
    parse(changed(place, setting, value), ["default", "batch"])


def test_a_consumer_may_be_written_for_one_tenant_alone_and_others_beside() -> None:
    document = yaml.safe_load(default_text())
    consumers = document["streams"]["EVENTS"]["consumers"]
    consumers["runner-default"] = consumers.pop("runner-{tenant}") | {"filter_subjects": ["cutor.ev.default.*.cache-built"]}
    del consumers["runner-default"]["per"]
    consumers["mine"] = consumers["runner-default"] | {"max_deliver": 3, "ack_wait": "1s", "filter_subjects": ["cutor.ev.>"]}
    document["streams"]["MINE"] = document["streams"]["STACK"] | {"subjects": ["mine.>"], "storage": "memory"}
    parse(yaml.safe_dump(document), ["default"])
    with pytest.raises(TopologyError, match="runner-batch is missing"):
        parse(yaml.safe_dump(document), ["default", "batch"])


def test_what_the_rules_say_is_what_the_rest_of_cutor_does() -> None:
    streams = {stream.name: stream for stream in parse(default_text(), ["default"]).streams}
    assert streams["EVENTS"].config["max_msg_size"] == EVENT_BYTES
    filters = [one for consumer in streams["EVENTS"].consumers for one in consumer.config["filter_subjects"]]
    assert {one.rpartition(".")[2] for one in filters} <= set(KINDS)


@pytest.mark.parametrize(
    ("tenants", "message"),
    [([], "no tenants"), (["A"], "tenant 'A'"), (["a.b"], "tenant 'a.b'"), (["a", "a"], "twice"), (["x" * 33], "1 to 32")],
)
def test_bad_tenants(tenants: list[str], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        parse(STREAM + CONSUMER, tenants)


def test_two_consumers_of_one_name() -> None:
    text = (
        STREAM
        + CONSUMER
        + CONSUMER.split("consumers:\n")[1]
        .replace("runner-{tenant}:", "runner-default:")
        .replace("per: tenant", "max_waiting: 5")
        .replace("{tenant}", "default")
    )
    with pytest.raises(TopologyError, match="two consumers would be called runner-default: rename one"):
        parse(text, ["default"])


def test_the_file_that_is_named_is_the_one_in_the_message() -> None:
    with pytest.raises(TopologyError, match=r"^/etc/mine.yaml: the file: "):
        parse("x: 1", ["default"], source="/etc/mine.yaml")


@pytest.mark.parametrize(
    ("pattern", "subject", "answer"),
    [
        ("a.>", "a.b", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*.c", "a.*.c", True),
        ("a.b", "a.*", False),
        ("a.*", "a.>", False),
        (">", "a.>", True),
    ],
)
def test_covers(pattern: str, subject: str, answer: bool) -> None:
    assert covers(pattern, subject) is answer


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ("a.>", "a.b", True),
        ("a.>", "b.>", False),
        ("a.*", "*.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b.c", False),
        ("*.>", "a.b", True),
    ],
)
def test_overlap(one: str, other: str, answer: bool) -> None:
    assert overlap(one, other) is answer
    assert overlap(other, one) is answer


def held(**changes: Any) -> dict[str, HeldStream]:
    """The server as wanted, with changes to the stream."""
    (stream,) = topology().streams
    config = {**stream.config, "metadata": {"_nats.ver": "2.15.1"}, "sealed": False, "max_consumers": -1, **changes}
    return {"EVENTS": HeldStream(config, {c.name: {**c.config, "num_replicas": 0} for c in stream.consumers})}


def held_consumer(**changes: Any) -> dict[str, HeldStream]:
    """The server as wanted, with changes to the consumer."""
    (stream,) = topology().streams
    (consumer,) = stream.consumers
    config: Config = {**consumer.config, **changes}
    return {"EVENTS": HeldStream(stream.config, {consumer.name: {k: v for k, v in config.items() if v is not None}})}


def test_nothing_to_do() -> None:
    assert diff(held(), topology()) == []


def test_an_empty_server_gets_streams_before_their_consumers() -> None:
    assert [str(change) for change in diff({}, topology())] == [
        "create stream EVENTS",
        "create consumer runner-default of stream EVENTS",
    ]


def test_a_new_tenant_gets_its_consumers() -> None:
    changes = diff(held(), topology(tenants=("default", "batch")))
    assert [str(change) for change in changes] == ["create consumer runner-batch of stream EVENTS"]


def test_an_update_names_field_old_and_new_and_keeps_what_the_file_does_not_know() -> None:
    (change,) = diff(held(duplicate_window=120_000_000_000), topology())
    assert str(change) == "update stream EVENTS: duplicate_window: 120000000000 → 300000000000"
    assert change.config["metadata"] == {"_nats.ver": "2.15.1"}
    assert change.config["duplicate_window"] == 300_000_000_000


@pytest.mark.parametrize(
    ("field", "value"),
    [("storage", "memory"), ("retention", "workqueue"), ("sealed", True), ("mirror", {"name": "X"}), ("persist_mode", "async")],
)
def test_what_nats_cannot_change_in_a_stream_is_refused(field: str, value: object) -> None:
    (change,) = diff(held(**{field: value}), topology())
    assert change.kind == "refuse"
    assert str(change).startswith(f"refuse stream EVENTS: {field}: ")


def test_protection_cannot_be_taken_back_but_can_be_added() -> None:
    unprotected = topology(STREAM.replace("deny_delete: true", "deny_delete: false") + CONSUMER)
    assert [change.kind for change in diff(held(), unprotected)] == ["refuse"]
    assert [change.kind for change in diff(held(deny_delete=False), topology())] == ["update"]
    purgeable = topology(STREAM.replace("deny_purge: true", "deny_purge: false") + CONSUMER)
    assert diff(held(), purgeable) == [], "a stream that was made so keeps it"
    [change] = diff(held(max_age=7), purgeable)
    assert (change.kind, change.config["deny_purge"]) == ("update", True)
    assert [change.kind for change in diff(held(deny_purge=False), topology())] == ["update"]


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("ack_wait", 5, "update"),
        ("filter_subjects", ["cutor.ev.default.*.other"], "update"),
        ("backoff", [1, 2], "update"),
        ("ack_policy", "none", "refuse"),
        ("deliver_policy", "new", "refuse"),
        ("max_waiting", 1, "refuse"),
        ("deliver_subject", "push.here", "refuse"),
    ],
)
def test_changes_of_a_consumer(field: str, value: object, kind: str) -> None:
    (change,) = diff(held_consumer(**{field: value}), topology())
    assert change.kind == kind
    assert change.consumer == "runner-default"
    assert str(change).startswith(f"{kind} consumer runner-default of stream EVENTS: {field}: ")


def test_a_setting_that_would_break_the_streams_promises_is_switched_off() -> None:
    (change,) = diff(held(no_ack=True), topology())
    assert str(change) == "update stream EVENTS: no_ack: True → unset"
    assert "no_ack" not in change.config


@pytest.mark.parametrize(("field", "value"), [("allow_atomic", True), ("allow_batched", True), ("max_consumers", 2)])
def test_likewise_what_lets_others_write_otherwise_or_keeps_readers_out(field: str, value: object) -> None:
    (change,) = diff(held(**{field: value}), topology())
    assert str(change) == f"update stream EVENTS: {field}: {value} → unset"
    assert field not in change.config
    off = -1 if field == "max_consumers" else False
    assert diff(held(**{field: off}), topology()) == []


def test_schedules_cannot_be_switched_off() -> None:
    (change,) = diff(held(allow_msg_schedules=True), topology())
    assert str(change) == "refuse stream EVENTS: allow_msg_schedules: True → unset (NATS cannot take it back)"


def test_the_servers_other_spelling_of_one_filter_is_the_same() -> None:
    other = held_consumer(filter_subjects=None, filter_subject="cutor.ev.default.*.cache-built")
    assert diff(other, topology()) == []


def test_the_order_of_subjects_does_not_matter() -> None:
    text = STREAM.replace("[cutor.ev.>]", "[a.>, cutor.ev.>]") + CONSUMER
    assert diff(held(subjects=["cutor.ev.>", "a.>"]), topology(text)) == []
