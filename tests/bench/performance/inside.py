"""In a container: a case's stages by bare fork and exec, or each in a bare nsjail, one after the other, by so many processes.

Runs with what the image has, as the init of a runner's container does, of which it is the end that takes a submission. Beyond
that it answers one frame:

    → measure    way (fork+exec or nsjail), at_once, seconds, limit,
                 stages: kind, script, args, printed (what the program must print, all of it)
    ← measured   times_ms, seconds

A fork+exec is posix_spawn of the same bash with the same script, variables and directory as in a stage. A bare nsjail is
what a stage starts (same arguments, same helper in it), without the init's clocks, counters and reports.
"""

# No `from __future__`: the host puts a line in front of this file, which says where cutor is in the image.
import json
import os
import select
import sys
import time
from typing import Any, Final

from cutor.jail.inside import layout, worker_init
from cutor.jail.inside.cgroup import Cgroup
from cutor.jail.inside.channel import Kind, pack_job, parse_report
from cutor.jail.inside.host_link import Command, HostLink
from cutor.jail.inside.jail_process import JailProcess
from cutor.jail.inside.measure import rlimits
from cutor.jail.inside.nsjail_args import nsjail_command

PATIENCE_MS: Final = 30_000


class Wrong(Exception):
    """A program did not do what it has to; what was measured would mean nothing."""


class Measuring(worker_init.Worker):
    """An init that measures what it was handed over, instead of running it."""

    def _answer(self) -> bool | None:
        command = self._link.next()
        if command is None:
            return None
        if command.name == "job":
            self._accept(command)
        else:
            self._link.send({"type": "measured", **self._measure(command)})
        return True

    def _measure(self, command: Command) -> dict[str, Any]:
        """Do it in so many processes at once, each for as long; return all times together."""
        began, ends = time.monotonic(), []
        for _ in range(command.field("at_once", int)):
            ours, theirs = os.pipe()
            if not os.fork():
                self._report(command, theirs)
            os.close(theirs)
            ends.append(ours)
        said = [json.loads(read_all(end)) for end in ends]
        seconds = time.monotonic() - began
        worker_init.reap()
        if wrong := [one for one in said if isinstance(one, str)]:
            raise worker_init.WorkerFault(wrong[0])
        return {"times_ms": [ms for times in said for ms in times], "seconds": seconds}

    def _report(self, command: Command, end: int) -> None:
        """In a child: measure, write the times or what went wrong, and never return."""
        try:
            said: Any = self._times_ms(command)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        with os.fdopen(end, "w") as pipe:
            pipe.write(json.dumps(said))
        os._exit(0)

    def _times_ms(self, command: Command) -> list[float]:
        os.chdir(layout.BASE)
        run = self._spawned if command.field("way", str) == "fork+exec" else self._jailed
        stages = command.field("stages", list)
        found: list[float] = []
        end_ns = time.monotonic_ns() + int(command.field("seconds", float) * 1e9)
        while (began_ns := time.monotonic_ns()) < end_ns or not found:
            for stage in stages:
                status, printed = run(command, stage)
                if status or printed.decode() != stage["printed"]:
                    raise Wrong(f"{stage['script']} ended with {status} and printed {printed[:200]!r}")
            found.append((time.monotonic_ns() - began_ns) / 1e6)
        return found

    def _words(self, stage: dict[str, Any]) -> Command:
        return Command({"type": "stage", "script": stage["script"], "args": stage["args"]}, b"")

    def _spawned(self, command: Command, stage: dict[str, Any]) -> tuple[int, bytes]:
        """Run one stage by fork and exec; return its wait status, and what it printed."""
        program = self._program(self._words(stage))
        ours, theirs = os.pipe()
        pid = os.posix_spawn(
            program.arguments[0],
            list(program.arguments),
            dict(one.split(b"=", 1) for one in program.variables.split(b"\0")[:-1]),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 1),
                (os.POSIX_SPAWN_DUP2, theirs, 2),
            ],
        )
        os.close(theirs)
        printed = read_all(ours)
        return os.waitpid(pid, 0)[1], printed

    def _jailed(self, command: Command, stage: dict[str, Any]) -> tuple[int, bytes]:
        """Run one stage in an nsjail; return its wait status, and what it printed."""
        job = pack_job(self._program(self._words(stage)), rlimits(worker_init.stage_limits(command.field("limit", dict))))
        several = self._jail(stage["kind"])._replace(sole=False)  # they have one uid, and wait for no other's descriptors
        process = JailProcess(nsjail_command(several), None)
        try:
            self._reported(process, Kind.READY)
            (nothing, end), (ours, theirs) = os.pipe(), os.pipe()
            os.close(end)
            process.hand_over(job, [nothing, theirs, theirs])
            os.close(nothing)
            os.close(theirs)
            printed = read_all(ours)
            status = self._reported(process, Kind.ENDED)
            os.waitid(os.P_PIDFD, process.nsjail_pidfd, os.WEXITED | os.WNOWAIT)
        finally:
            process.close()
        return status, printed

    def _reported(self, process: JailProcess, kind: int) -> int:
        """Wait for a report of the jail's helper; return its value."""
        poll = select.poll()
        poll.register(process.channel.fileno(), select.POLLIN)
        poll.register(process.nsjail_pidfd, select.POLLIN)
        while poll.poll(PATIENCE_MS):
            while packet := process.receive():
                report = parse_report(packet)
                if report.kind == kind:
                    return report.value
                if report.kind not in (Kind.READY, Kind.STARTED):
                    raise Wrong(f"the jail reported {report.kind} {report.value}")
            if select.select([process.nsjail_pidfd], [], [], 0)[0]:
                break
        raise Wrong(f"the jail did not report {kind}: {process.take_log()}")


def read_all(fd: int) -> bytes:
    """Read to the end, and close."""
    with os.fdopen(fd, "rb") as pipe:
        return pipe.read()


def main() -> None:
    """Serve until the host goes away."""
    link = HostLink()
    try:
        layout.prepare()
        Measuring(link, Cgroup(), sys.argv[1]).serve()
    except Exception as error:
        link.send({"type": "fault", "message": worker_init.fault_message(error)})
        sys.exit(1)


if __name__ == "__main__":
    main()
