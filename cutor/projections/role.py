"""The role of the projector: its file, held by nobody else, who follows, who answers questions, and who rebuilds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutor.bus.backup import check_whole
from cutor.bus.connection import Bus
from cutor.process.context import RoleContext
from cutor.projections.archive.place import Archive
from cutor.projections.interpreter import undisturbed
from cutor.projections.measuring import measured
from cutor.projections.projector import STREAMS, Projector
from cutor.projections.queries.keeper import answering
from cutor.projections.queries.link import Settings
from cutor.projections.rebuilds.service import RebuildService
from cutor.projections.views_file import held, remove_leftovers
from cutor.projections.writer import Writer


async def run_projector(context: RoleContext) -> None:
    """Keep the views and answer queries until the context says stop.

    Raises `RestoreUnfinished` where the server holds part of a backup: of such a log no views are made.
    """
    path = Path(context.config.projector.database)
    with held(path), _undisturbed():
        remove_leftovers(path)
        async with Bus.connect(context.server, name=f"cutor projector {context.worker}") as bus:
            await check_whole(bus)
            writer = Writer(path)
            directory = context.config.archive.directory
            archive = Archive(Path(directory)) if directory else None
            projector = Projector(context, bus, writer, archive)
            try:
                await writer.open()
                measuring = measured(context, bus, writer, STREAMS)
                queries = answering(_query_settings(context), writer, context.measures, projector.paces.look)
                async with measuring, queries, RebuildService(bus, path, projector.swap, archive):
                    await projector.run()
            finally:
                await writer.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have the interpreter undisturbed, and keep the garbage collector from what lives as long as the process."""
    gc.freeze()
    try:
        with undisturbed():
            yield
    finally:
        gc.unfreeze()


def _query_settings(context: RoleContext) -> Settings:
    projector = context.config.projector
    return Settings(
        server=context.server,
        name=f"cutor projector {context.worker} queries",
        database=projector.database,
        snapshot_age_ms=projector.snapshot_age_ms,
        snapshot_interval_s=projector.snapshot_interval_s,
        snapshot_path=str(Path(projector.database).parent / projector.snapshot_path),
        log_format=context.config.log.format,
        worker=context.worker,
        instance=context.instance,
    )
