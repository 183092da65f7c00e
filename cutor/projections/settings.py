"""What a deployer configures of the projector and of the archive, and what of it cannot work. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cutor.model.errors import InvalidPolicy


class ProjectorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The projector."""

    database: Annotated[
        str, Meta(min_length=1, description="the DuckDB file; a relative path starts at the data directory")
    ] = "projections.duckdb"
    commit_interval_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="how long a commit rests behind another while nobody asks and programs wait for CPUs; a question has "
            "all committed that has come, and for 3 s behind it no commit rests; 0: none ever does",
        ),
    ] = 200
    snapshot_age_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=3_600_000,
            description="how old what a query sees may be, where it does not say; 0: all that was committed when it came",
        ),
    ] = 0
    snapshot_interval_s: Annotated[
        float, Meta(ge=0, le=31_536_000, description="seconds between two snapshots that are published as a file; 0: none is")
    ] = 0.0
    snapshot_path: Annotated[
        str, Meta(min_length=1, description="where they are published; a relative path starts beside `database`")
    ] = "snapshot.duckdb"


class ArchiveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The archive: streams in Parquet files."""

    directory: (
        Annotated[str, Meta(description="where the archive lies; absolute; without it `cutor archive` wants `--directory`")]
        | None
    ) = None
    segment_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=256 << 20,
            description="bytes of messages' bodies with which a file is full; sealing takes up to eight times as much memory",
        ),
    ] = 128 << 20
    segment_age_s: Annotated[
        int, Meta(ge=60, le=31_536_000, description="seconds after which messages are sealed though their file is not full")
    ] = 86_400
    interval_s: Annotated[
        int,
        Meta(ge=1, le=86_400, description="seconds between two rounds of the archiver, which seals what there is to seal"),
    ] = 600
    retain_days: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=36_500,
                description="days after which EVENTS lets go of what is sealed, compared, and of submissions that have ended; "
                "without it of nothing",
            ),
        ]
        | None
    ) = None
    retain_bodies_days: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=36_500,
                description="days after which BODIES lets go of contents over 64 KiB that are sealed, compared, and referred "
                "to by nothing that has not ended; without it of nothing. What is used again in the second half is stored anew",
            ),
        ]
        | None
    ) = None


def check_projector(projector: ProjectorSettings) -> None:
    """Raise `InvalidPolicy` that names the first setting that cannot work."""
    for name in ("database", "snapshot_path"):
        if "\0" in (path := getattr(projector, name)):
            raise InvalidPolicy(f"projector.{name}: {path!r} holds a NUL character")
    if _name(projector.database) == _name(projector.snapshot_path):
        raise InvalidPolicy("projector.snapshot_path: it must not have the name of projector.database: it would take its place")


def check_archive(archive: ArchiveSettings) -> None:
    """Likewise."""
    for name in ("retain_days", "retain_bodies_days"):
        if getattr(archive, name) is not None and archive.directory is None:
            raise InvalidPolicy(f"archive.{name}: nothing may go that is not sealed: set archive.directory, too")


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
