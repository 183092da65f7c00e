"""Starting nsjail and holding on to the jails it builds: processes and descriptors, no decisions."""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import struct

from cutor.jail.inside.channel import REPORT_BYTES, Kind, parse_report
from cutor.jail.inside.lean import SIGCONT, SIGKILL, SIGSTOP, Final, NamedTuple, Sequence, pidfd_send_signal, suppress
from cutor.jail.inside.nsjail_args import CHANNEL_FD, LOG_FD

LOG_BYTES: Final = 2048
"""The end of what nsjail says where no jail came about: its last lines tell why. A choice."""
_CREDENTIALS: Final = struct.Struct("=3i")
_FIRST_FREE_FD: Final = 10
"""Above every number that nsjail is started with (0, 1, 2, the channel, the log): none is overwritten while they are put
there."""


class Ids(NamedTuple):
    """Who runs nsjail outside of the jail, where that is not who the init is."""

    uid: int
    gid: int


class JailProcess:
    """One nsjail and, once jail-init has reported, the jail's process 1.

    Everything in the jail is the first thing that the kernel's OOM killer takes (``oom_score_adj`` 1000), so that the init
    outlives it. Descriptors of ours never reach nsjail: Python's are closed on exec.
    """

    def __init__(self, command: Sequence[str], run_as: Ids | None) -> None:
        """Start nsjail. Its own failures come out of `log`, and its end makes ``nsjail_pidfd`` readable."""
        self.channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        self.log_fd, log_end = os.pipe()
        os.set_blocking(self.log_fd, False)
        self._log = b""
        self.nsjail_pid = os.fork()
        if self.nsjail_pid == 0:
            _become_nsjail(command, theirs.fileno(), log_end, run_as)
        theirs.close()
        os.close(log_end)
        self.nsjail_pidfd = os.pidfd_open(self.nsjail_pid)
        self.jail_pidfd: int | None = None
        self.served = False
        """Whether the jail took its job, and is gone: then nothing for it, or of it, is left in the channel."""

    def receive(self) -> bytes:
        """Return jail-init's next packet, ``b""`` where there is none now. The first one tells who the jail's process 1 is."""
        try:
            packet, ancillary, _, _ = self.channel.recvmsg(REPORT_BYTES, _socket.CMSG_SPACE(_CREDENTIALS.size))
        except BlockingIOError:
            return b""
        for level, kind, data in ancillary:
            if packet and self.jail_pidfd is None and (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS):
                self.jail_pidfd = os.pidfd_open(_CREDENTIALS.unpack(data)[0])
        return packet

    def hand_over(self, job: bytes, descriptors: Sequence[int]) -> None:
        """Send the job as a memory file, with the program's stdin, stdout and stderr."""
        memory = os.memfd_create("job", os.MFD_CLOEXEC)
        try:
            view = memoryview(job)
            while view:
                view = view[os.write(memory, view) :]
            rights = struct.pack(f"={1 + len(descriptors)}i", memory, *descriptors)
            self.channel.sendmsg([b"j"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        finally:
            os.close(memory)

    def stands(self, seconds: float) -> bool:
        """Wait until the jail stands, before its job is known; false where it does not, or not in time."""
        poll = select.poll()
        for fd in (self.channel.fileno(), self.nsjail_pidfd):
            poll.register(fd, select.POLLIN)
        if self.jail_pidfd is None and poll.poll(seconds * 1000):
            packet = self.receive()
            return bool(packet) and parse_report(packet).kind == Kind.READY
        return self.jail_pidfd is not None

    def lives(self) -> bool:
        """Return whether nsjail and the process 1 of a jail that stands are there."""
        assert self.jail_pidfd is not None, "the jail stands"
        poll = select.poll()
        for fd in (self.nsjail_pidfd, self.jail_pidfd):
            poll.register(fd, select.POLLIN)
        return not poll.poll(0)

    def pause(self) -> None:
        """Stop nsjail, while its jail goes on: so it does nothing when that ends, and nothing once a second until then."""
        _signal(self.nsjail_pidfd, SIGSTOP)

    def build_again(self) -> None:
        """Have nsjail build another jail in place of the one that served. Its process 1 is told by its first packet."""
        assert self.jail_pidfd is not None, "the jail stood"
        os.close(self.jail_pidfd)
        self.jail_pidfd = None
        self.served = False
        _signal(self.nsjail_pidfd, SIGCONT)

    def kill(self) -> None:
        """Kill the jail: its process 1, and with it everything in it; nsjail itself while there is no process 1 yet."""
        _signal(self.nsjail_pidfd if self.jail_pidfd is None else self.jail_pidfd, SIGKILL)

    def take_log(self) -> str:
        """Return the end of what nsjail logged so far."""
        try:
            while data := os.read(self.log_fd, LOG_BYTES):
                self._log = (self._log + data)[-LOG_BYTES:]
        except BlockingIOError:
            pass  # nothing more now
        return self._log.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Kill what is left, reap nsjail, close every descriptor. A jail that nobody knows yet ends with its channel."""
        _signal(self.nsjail_pidfd, SIGKILL)
        self.kill()
        self.channel.close()
        with suppress(ChildProcessError):  # it died by itself, and was reaped among orphans
            os.waitpid(self.nsjail_pid, 0)
        for fd in (self.log_fd, self.nsjail_pidfd, self.jail_pidfd):
            if fd is not None:
                os.close(fd)


def _signal(pidfd: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        pidfd_send_signal(pidfd, number)


def _become_nsjail(command: Sequence[str], channel_fd: int, log_fd: int, run_as: Ids | None) -> None:
    """In the child: never returns. The order counts: a process that changed its uid may not write its oom_score_adj."""
    try:
        adjustment = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(adjustment, b"1000")
        channel_fd = fcntl.fcntl(channel_fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD)
        log_fd = fcntl.fcntl(log_fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD)
        null = os.open("/dev/null", os.O_RDWR)
        for fd, source in ((0, null), (1, null), (2, null), (CHANNEL_FD, channel_fd), (LOG_FD, log_fd)):
            os.dup2(source, fd)
        if run_as is not None:
            os.setgroups([])
            os.setresgid(run_as.gid, run_as.gid, run_as.gid)
            os.setresuid(run_as.uid, run_as.uid, run_as.uid)
        os.execve(command[0], list(command), {})  # noqa: S606 (never a shell)
    except OSError as error:
        os.write(log_fd, f"starting nsjail: {error}".encode())
    finally:
        os._exit(127)
