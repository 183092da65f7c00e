"""What `streams plan` says of a change: in the words and units of the files that people write."""

import msgspec

from cutor.bus.topology_diff import Change, FieldChange
from cutor.cli.changes import change_text, duration, policy_changes, value_text
from cutor.config import Config
from cutor.model.limit_settings import LimitsSettings, StageLimits
from cutor.model.limits import Policy, RequestedLimit


def test_settings_have_the_units_of_the_file() -> None:
    fields = (
        FieldChange("ack_wait", 30_000_000_000, 90_000_000_000),
        FieldChange("max_msg_size", 1 << 20, 8 << 20),
        FieldChange("max_age", 0, 86_400_000_000_000),
        FieldChange("max_deliver", -1, 3, "no"),
        FieldChange("description", None, "x"),
    )
    assert change_text(Change("update", "EVENTS", "builder-default", {}, fields)) == (
        "update consumer builder-default of stream EVENTS: ack_wait: 30s → 90s, max_msg_size: 1 MiB → 8 MiB, "
        "max_age: unlimited → 1d, max_deliver: unlimited → 3 (no), description: unset → x"
    )
    assert change_text(Change("create", "BODIES", None, {})) == "create stream BODIES"


def test_durations_are_exact() -> None:
    assert [duration(ns) for ns in (0, 1, 250_000_000, 300_000_000_000, 5_400_000_000_000)] == [
        "0ns",
        "1ns",
        "250ms",
        "5m",
        "90m",
    ]
    assert value_text("limits.run.default.wall_time_ms", 5000) == "5000 ms"
    assert value_text("bounds.request_bytes", 65537) == "65537 bytes"


def test_policies_differ_setting_by_setting() -> None:
    wanted = Config(tenants={"a": 2}, limits=LimitsSettings(run=StageLimits(default=RequestedLimit(wall_time_ms=7000))))
    changes = policy_changes(Policy(), wanted.policy())
    assert [(one.field, one.old, one.new) for one in changes] == [
        ("limits.run.default.wall_time_ms", 10_000, 7000),
        ("tenants.default", 1, None),
        ("tenants.a", None, 2),
    ]
    assert policy_changes(Policy(), msgspec.structs.replace(Policy())) == ()
    assert policy_changes(None, Policy()) != ()
