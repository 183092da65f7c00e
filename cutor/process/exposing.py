"""The endpoint of a role process, and the file that tells where it is.

``<data>/metrics/<role>.json`` has the form that Prometheus reads by itself (``file_sd_configs``): so it finds free ports, too.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from cutor.metrics import table
from cutor.metrics.endpoint import Endpoint, EndpointTaken
from cutor.metrics.tally import Observation
from cutor.process.context import RoleContext
from cutor.process.measures import disk
from cutor.release import RELEASE

log = logging.getLogger(__name__)

DIRECTORY: Final = "metrics"
_FILE_BYTES: Final = 1 << 16
"""Far above what cutor writes there: others' files are not read whole."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a role's metrics are, as a scraper's configuration has it."""

    targets: tuple[str, ...]
    labels: dict[str, str] = {}


@asynccontextmanager
async def exposing(context: RoleContext, role: str, data: Path) -> AsyncIterator[None]:
    """Serve a role's metrics while the block lasts. A role whose port is taken says so, and works without."""
    settings, measures = context.config.metrics, context.measures
    if not settings.enabled:
        yield
        return

    def serves() -> bool:
        return measures.was_ready and not context.stop.is_set()

    async def metrics() -> tuple[bytes, str]:
        from cutor.metrics.exposition import CONTENT_TYPE, exposed  # noqa: PLC0415 - not before somebody asks: it is slow

        measures.note(Observation(table.READY, float(serves())))
        return exposed(await measures.sampled(), role), CONTENT_TYPE

    endpoint = Endpoint(settings.listen, settings.port(role), metrics=metrics, serves=serves)
    measures.note(Observation(table.INFO, 1.0, (role, RELEASE)))
    try:
        await endpoint.__aenter__()
    except EndpointTaken as error:
        log.warning("no metrics of this %s: it cannot listen on %s", role, error)
        yield
        return
    file = data / DIRECTORY / f"{role}.json"
    labels = {"cutor_role": role, "cutor_instance": context.instance, "cutor_worker": context.worker}
    try:
        _announce(file, Target(targets=(endpoint.address,), labels=labels))
        measures.exposed_at = endpoint.address
        with measures.sampling(disk(data), table.DATA_FREE, table.DATA_SIZE):
            yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        await endpoint.__aexit__(None, None, None)


def addresses(data: Path) -> dict[str, str]:
    """Return where the roles of a data directory have their metrics, by role."""
    found: dict[str, str] = {}
    for file in sorted((data / DIRECTORY).glob("*.json")):
        try:
            with file.open("rb") as opened:
                [target, *_] = msgspec.json.decode(opened.read(_FILE_BYTES), type=list[Target])
            found[file.stem] = target.targets[0]
        except (OSError, ValueError, IndexError, msgspec.DecodeError):
            continue  # it was removed meanwhile, or is nobody's
    return found


def _announce(file: Path, target: Target) -> None:
    """Write where the endpoint is; a disk that is full is no reason to be without it."""
    draft = file.with_name(f".{file.name}")
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        draft.write_bytes(msgspec.json.encode([target]) + b"\n")
        draft.replace(file)
    except OSError as error:
        log.warning("%s cannot be written, so nobody finds the metrics by it: %s", file, error.strerror)
