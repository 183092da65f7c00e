"""The init of a runner's container: takes a submission from the host, runs its stages in jails, reports each at once.

Process 1 of the container, without any privilege. It speaks frames with the host (``protocol``):

    ← ready      protocol, cgroup, kernel, box (overlay or copy), store (masked or plain)
    → job        files, closure_bytes, programs;
                 body: the files' bytes, then the closure's store paths, a line each, then the variables' block
    ← accepted   missing (a path of the closure that the store does not hold)
    → stage      kind (compile or run), index, script, args, limit, more (whether another stage may follow); body: stdin
    ← report     kind, index, missing (a path that vanished meanwhile) and what `measure.Result` says; body: stdout, then stderr
    → reset      everything of the submission is to go: another one comes
    ← rested     after reset, accepted, and every report but one after which nothing follows: resting_bytes, copy_bytes.
                 What was received and sent is let go, and the jail of the next run stands
    ← fault      message: the init's own failure, after which it ends

The host lowers the container's memory only after `rested`. The init ends when its stdin does. Between stages nothing of the
user's is left running: that is checked. nsjail's policy for user's programs is the init's one argument: see ``kept_jail``.
"""

from __future__ import annotations

# Importing pathlib costs an init 8 ms:
# ruff: noqa: PTH102, PTH119, PTH120
import errno
import os
import sys
import time

from cutor.jail.inside import box
from cutor.jail.inside.box import BoxError
from cutor.jail.inside.cgroup import Cgroup, CgroupError
from cutor.jail.inside.channel import Program
from cutor.jail.inside.closure import LOOK_BYTES, look_at, vanished
from cutor.jail.inside.host_link import Command, HostLink
from cutor.jail.inside.kept_jail import KeptJail
from cutor.jail.inside.layout import BASE, COPIES, COPY, mounts_of, prepare, put_links, remove_links
from cutor.jail.inside.lean import SIGKILL, Any, Final
from cutor.jail.inside.measure import NOT_EXECUTABLE, Limits, Output, Result
from cutor.jail.inside.nsjail_args import Jail, nsjail_command
from cutor.jail.inside.protocol import CHANGING, PROTOCOL_VERSION, ProtocolError
from cutor.jail.inside.resting import resting_bytes
from cutor.jail.inside.stage import run_stage
from cutor.jail.inside.traces import Traces, left_behind, traces
from cutor.jail.inside.weigh import weigh

CLEAR_S: Final = 3.0
"""How long clearing a box away may take: 65,000 files take a tenth of it."""
SETTLE_S: Final = 5.0
"""Killed processes are gone in milliseconds, later where the machine is busy or they held much. Then it is a fault."""
MASKED_SINCE: Final = (5, 11)
"""The first Linux that mounts an overlay in a user namespace."""
KEPT_BYTES: Final = 3 << 20
"""What a kept jail may be believed to hold (measured: 1.7 MiB)."""
MESSAGE_BYTES: Final = 1000
"""Of an error, for one line of the host's log. A choice."""


class WorkerFault(Exception):
    """The init can't go on; the host is told why and discards the container."""


FORESEEN: Final = (WorkerFault, ProtocolError, BoxError, CgroupError, OSError)


class Worker:
    """One submission at a time: its box, its environment, the jails for its stages."""

    def __init__(self, link: HostLink, cgroup: Cgroup, policy: str) -> None:
        self._link = link
        self._cgroup = cgroup
        self._masked = kernel_version(os.uname().release) >= MASKED_SINCE
        self._layered = self._masked and keeps_attributes(BASE)
        self._closure: list[tuple[bytes, int]] = []
        self._variables = b""
        self._programs: dict[str, str] = {}
        self._policy = policy
        self._tasks = cgroup.tasks()
        self._box_bytes = 0
        self._own_bytes = cgroup.resting_bytes(cgroup.memory_bytes())  # nothing of the user's was here yet: all of it is held
        self._kept = KeptJail(nsjail_command(self._jail("run"), again=True)) if self._layered else None
        self._kept_bytes = 0
        self._bare_bytes = self._own_bytes
        self._pristine: Traces | None = None

    def serve(self) -> None:
        """Answer the host's commands until it goes away. Raises `WorkerFault`, `ProtocolError`, `BoxError`."""
        if self._kept is not None:
            self._kept.start()
        self._link.send(
            {
                "type": "ready",
                "protocol": PROTOCOL_VERSION,
                "cgroup": self._cgroup.version,
                "kernel": os.uname().release,
                "box": "overlay" if self._layered else "copy",
                "store": "masked" if self._masked else "plain",
            }
        )
        if self._kept is not None:
            self._kept.prepare()
            held_bytes = self._cgroup.resting_bytes(self._cgroup.memory_bytes())
            self._kept_bytes = min(max(held_bytes - self._own_bytes, 0), KEPT_BYTES)
        self._pristine = traces()
        while (more := self._answer()) is not None:
            if more:
                self._link.send(self._rested())

    def _answer(self) -> bool | None:
        """Answer one command; return whether another one may follow, null once the host has gone.

        Command and answer die here: a container's memory is small.
        """
        command = self._link.next()
        if command is None:
            return None
        if command.name == "job":
            self._accept(command)
            return True
        if command.name == "stage":
            self._stage(command)
            return bool(command.field("more", bool))
        if command.name == "reset":
            self._reset()
            return True
        raise ProtocolError(f"a command {command.name} that this init does not know")

    def _accept(self, command: Command) -> None:
        """Write the files into the box and keep the environment."""
        body = memoryview(command.data)
        position = 0
        for file in command.field("files", list):
            name, size = file["name"], file["bytes"]
            box.write_file(BASE, name, body[position : position + size])
            position += size
        closure_end = position + command.field("closure_bytes", int)
        self._closure, missing = look_at(bytes(body[position:closure_end]))
        self._variables = variables_of(body[closure_end:])
        self._own_bytes += 2 * (len(body) - position)  # both are kept, as objects
        self._own_bytes += len(self._closure) * LOOK_BYTES
        self._box_bytes = weigh(BASE)
        self._programs = command.field("programs", dict)
        put_links(self._programs)
        self._link.send({"type": "accepted", "missing": missing})

    def _reset(self) -> None:
        """Clear everything of the submission away. Raises `WorkerFault` where something of it stays, or that takes too long.

        The box is a new directory, on which the next jail is built: one that stands on the old one already goes with it. The
        kernel lets go of what an ended jail had mounted a little later: that is waited for.
        """
        deadline = time.monotonic() + CLEAR_S
        self._settle()
        self._closure, self._variables, self._programs = [], b"", {}
        self._own_bytes = self._bare_bytes
        remove_links()
        if self._kept is not None:
            self._kept.give_up_standing()
        if not box.remove_tree(os.path.dirname(BASE), os.path.basename(BASE), CLEAR_S):
            raise WorkerFault("the box of a submission could not be cleared away in time")
        os.mkdir(BASE, 0o755)
        self._box_bytes = 0
        if self._kept is not None:
            self._kept.prepare()
        self._settle()
        assert self._pristine is not None, "it was looked at before the first submission came"
        while left := left_behind(self._pristine, traces()):
            if time.monotonic() > deadline:
                raise WorkerFault(f"a submission left something behind: {left}")
            time.sleep(0.001)

    def _stage(self, command: Command) -> None:
        kind = command.field("kind", str)
        result = self._run_jailed(command, kind) if kind == CHANGING or self._layered else self._run_in_copy(command)
        self._settle()
        if kind == CHANGING:
            self._box_bytes = weigh(BASE)  # it stays what it is: no run can change it
        missing = vanished(self._closure)
        header = {"type": "report", "kind": kind, "index": command.field("index", int), "missing": missing, **result.header()}
        self._link.send(header, result.body())

    def _run_in_copy(self, command: Command) -> Result:
        """Run a stage in a copy of the box. One that can't be copied is what compile made it: its own fault, said so."""
        try:
            box.copy_tree(BASE, f"{COPIES}/{COPY}")
            return self._run_jailed(command, command.field("kind", str))
        except BoxError as error:
            return not_copied(str(error), stage_limits(command.field("limit", dict)))
        finally:
            self._settle()
            box.remove_tree(COPIES, COPY)

    def _run_jailed(self, command: Command, kind: str) -> Result:
        """Run a stage in the jail that stands, if there is one for its kind, else in one that is built for it."""
        kept = self._kept.lend() if self._kept is not None and kind != CHANGING else None
        try:
            return run_stage(
                kept or nsjail_command(self._jail(kind)),
                self._program(command),
                stage_limits(command.field("limit", dict)),
                command.data,
                host=self._link,
                cgroup=self._cgroup,
            )
        finally:
            if kept is not None and self._kept is not None:
                self._kept.take_back()

    def _jail(self, kind: str) -> Jail:
        mounts = mounts_of(kind, masked=self._masked, layered=self._layered)
        return Jail(os.getuid(), os.getgid(), mounts, self._policy, sole=True)

    def _program(self, command: Command) -> Program:
        bash = self._programs["bash"].encode()
        arguments = [bash, command.field("script", str).encode(), *(one.encode() for one in command.field("args", list))]
        return Program(arguments, self._variables)

    def _settle(self) -> None:
        """Make sure that nothing but this process and the kept jail is left: with anything else, that goes, too.

        Raises `WorkerFault` where something can't be got rid of.
        """
        deadline = time.monotonic() + SETTLE_S
        while True:
            reap()
            if self._cgroup.tasks() <= self._tasks + (0 if self._kept is None else self._kept.tasks):
                return
            if time.monotonic() > deadline:
                raise WorkerFault(f"{self._cgroup.tasks() - self._tasks} processes of a stage did not end")
            if self._kept is not None:
                self._kept.drop()
            kill_everything_else()
            time.sleep(0.001)

    def _rested(self) -> dict[str, Any]:
        """Return what the container holds between two stages.

        ``copy_bytes`` is what a copy of the box will take beside that, 0 where none is made. What the kept jail holds is not in
        it: it is part of what a stage's jail takes.
        """
        if self._kept is not None:
            self._kept.prepare()
        kept_bytes = self._kept_bytes if self._kept is not None and self._kept.stands else 0
        held_bytes = resting_bytes(self._cgroup, self._own_bytes + self._box_bytes + kept_bytes)
        lowest = max(held_bytes - kept_bytes, 0)
        copy_bytes = 0 if self._layered else max(lowest - self._own_bytes, 0)
        return {"type": "rested", "resting_bytes": lowest, "copy_bytes": copy_bytes}


def keeps_attributes(directory: str) -> bool:
    """Return whether the file system keeps the extended attributes that a writable overlay there needs (tmpfs: Linux 6.6)."""
    try:
        os.setxattr(directory, "user.cutor", b"y")
        os.removexattr(directory, "user.cutor")
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS):
            return False
        raise
    return True


def not_copied(message: str, limits: Limits) -> Result:
    """Return the report of a run that could not begin, said as a shell would say it."""
    text = f"cutor: the box that the compile stage left can't be copied for a run: {message}\n".encode("utf-8", "replace")
    return Result(exit_code=NOT_EXECUTABLE, stderr=Output([text[: limits.stderr_bytes]], len(text)))


def kernel_version(release: str) -> tuple[int, int]:
    """Return major and minor of a kernel's release: ``6.18.44-x`` is (6, 18)."""
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not major.isdecimal() or not minor:
        raise WorkerFault(f"the kernel's release is not understood: {release!r}")
    return int(major), int(minor)


def variables_of(block: memoryview) -> bytes:
    """Return a block of ``NAME=VALUE`` and a NUL byte, each. Raises `ProtocolError` for one that does not end so."""
    variables = bytes(block)
    if variables and not variables.endswith(b"\0"):
        raise ProtocolError("the block of variables does not end with a NUL byte")
    return variables


def stage_limits(limit: dict[str, Any]) -> Limits:
    """Return the limits of a stage command: the fields of the model's Limit, of which memory is the control group's."""
    try:
        return Limits(**{name: int(limit[name]) for name in Limits._fields})
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"a stage's limit is not complete: {error}") from error


def kill_everything_else() -> None:
    """Kill every process of this container but this one, its process 1. Elsewhere it would hit strangers: refused."""
    if os.getpid() != 1:
        raise WorkerFault("the init is not process 1 of its container")
    try:
        os.kill(-1, SIGKILL)
    except ProcessLookupError:
        return  # there is none


def reap() -> None:
    """Collect every child that has ended, orphans of jails included."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return  # there is none left


def main() -> None:
    """Serve one submission after the other. Exit code 0 when the host went away, 1 after a fault (which the host was told).

    The process ends at once: taking an interpreter down in order takes a sixth of what its whole life as an init does.
    """
    link = HostLink()
    try:
        prepare()
        Worker(link, Cgroup(), sys.argv[1]).serve()
    except Exception as error:
        # also what nobody thought of: a word that the host can pass on instead of an init that vanished
        link.send({"type": "fault", "message": fault_message(error)})
        os._exit(1)
    os._exit(0)


def fault_message(error: Exception) -> str:
    """Return an error as one short line: its type, its message, and where an unforeseen one came from."""
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, FORESEEN) and (trace := error.__traceback__) is not None:
        while trace.tb_next is not None:
            trace = trace.tb_next
        text += f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
    return " ".join(text.split())[:MESSAGE_BYTES]
