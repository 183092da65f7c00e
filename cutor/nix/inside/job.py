"""The job of a build as the host sends it, and how its one limit is shared by two stages. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from cutor.jail.inside.host_link import Command
from cutor.jail.inside.measure import Limits, Output, Result
from cutor.jail.inside.protocol import ProtocolError
from cutor.jail.inside.worker_init import stage_limits

COMMAND: Final = "build"


class BuildJob(NamedTuple):
    """What the host asks for. The host is trusted; the contents of ``files`` are its user's."""

    key: str
    files: tuple[tuple[str, bytes], ...]
    limits: Limits
    nix_path: str
    cores: int
    options: tuple[str, ...]
    daemon_configuration: str
    policy: str
    network: bool
    store_bytes: int
    min_free_bytes: int


def decode_job(command: Command) -> BuildJob:
    """Return the job in a command. Raises `ProtocolError` for any other command: the host and the image don't match."""
    if command.name != COMMAND:
        raise ProtocolError(f"a build init can't {command.name}")
    return BuildJob(
        key=command.field("key", str),
        files=_files(command.field("files", list), command.body),
        limits=stage_limits(command.field("limit", dict)),
        nix_path=command.field("nix_path", str),
        cores=command.field("cores", int),
        options=tuple(command.field("options", list)),
        daemon_configuration=command.field("daemon_configuration", str),
        policy=command.field("policy", str),
        network=command.field("network", bool),
        store_bytes=command.field("store_bytes", int),
        min_free_bytes=command.field("min_free_bytes", int),
    )


def _files(listing: list[list[object]], body: bytes) -> tuple[tuple[str, bytes], ...]:
    files, at = [], 0
    for name, length in listing:
        if not isinstance(name, str) or not isinstance(length, int) or not 0 <= length <= len(body) - at:
            raise ProtocolError("the files of a job do not agree with its body")
        files.append((name, body[at : at + length]))
        at += length
    if at != len(body):
        raise ProtocolError("the body of a job holds more than its files")
    return tuple(files)


def remaining(limits: Limits, spent: Result, elapsed_ms: int) -> Limits:
    """Return what a build may still use after ``spent``, ``elapsed_ms`` after its start; never 0 of a time."""
    return limits._replace(
        wall_time_ms=max(limits.wall_time_ms - elapsed_ms, 1),
        cpu_time_ms=max(limits.cpu_time_ms - (spent.cpu_time_ms or 0), 1),
        stdout_bytes=limits.stdout_bytes - _kept_bytes(spent.stdout),
        stderr_bytes=limits.stderr_bytes - _kept_bytes(spent.stderr),
    )


def together(first: Result, second: Result, elapsed_ms: int) -> Result:
    """Return one report of two stages: ended as the second did, used what both used; ``elapsed_ms`` as in `remaining`."""
    peaks = [peak for peak in (first.memory_peak_bytes, second.memory_peak_bytes) if peak is not None]
    return second._replace(
        oom_kills=first.oom_kills + second.oom_kills,
        cpu_time_ms=_sum(first.cpu_time_ms, second.cpu_time_ms),
        wall_time_ms=_sum(elapsed_ms, second.wall_time_ms),
        memory_peak_bytes=max(peaks) if peaks else None,
        stdout=_joined(first.stdout, second.stdout),
        stderr=_joined(first.stderr, second.stderr),
    )


def succeeded(result: Result) -> bool:
    """Return whether a stage ended well: exit code 0, and no limit was passed."""
    return result.exit_code == 0 and result.killed_by is None and not result.oom_kills and result.fault is None


def refused(result: Result) -> Result:
    """Return the report of a build that cutor ends: its programs ended well, what they left is not an environment."""
    return result._replace(exit_code=1, signal_number=None) if succeeded(result) else result


def _joined(first: Output, second: Output) -> Output:
    return Output((*first.kept, *second.kept), first.total_bytes + second.total_bytes)


def _kept_bytes(output: Output) -> int:
    return sum(map(len, output.kept))


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
