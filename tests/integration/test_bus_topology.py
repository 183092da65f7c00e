"""streams.yaml applied to a real server, read back, and defended."""

import asyncio

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import BusError, TopologyError
from cutor.bus.topology import Change, apply, default_text, parse, plan
from tests.nats_server import TENANTS, appender
from tests.ports import free_port


@pytest.fixture
async def empty(tmp_path_factory: pytest.TempPathFactory):
    """A bus on a server that has no streams."""
    server = await EmbeddedServer.start(tmp_path_factory.mktemp("nats"), port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as bus:
        yield bus


async def test_the_shipped_file_is_applied_once_and_then_nothing_is_left_to_do(empty: Bus) -> None:
    wanted = parse(default_text(), TENANTS)
    planned = await plan(empty, wanted)
    assert [change.target for change in planned if change.consumer is None] == [
        "stream EVENTS",
        "stream BODIES",
        "stream ENVIRONMENTS",
        "stream STACK",
        "stream PARKED",
        "stream DEADLETTERS",
    ]
    assert {change.consumer for change in planned if change.consumer} == {
        f"{role}-{tenant}" for role in ("builder", "runner") for tenant in TENANTS
    }
    assert await apply(empty, wanted) == planned
    assert await apply(empty, wanted) == []
    assert await plan(empty, wanted) == []


async def test_planning_changes_nothing(empty: Bus) -> None:
    await plan(empty, parse(default_text(), TENANTS))
    assert (await empty.api.call("names", "STREAM.NAMES", {}))["streams"] is None


async def test_several_may_apply_at_once(empty: Bus) -> None:
    wanted = parse(default_text(), TENANTS)
    await asyncio.gather(*(apply(empty, wanted) for _ in range(4)))
    assert await plan(empty, wanted) == []


async def test_a_changed_setting_is_updated_and_the_messages_stay(empty: Bus) -> None:
    await apply(empty, parse(default_text(), ["default"]))
    await appender(empty)("x", "submitted", 0)
    text = default_text().replace("duplicate_window: 5m", "duplicate_window: 10m").replace("ack_wait: 30s", "ack_wait: 45s")
    wanted = parse(text, ["default", "batch"])
    changes = [str(change) for change in await apply(empty, wanted)]
    assert changes == [
        "update stream EVENTS: duplicate_window: 300000000000 → 600000000000",
        "update consumer builder-default of stream EVENTS: ack_wait: 30000000000 → 45000000000",
        "create consumer builder-batch of stream EVENTS",
        "update consumer runner-default of stream EVENTS: ack_wait: 30000000000 → 45000000000",
        "create consumer runner-batch of stream EVENTS",
        "update stream ENVIRONMENTS: duplicate_window: 300000000000 → 600000000000",
    ]
    assert await plan(empty, wanted) == []
    assert await empty.get("EVENTS", 1) is not None


async def test_settings_that_somebody_switched_on_are_seen_and_switched_off(empty: Bus) -> None:
    wanted = parse(default_text(), ["default"])
    await apply(empty, wanted)
    held = (await empty.stream_info("EVENTS"))["config"]
    changed = {"allow_atomic": True, "allow_batched": True, "max_consumers": 7}
    await empty.api.call("x", "STREAM.UPDATE.EVENTS", {**held, **changed})
    (change,) = await apply(empty, wanted)
    assert {field.field for field in change.fields} == set(changed)
    assert await plan(empty, wanted) == []
    again = (await empty.stream_info("EVENTS"))["config"]
    assert {key: value for key, value in again.items() if key != "metadata"} == {
        key: value for key, value in held.items() if key != "metadata"
    }


async def test_what_nats_cannot_change_is_refused_before_anything_is_changed(empty: Bus) -> None:
    await apply(empty, parse(default_text(), ["default"]))
    text = (
        default_text().replace("max_waiting: 512", "max_waiting: 64").replace("duplicate_window: 5m", "duplicate_window: 10m")
    )
    said = r"consumer builder-default of stream EVENTS: max_waiting: 512 → 64 \(NATS cannot change it\): .*nothing was changed"
    with pytest.raises(TopologyError, match=said):
        await apply(empty, parse(text, ["default"]))
    assert [change for change in await plan(empty, parse(default_text(), ["default"])) if change] == []


async def test_what_the_server_refuses_names_file_and_place(empty: Bus) -> None:
    text = default_text().replace("num_replicas: 1 ", "num_replicas: 3 ")
    with pytest.raises(TopologyError, match=r"streams.yaml: stream EVENTS: the server refuses it: replicas > 1"):
        await apply(empty, parse(text, ["default"]))


async def test_a_setting_that_the_server_ignores_is_an_error(empty: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def half_hearted(bus: Bus, change: Change) -> None:
        verb = f"CONSUMER.CREATE.{change.stream}.{change.consumer}" if change.consumer else f"STREAM.CREATE.{change.stream}"
        config = {field: value for field, value in change.config.items() if field != "deny_delete"}
        await bus.api.call("x", verb, {"stream_name": change.stream, "config": config} if change.consumer else config)

    monkeypatch.setattr("cutor.bus.topology._carry_out", half_hearted)
    with pytest.raises(
        TopologyError, match=r"stream EVENTS: the server did not take the settings: .*deny_delete: False → True"
    ):
        await apply(empty, parse(default_text(), ["default"]))


async def test_the_log_cannot_be_deleted_purged_or_edited(empty: Bus) -> None:
    """deny_delete protects the messages; the stream itself, and that it is not emptied, the user's permissions."""
    await apply(empty, parse(default_text(), ["default"]))
    await appender(empty)("x", "submitted", 0)
    for request in ("STREAM.DELETE.EVENTS", "STREAM.PURGE.EVENTS", "STREAM.MSG.DELETE.EVENTS"):
        with pytest.raises(BusError):
            await empty.api.call("attack", request, {"seq": 1}, timeout_s=0.3)
    assert await empty.get("EVENTS", 1) is not None


async def test_a_body_subject_is_written_once(empty: Bus) -> None:
    await apply(empty, parse(default_text(), ["default"]))
    await empty.publish("cutor.body.x.0", b"first")
    with pytest.raises(BusError, match="maximum messages per subject exceeded"):
        await empty.publish("cutor.body.x.0", b"second")
    stored = await empty.last("BODIES", "cutor.body.x.0")
    assert stored is not None
    assert stored.body == b"first"


async def test_room_that_the_server_has_not_is_refused_with_what_to_do(empty: Bus) -> None:
    wanted = parse(default_text().replace("max_bytes: 1GiB", "max_bytes: 1000000GiB"), TENANTS)
    with pytest.raises(TopologyError, match=r"stream DEADLETTERS: .*`max_bytes`.*`max_file_store`.*make room"):
        await apply(empty, wanted)
