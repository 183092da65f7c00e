"""The stage routine: one jailed program from its first byte of input to its last byte of output, limited and measured.

Used for compile and run in a runner's container and for evaluation and capture in a builder's. One epoll loop waits for
everything: jail-init's reports, the pipes, the host, the end of the jail. What comes out are facts, from the kernel and of
cutor's own kills; nothing that the program prints decides anything.

    a jail is built, now or long before (not counted) ──▶ READY: baselines are read, the job is handed over
    ──▶ STARTED: the clocks run
    ──▶ ENDED, or a kill ──▶ the jail is gone: its process 1 ended, so the kernel has ended everything else in it
    ──▶ what is left in the pipes is read ──▶ the counters are read, ``measure.conclude`` makes the report
"""

from __future__ import annotations

import os
import select
import time

from cutor.jail.inside import channel
from cutor.jail.inside.cgroup import Cgroup
from cutor.jail.inside.channel import Kind, Program, Report
from cutor.jail.inside.jail_process import Ids, JailProcess
from cutor.jail.inside.lean import Callable, Final, Literal, NamedTuple, Protocol, Sequence
from cutor.jail.inside.measure import MS_NS, KilledBy, Limits, Output, Result, Seen, conclude, cpu_wait_ns, rlimits
from cutor.jail.inside.meter import Meter
from cutor.jail.inside.pumps import Feed, Sink

SETUP_S: Final = 20
"""How long nsjail may take to build a jail (10 ms on an idle machine) before that is a fault."""
GONE_S: Final = 10
"""How long the end of a jail may take, after a kill or the program's end, before that is a fault."""
DRAIN_S: Final = 1
"""How long output is read after the jail has gone. Nobody can hold the pipes then: this bounds a bug, not a program."""
MEMORY_LOOK_NS: Final = 50 * MS_NS
"""How often memory is looked at. A program that outlives an OOM kill by a whole such time is ended: its outcome is settled, and
what is left of it after the kernel chose is of no use to anybody."""
MEMORY_SLACK_BYTES: Final = 1 << 20
"""How much more than its limit a program may hold when it is looked at: the init's own objects are in the number too."""
_S_NS: Final = 1_000_000_000
"""Nanoseconds of a second."""


class Host(Protocol):
    """Where a cancel comes from: when `fileno` is readable, `interrupted` says whether to stop, and why."""

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        ...

    def interrupted(self) -> KilledBy | None:
        """Return why the stage is to be ended, if it is."""
        ...


class Clocks(NamedTuple):
    """What is due next while a program runs, by the monotonic clock: the end of its wall time, looks at two counters."""

    wall_deadline_ns: int
    cpu_look_ns: int
    memory_look_ns: int


class StageFault(Exception):
    """The jail could not be built or did not end: cutor's own fault, never the program's."""


def run_stage(
    command: Sequence[str] | JailProcess,
    program: Program,
    limits: Limits,
    stdin: bytes | bytearray,
    *,
    host: Host,
    cgroup: Cgroup,
    run_as: Ids | None = None,
    keep_tail: bool = False,
) -> Result:
    """Run ``program`` in the jail that ``command`` builds (`nsjail_args.nsjail_command`) and return what was measured.

    A jail that stands already may be given in place of a command: it stays the caller's, who sees by its ``served`` whether
    another one may be built by it.
    Of output over its limit the beginning is kept; with ``keep_tail`` the end: of a log that is what tells.
    Blocks until the jail is gone; raises nothing for what a program does. A failure of the jail is the result's ``fault``.
    """
    stage = _Stage(limits, stdin, host, cgroup, keep_tail=keep_tail)
    try:
        stage.start(program)
        stage.enter(command if isinstance(command, JailProcess) else JailProcess(command, run_as))
        while not stage.finished:
            stage.step()
    except (StageFault, OSError, ValueError) as error:
        stage.fault(str(error))
    finally:
        stage.close(keep_jail=isinstance(command, JailProcess))
    return stage.result()


class _Stage:
    """One run of the routine: its state between two events, and a handler for each kind of event."""

    def __init__(self, limits: Limits, stdin: bytes | bytearray, host: Host, cgroup: Cgroup, *, keep_tail: bool) -> None:
        self._limits = limits
        self._host = host
        self._meter = Meter(cgroup)
        self._cpus = len(os.sched_getaffinity(0))
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._theirs: list[int] = []  # the program's ends of the pipes, until jail-init has them
        self._jail: JailProcess | None = None
        self._gone = False
        self._deadline_ns = 0  # of the phase: the jail's making, its end, draining
        self._clocks: Clocks | None = None  # while the program runs
        self._oom_seen = False
        self._cpu_ns: int | None = None
        self._started_ns: int | None = None
        self._ended_ns: int | None = None
        self._status: int | None = None
        self._exec_errno: int | None = None
        self._killed_by: KilledBy | None = None
        self._fault: str | None = None
        self._make_pipes(stdin, keep_tail=keep_tail)

    def start(self, program: Program) -> None:
        """Prepare the job. Raises ValueError for a program that no process could be."""
        self._job = channel.pack_job(program, rlimits(self._limits))

    def enter(self, jail: JailProcess) -> None:
        """Watch everything; give the job to a jail that stands already."""
        self._jail = jail
        self._deadline_ns = time.monotonic_ns() + SETUP_S * _S_NS
        self._watch(jail.channel.fileno(), self._on_report)
        self._watch(self._host.fileno(), self._on_host)
        if jail.jail_pidfd is None:
            self._watch(jail.nsjail_pidfd, self._on_nsjail_end)
        else:
            self._begin(jail, jail.jail_pidfd)

    def _make_pipes(self, stdin: bytes | bytearray, *, keep_tail: bool) -> None:
        (stdin_theirs, stdin_ours), (stdout_ours, stdout_theirs), (stderr_ours, stderr_theirs) = (os.pipe() for _ in range(3))
        self._theirs = [stdin_theirs, stdout_theirs, stderr_theirs]
        self._feed = Feed(stdin_ours, stdin)
        self._stdout = Sink(stdout_ours, self._limits.stdout_bytes, keep_tail=keep_tail)
        self._stderr = Sink(stderr_ours, self._limits.stderr_bytes, keep_tail=keep_tail)
        self._watch(stdout_ours, lambda: self._on_output(self._stdout, "stdout"))
        self._watch(stderr_ours, lambda: self._on_output(self._stderr, "stderr"))
        self._watch(stdin_ours, self._on_feed, select.EPOLLOUT)

    def _watch(self, fd: int, handler: Callable[[], None], events: int = select.EPOLLIN) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def _forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    @property
    def finished(self) -> bool:
        """Whether the jail is gone, and its output read or not to be waited for any longer."""
        return self._gone and (self._drained or time.monotonic_ns() >= self._deadline_ns)

    @property
    def _drained(self) -> bool:
        return self._stdout.ended and self._stderr.ended

    def step(self) -> None:
        """Wait for events or the next moment that counts; handle them. Raises `StageFault` for a phase that lasts too long."""
        next_ns = self._deadline_ns if self._clocks is None else min(self._clocks)
        for fd, _ in self._epoll.poll(max(next_ns - time.monotonic_ns(), 0) / _S_NS):
            if fd in self._handlers:  # an earlier event of this round may have taken it away
                self._handlers[fd]()
        now_ns = time.monotonic_ns()
        if self._clocks is not None:
            self._look(now_ns, self._clocks)
        elif now_ns >= self._deadline_ns and not self._gone:
            raise StageFault("the jail was not built in time" if self._started_ns is None else "the jail did not end in time")

    def _look(self, now_ns: int, clocks: Clocks) -> None:
        """Look at one thing that is due: kill for it, or note when it is due again."""
        if now_ns >= clocks.wall_deadline_ns:
            self._kill("wall_time")
        elif now_ns >= clocks.cpu_look_ns:
            self._look_at_cpu(now_ns, clocks)
        elif now_ns >= clocks.memory_look_ns:
            self._look_at_memory(now_ns, clocks)

    def _look_at_cpu(self, now_ns: int, clocks: Clocks) -> None:
        remaining_ns = self._limits.cpu_time_ms * MS_NS - self._meter.cpu_ns()
        if remaining_ns <= 0:
            self._kill("cpu_time")
        else:
            wait_ns = cpu_wait_ns(remaining_ns, self._cpus, self._meter.quota_cpus)
            self._clocks = clocks._replace(cpu_look_ns=now_ns + wait_ns)

    def _look_at_memory(self, now_ns: int, clocks: Clocks) -> None:
        kept_bytes = len(self._stdout.kept) + len(self._stderr.kept)
        if self._oom_seen or self._meter.program_bytes(kept_bytes) > self._limits.memory_bytes + MEMORY_SLACK_BYTES:
            self._kill("memory")
        else:
            self._oom_seen = self._meter.oom_kills() > 0
            self._clocks = clocks._replace(memory_look_ns=now_ns + MEMORY_LOOK_NS)

    # Reports of jail-init

    def _on_report(self) -> None:
        assert self._jail is not None
        while packet := self._jail.receive():
            report = channel.parse_report(packet)
            _ON_REPORT[report.kind](self, report)

    def _on_ready(self, _: Report) -> None:
        assert self._jail is not None
        assert self._jail.jail_pidfd is not None, "the kernel adds credentials to every packet"
        self._forget(self._jail.nsjail_pidfd)  # from here on the jail's own end counts
        self._begin(self._jail, self._jail.jail_pidfd)

    def _begin(self, jail: JailProcess, pidfd: int) -> None:
        """The jail stands: read the baselines, give it the job."""
        self._watch(pidfd, self._on_jail_end)
        self._meter.begin()
        jail.hand_over(self._job, self._theirs)
        self._close_theirs()

    def _on_started(self, report: Report) -> None:
        self._started_ns = report.monotonic_ns
        if self._killed_by is None:
            began_ns = report.monotonic_ns
            self._clocks = Clocks(began_ns + self._limits.wall_time_ms * MS_NS, began_ns, began_ns + MEMORY_LOOK_NS)

    def _on_exec_failed(self, report: Report) -> None:
        self._exec_errno = report.value

    def _on_ended(self, report: Report) -> None:
        self._status = report.value
        self._ending(report.monotonic_ns)

    def _on_broken(self, report: Report) -> None:
        raise StageFault(f"jail-init failed: {os.strerror(report.value)}")

    # Everything else that happens

    def _on_nsjail_end(self) -> None:
        """The jail never stood: `conclude` finds out whether there is a reason but a fault."""
        assert self._jail is not None
        self._forget(self._jail.nsjail_pidfd)
        self._jail_gone()

    def _on_jail_end(self) -> None:
        assert self._jail is not None
        assert self._jail.jail_pidfd is not None
        self._forget(self._jail.jail_pidfd)
        self._on_report()  # what it still said before its end
        self._ending(time.monotonic_ns())
        self._jail_gone()
        self._jail.served = self._started_ns is not None or self._exec_errno is not None

    def _ending(self, now_ns: int) -> None:
        """The program ended or was killed: stop the clocks, once."""
        self._clocks = None
        self._deadline_ns = time.monotonic_ns() + GONE_S * _S_NS
        if self._ended_ns is None:
            self._ended_ns = now_ns
        if self._cpu_ns is None and self._meter.began:
            self._cpu_ns = self._meter.cpu_ns()

    def _jail_gone(self) -> None:
        self._gone = True
        self._clocks = None
        self._close_theirs()
        self._deadline_ns = time.monotonic_ns() + DRAIN_S * _S_NS

    def _on_host(self) -> None:
        if (cause := self._host.interrupted()) is not None:
            self._forget(self._host.fileno())
            self._kill(cause)

    def _on_output(self, sink: Sink, name: Literal["stdout", "stderr"]) -> None:
        sink.take()
        if sink.ended:
            self._forget(sink.fd)
        elif sink.over:
            self._kill(name)

    def _on_feed(self) -> None:
        self._feed.give()
        if self._feed.done:
            self._forget(self._feed.fd)
            self._feed.close()

    def _kill(self, cause: KilledBy) -> None:
        """Kill the jail for the first cause that comes up; a later one changes nothing."""
        assert self._jail is not None
        if self._killed_by is None:
            self._killed_by = cause
            if not self._gone:
                self._jail.kill()
                self._ending(time.monotonic_ns())

    # The end

    def fault(self, message: str) -> None:
        """Note a failure of the machinery, with what nsjail has to say."""
        log = "" if self._jail is None else self._jail.take_log()
        self._fault = f"{message} ({log})" if log else message

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def close(self, *, keep_jail: bool) -> None:
        """Kill and reap what is left, close every descriptor, let go of the input. ``keep_jail`` leaves the jail to its owner.

        The handlers are methods of this object: kept, they would keep it, with input and output, until Python looks for cycles.
        """
        self._epoll.close()
        self._handlers.clear()
        self._close_theirs()
        for pipe in (self._feed, self._stdout, self._stderr):
            pipe.close()
        if self._jail is not None:
            if not self._meter.began and self._fault is None and self._killed_by is None:
                self.fault("nsjail ended before the jail stood")
            if not keep_jail:
                self._jail.close()

    def result(self) -> Result:
        """Return the report. Call after `close`: nothing runs any more then."""
        wall_ns = None if self._started_ns is None or self._ended_ns is None else self._ended_ns - self._started_ns
        seen = Seen(
            status=self._status,
            exec_errno=self._exec_errno,
            killed_by=self._killed_by,
            oom_kills=self._meter.oom_kills(),
            cpu_ns=self._cpu_ns,
            wall_ns=wall_ns,
            memory_before=self._meter.memory_before,
            peak_after_bytes=self._meter.peak_bytes(),
            stdout=Output([self._stdout.kept], self._stdout.total_bytes),
            stderr=Output([self._stderr.kept], self._stderr.total_bytes),
            fault=self._fault,
        )
        return conclude(seen, self._limits)


_ON_REPORT: Final[dict[int, Callable[[_Stage, Report], None]]] = {
    Kind.READY: _Stage._on_ready,
    Kind.STARTED: _Stage._on_started,
    Kind.EXEC_FAILED: _Stage._on_exec_failed,
    Kind.ENDED: _Stage._on_ended,
    Kind.BROKEN: _Stage._on_broken,
}
