"""Streams and consumers: `streams.yaml` alone says what there should be; `plan` compares, `apply` changes and verifies.

Applying reads everything back: a setting that the server ignored is an error. No stream and no consumer is ever deleted.
"""

from __future__ import annotations

import asyncio
from importlib import resources
from pathlib import Path

from cutor.bus.api import CONSUMER_NOT_FOUND, STORAGE_EXCEEDED
from cutor.bus.connection import Bus
from cutor.bus.errors import ApiRefused, StreamMissing, TopologyError
from cutor.bus.restoring import refuse_part
from cutor.bus.topology_diff import Change, Config, ConsumerSpec, FieldChange, HeldStream, StreamSpec, Topology, diff
from cutor.bus.topology_file import parse


def default_text() -> str:
    """The `streams.yaml` that cutor ships: beside this module in a wheel, at the top level in a checkout."""
    packaged = resources.files("cutor.bus").joinpath("streams.yaml")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[2] / "streams.yaml").read_text(encoding="utf-8")


async def plan(bus: Bus, topology: Topology) -> list[Change]:
    """What `apply` would do; changes nothing. RestoreUnfinished where the server holds part of a backup."""
    return diff(await _held(bus, topology), topology)


async def apply(bus: Bus, topology: Topology) -> list[Change]:
    """Make the server as wanted and verify it; returns what was done. TopologyError, and then as little as possible is changed.

    RestoreUnfinished, and then nothing is.
    A change that NATS would refuse is found before the first one is made. Applying twice, or by two processes at once, does
    no harm.
    """
    changes = await plan(bus, topology)
    for change in changes:
        if change.kind == "refuse":
            raise TopologyError(
                f"{topology.source}: {change.target}: {', '.join(str(field) for field in change.fields)}: "
                "write the old value back, or make a new stream and move the data by hand; nothing was changed"
            )
    for change in changes:
        try:
            await _carry_out(bus, change)
        except ApiRefused as error:
            raise TopologyError(f"{topology.source}: {change.target}: the server refuses it: {_reason(error)}") from error
    for left in await plan(bus, topology):
        raise TopologyError(f"{topology.source}: {left.target}: the server did not take the settings: {left}")
    return changes


def _reason(error: ApiRefused) -> str:
    if error.code == STORAGE_EXCEEDED:
        return (
            f"{error.description}: a stream reserves its `max_bytes` within the server's `max_file_store` and its disk; "
            "make room there, or write a smaller one here"
        )
    return error.description


async def _held(bus: Bus, topology: Topology) -> dict[str, HeldStream]:
    held = await asyncio.gather(*(_held_stream(bus, stream) for stream in topology.streams))
    return {stream.name: there for stream, there in zip(topology.streams, held, strict=True) if there is not None}


async def _held_stream(bus: Bus, stream: StreamSpec) -> HeldStream | None:
    try:
        info = await bus.stream_info(stream.name)
    except StreamMissing:
        return None
    refuse_part(info["config"], bus.address)
    configs = await asyncio.gather(*(_held_consumer(bus, consumer) for consumer in stream.consumers))
    found = {consumer.name: config for consumer, config in zip(stream.consumers, configs, strict=True) if config is not None}
    return HeldStream(info["config"], found)


async def _held_consumer(bus: Bus, consumer: ConsumerSpec) -> Config | None:
    what = f"consumer {consumer.name} of stream {consumer.stream}"
    try:
        info = await bus.api.call(what, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
    except ApiRefused as error:
        if error.code == CONSUMER_NOT_FOUND:
            return None
        raise
    config: Config = info["config"]
    return config


async def _carry_out(bus: Bus, change: Change) -> None:
    if change.consumer is not None:
        subject = f"CONSUMER.CREATE.{change.stream}.{change.consumer}"
        await bus.api.call(change.target, subject, {"stream_name": change.stream, "config": dict(change.config)})
        return
    verb = "CREATE" if change.kind == "create" else "UPDATE"
    await bus.api.call(change.target, f"STREAM.{verb}.{change.stream}", dict(change.config))


__all__ = [
    "Change",
    "ConsumerSpec",
    "FieldChange",
    "HeldStream",
    "StreamSpec",
    "Topology",
    "apply",
    "default_text",
    "diff",
    "parse",
    "plan",
]
