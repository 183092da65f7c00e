"""From what was seen of a stage to what is reported of it: pure."""

from __future__ import annotations

import errno
import os

from cutor.jail.inside import channel
from cutor.jail.inside.lean import SIGKILL, Any, Final, Literal, NamedTuple, Sequence

KilledBy = Literal["wall_time", "cpu_time", "memory", "stdout", "stderr", "store", "cancel"]

MIN_CPU_WAIT_NS: Final = 1_000_000
"""The counter of CPU time is read once a millisecond at the most, however little of a limit is left. A choice."""
QUOTA_PERIOD_NS: Final = 100_000_000
"""Docker's period of a CPU quota (cpu.cfs_period_us), 100 ms."""
JAIL_TASKS: Final = 1
"""Tasks in a jail beside the program's own: jail-init."""
STACK_BYTES: Final = 64 << 20
"""Soft limit of the stack: deep recursion works, and threads, which reserve as much each, still can be many. No hard limit."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes, as shells give them, where the environment's own program can't be executed."""
MS_NS: Final = 1_000_000
"""Nanoseconds of a millisecond."""
_OUR_ERRORS: Final = frozenset({errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EPERM})


class Limits(NamedTuple):
    """What the routine enforces; the number of tasks is the container's control group's, and so is memory above its limit.

    A control group has room beside the program's memory for what cutor holds: the routine looks that it is not used for long.
    """

    wall_time_ms: int
    cpu_time_ms: int
    processes: int
    stdout_bytes: int
    stderr_bytes: int
    file_size_bytes: int
    open_files: int
    memory_bytes: int


class Output(NamedTuple):
    """One of the two outputs: the kept prefix in pieces, and how much was printed."""

    kept: Sequence[bytes | bytearray] = ()
    total_bytes: int = 0


class Seen(NamedTuple):
    """What the routine saw of a stage.

    ``status`` is the program's raw wait status, null where it never ended by itself; ``exec_errno`` says why it never began.
    ``memory_before`` is what the control group held, and its watermark, when the jail stood; ``peak_after_bytes`` the watermark
    after the end. ``fault`` is a failure of the machinery.
    """

    status: int | None
    exec_errno: int | None
    killed_by: KilledBy | None
    oom_kills: int
    cpu_ns: int | None
    wall_ns: int | None
    memory_before: tuple[int, int] | None
    peak_after_bytes: int | None
    stdout: Output
    stderr: Output
    fault: str | None


class Result(NamedTuple):
    """What is reported: the fields of the host's ``StageReport``."""

    exit_code: int | None = None
    signal_number: int | None = None
    killed_by: KilledBy | None = None
    oom_kills: int = 0
    cpu_time_ms: int | None = None
    wall_time_ms: int | None = None
    memory_peak_bytes: int | None = None
    stdout: Output = Output()
    stderr: Output = Output()
    fault: str | None = None

    def header(self) -> dict[str, Any]:
        """Return the report's fields for a frame's header; the two outputs as lengths, their bytes are the frame's body."""
        fields = self._asdict()
        for name in ("stdout", "stderr"):
            output: Output = fields.pop(name)
            fields[f"{name}_bytes"] = sum(map(len, output.kept))
            fields[f"{name}_bytes_total"] = output.total_bytes
        return fields

    def body(self) -> list[bytes | bytearray]:
        """Return the frame's body in pieces: stdout, then stderr."""
        return [*self.stdout.kept, *self.stderr.kept]


def conclude(seen: Seen, limits: Limits) -> Result:
    """Return the report of a stage.

    Of all limits that were passed, the weightiest counts, whichever cutor killed for: a limit may be passed between two looks,
    or by what was still in a pipe. A SIGKILL beside an OOM kill is the kernel's, or cutor's after it: no end of the program's
    own. Where the OOM killer took the jail's own processes, nothing is known but that: no fault. A jail that vanished for no
    known reason is one.
    """
    exit_code, signal_number, stderr, fault = None, None, seen.stderr, seen.fault
    if seen.status is not None:
        exit_code, signal_number = split_status(seen.status)
        if seen.oom_kills and signal_number == SIGKILL:
            signal_number = None
    elif seen.exec_errno in _OUR_ERRORS:
        fault = fault or f"the program could not be started: {os.strerror(seen.exec_errno)}"
    elif seen.exec_errno is not None:
        exit_code, stderr = _never_began(seen.exec_errno, limits)
    killed_by = _weightiest(seen, limits)
    if exit_code is None and signal_number is None and killed_by is None:
        fault = None if seen.oom_kills else fault or "the jail ended without a report"
    return Result(
        exit_code=exit_code,
        signal_number=signal_number,
        killed_by=killed_by,
        oom_kills=seen.oom_kills,
        cpu_time_ms=_ms(seen.cpu_ns, limits.cpu_time_ms),
        wall_time_ms=_ms(seen.wall_ns, limits.wall_time_ms),
        memory_peak_bytes=_peak(seen.memory_before, seen.peak_after_bytes),
        stdout=seen.stdout,
        stderr=stderr,
        fault=fault,
    )


def split_status(status: int) -> tuple[int | None, int | None]:
    """Return exit code and signal number of a raw wait status: exactly one of them is not null."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def _never_began(number: int, limits: Limits) -> tuple[int, Output]:
    """Return exit code and stderr where the environment's own shell can't be executed: its fault, said as a shell would."""
    text = f"cutor: the environment's bash can't be executed: {os.strerror(number)}\n".encode()
    return NOT_FOUND if number == errno.ENOENT else NOT_EXECUTABLE, Output([text[: limits.stderr_bytes]], len(text))


def _weightiest(seen: Seen, limits: Limits) -> KilledBy | None:
    """Return what ended the stage, in the order of the outcomes' precedence; None where nothing but its own end did."""
    holds: dict[KilledBy, bool] = {
        "cancel": False,
        "memory": False,
        "stdout": seen.stdout.total_bytes > limits.stdout_bytes,
        "stderr": seen.stderr.total_bytes > limits.stderr_bytes,
        "store": False,
        "cpu_time": _over(seen.cpu_ns, limits.cpu_time_ms),
        "wall_time": _over(seen.wall_ns, limits.wall_time_ms),
    }
    return next((cause for cause, passed in holds.items() if passed or cause == seen.killed_by), None)


def _over(ns: int | None, limit_ms: int) -> bool:
    return ns is not None and ns > limit_ms * MS_NS


def _ms(ns: int | None, limit_ms: int) -> int | None:
    """Return milliseconds, rounded: up, where they would hide that the limit was passed."""
    if ns is None:
        return None
    rounded = (max(ns, 0) + MS_NS // 2) // MS_NS
    return max(rounded, limit_ms + 1) if _over(ns, limit_ms) else rounded


def _peak(before: tuple[int, int] | None, after: int | None) -> int | None:
    """Return what the program added to the control group at its highest, page cache and files in memory included.

    The watermark can't be reset from inside: it is this stage's own only where this stage raised it; else nothing is known.
    The output that the init keeps until its report is in it: up to the two output limits more than the program itself held.
    """
    if before is None or after is None:
        return None
    usage, watermark = before
    return after - usage if after > watermark else None


def rlimits(limits: Limits) -> dict[int, tuple[int, int]]:
    """Return the program's own limits: resource number → (soft, hard).

    NPROC counts in the jail's user namespace (Linux 5.14), jail-init included, and nothing else that the container holds.
    """
    tasks = limits.processes + JAIL_TASKS
    return {
        channel.CORE: (0, 0),
        channel.FSIZE: (limits.file_size_bytes, limits.file_size_bytes),
        channel.NOFILE: (limits.open_files, limits.open_files),
        channel.NPROC: (tasks, tasks),
        channel.STACK: (STACK_BYTES, channel.UNLIMITED),
    }


def cpu_wait_ns(remaining_ns: int, cpus: int, quota_cpus: float | None) -> int:
    """Return how long ``remaining_ns`` of CPU time last at the least: with all CPUs busy, and no more than the quota.

    Within any time t a quota lets through q · (t + two of its periods) at the most.
    """
    soonest = remaining_ns // cpus
    if quota_cpus is not None:
        soonest = max(soonest, int(remaining_ns / quota_cpus) - 2 * QUOTA_PERIOD_NS)
    return max(soonest, MIN_CPU_WAIT_NS)
