"""One container for several submissions: what a hostile one leaves is gone, the next sees what it would in a new one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cutor.containers.child import Child
from cutor.containers.control_group import Watermark
from cutor.containers.errors import SessionFault
from cutor.containers.occupancy import Occupancy
from cutor.containers.surplus import Surplus
from cutor.jail.session import IDLE_TASKS, LEFT_BYTES, WorkerSession
from cutor.model.limits import MIB
from cutor.model.outcome import StageReport
from tests.integration.stage_support import LIMIT, RESOURCES, connected, limit, spec, submission, without_attributes

Files = dict[str, str | bytes]

LOOK = r"""
import ctypes, glob, json, os, socket, stat
libc = ctypes.CDLL(None, use_errno=True)
def text(path):
    try: return open(path).read()
    except OSError as error: return error.strerror
def tree(top):
    found = []
    for root, directories, files in os.walk(top):
        for name in [".", *directories, *files]:
            facts = os.lstat(f"{root}/{name}")
            found.append([f"{root}/{name}", stat.filemode(facts.st_mode), facts.st_uid, facts.st_nlink, facts.st_size])
    return sorted(found)
def room(path):
    facts = os.statvfs(path)
    return [facts.f_blocks, facts.f_bfree, facts.f_files, facts.f_ffree]
def reached(name):
    with socket.socket(socket.AF_UNIX) as one:
        try: one.connect(name); return "reached"
        except OSError as error: return error.strerror
def attached(number):
    ctypes.set_errno(0)
    return "there" if libc.syscall(number, 4242, 0, 0) >= 0 else os.strerror(ctypes.get_errno())
me = os.listdir("/proc/self/fd")
print(json.dumps({
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "tasks": sorted((text(f"/proc/{pid}/stat").split() + ["", ""])[1] for pid in os.listdir("/proc") if pid.isdigit()),
    "descriptors": len(me),
    "files": [tree(top) for top in ("/box", "/tmp", "/dev/shm", "/bin", "/usr", "/etc")],
    "room": [room(path) for path in ("/box", "/tmp", "/dev/shm", "/")],
    "mounts": sorted(line.split(" ", 4)[4] for line in text("/proc/self/mountinfo").splitlines()),
    "locks": [line for line in text("/proc/locks").splitlines() if "OFDLCK" not in line],  # which is refused to programs
    "ipc": [len(text(path).splitlines()) for path in sorted(glob.glob("/proc/sysvipc/*"))],
    "segment": attached(29), "queue": attached(68), "semaphore": attached(64),
    "message queue": libc.syscall(240, b"left", 0, 0, None),
    "keys": [text("/proc/keys"), text("/proc/key-users")],
    "sockets": sorted(line.split()[-1] for line in text("/proc/net/unix").splitlines()[1:]),
    "abstract": reached("\0left"),
    "ports": [len(text(f"/proc/net/{name}").splitlines()) for name in ("tcp", "udp", "tcp6", "udp6")],
    "hostname": socket.gethostname(), "variables": dict(os.environ), "umask": os.umask(0), "nice": os.nice(0),
    "status": [line for line in text("/proc/self/status").splitlines()
               if line.startswith(("Sig", "Shd", "Cap", "Seccomp:", "NoNewPrivs", "Groups", "Uid", "Gid", "NStgid", "NSpid"))],
    "limits": text("/proc/self/limits"), "maps": text("/proc/self/uid_map") + text("/proc/self/gid_map"),
    "score": text("/proc/self/oom_score_adj"), "groups": text("/proc/self/cgroup"), "leftover": glob.glob("/*/*left*"),
}))
"""
LOOKING: Files = {"cutor-run.sh": "exec python3 look.py", "look.py": LOOK}

LEAVE = r"""
import ctypes, fcntl, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(act):
    try: act()
    except OSError: pass
def fill(top):
    for act in (
        lambda: os.mkdir(f"{top}/left"), lambda: os.makedirs(f"{top}/left/" + "/".join("d" * 20)),
        lambda: open(f"{top}/left/file", "w").write("A" * 100_000), lambda: os.link(f"{top}/left/file", f"{top}/left/other"),
        lambda: os.symlink("/proc/1/root", f"{top}/left/link"), lambda: os.mkfifo(f"{top}/left/fifo"),
        lambda: socket.socket(socket.AF_UNIX).bind(f"{top}/left/socket"),
        lambda: open(f"{top}/left/\n\xff".encode("latin-1"), "w"),
        lambda: os.chmod(f"{top}/left/file", 0o4755), lambda: os.chmod(f"{top}/left", 0),
        lambda: os.utime(top, (1, 1)), lambda: os.chmod(top, 0o1000), lambda: os.open(top, os.O_TMPFILE | os.O_RDWR),
    ): attempt(act)
libc.syscall(29, 4242, 1 << 20, 0o1777)      # shmget
libc.syscall(68, 4242, 0o1777)               # msgget
libc.syscall(64, 4242, 3, 0o1777)            # semget
libc.syscall(240, b"left", 0o102, 0o777, None)  # mq_open
libc.syscall(248, b"user", b"left", b"x", 1, -4)  # add_key
held = [socket.socket(socket.AF_UNIX) for _ in range(2)]
held[0].bind("\0left"); held[0].listen()
server = socket.create_server(("127.0.0.1", 4242))
shell = open(os.path.realpath("/bin/sh"), "rb")
fcntl.flock(shell, fcntl.LOCK_SH); fcntl.lockf(shell, fcntl.LOCK_SH)
libc.inotify_add_watch(libc.inotify_init(), b"/nix/store", 0xFFF)
os.umask(0o777); attempt(lambda: os.nice(-5)); signal.signal(signal.SIGTERM, signal.SIG_IGN)
for top in ("/tmp", "/dev/shm", "/box"): fill(top)
for number in range(5):
    if not os.fork():
        os.setsid()
        if not os.fork():
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            os.closerange(0, 3)
            while True: time.sleep(60)
        os._exit(0)
sys.stdout.flush()
os._exit(int(sys.argv[1]))
"""
LEAVING: Files = {
    "cutor-compile.sh": "exec python3 leave.py 0",
    "cutor-run.sh": 'exec python3 leave.py "$1"',
    "leave.py": LEAVE,
    "secret/of/A": "secret",
}


@asynccontextmanager
async def container(*, copy_box: bool = False) -> AsyncIterator[tuple[Child, WorkerSession, Any]]:
    """Start a container as a runner does that is to serve several submissions with it."""
    async with connected() as engine:
        child = await engine.start(without_attributes(spec()) if copy_box else spec())
        session = WorkerSession(child, RESOURCES, Watermark.find(child.id), Surplus.find(child.id), Occupancy.find(child.id))
        try:
            await session.ready()
            yield child, session, engine
        finally:
            await session.close()


async def hand_over(session: WorkerSession, engine: Any, files: Files) -> None:
    await session.hand_over(await submission(engine, files))


async def run(session: WorkerSession, *args: str, **limits: int) -> StageReport:
    return await session.run_test(0, args=args, stdin=b"", limit=limit(**limits), more=False)


async def seen(session: WorkerSession, engine: Any) -> dict[str, Any]:
    """Hand a submission over that looks around; return what it saw, and clear it away."""
    await hand_over(session, engine, LOOKING)
    report = await run(session)
    assert (report.exit_code, report.stderr) == (0, b"")
    await session.reset()
    return dict(json.loads(report.stdout))


async def test_a_submission_sees_nothing_of_the_one_before_it() -> None:
    async with container() as (child, session, engine):
        fresh = await seen(session, engine)
        for code in (0, 3):
            await hand_over(session, engine, LEAVING)
            assert (await session.run_compile(LIMIT)).exit_code == 0
            assert (await run(session, str(code))).exit_code == code
            await session.reset()
            after = await seen(session, engine)
            assert {name: value for name, value in after.items() if value != fresh[name]} == {}
        assert (await child.state()).running


async def test_what_is_left_is_seen_where_nothing_clears_it_away() -> None:
    """Else the test above would show nothing: a second run of the hostile submission's own container, box and all."""
    async with container() as (_, session, engine):
        fresh = await seen(session, engine)
        await hand_over(session, engine, LEAVING | {"look.py": LOOK, "cutor-run.sh": "exec python3 look.py"})
        assert (await session.run_compile(LIMIT)).exit_code == 0
        after = json.loads((await run(session)).stdout)
        assert {name for name, value in after.items() if value != fresh[name]} >= {"files", "leftover"}


async def test_every_submission_has_its_whole_limits_and_its_own_figures() -> None:
    hog: Files = {"cutor-run.sh": "exec python3 -c 'x = bytearray(40 << 20); sum(range(3_000_000))'"}
    light: Files = {"cutor-run.sh": "exit 0"}
    async with container() as (_, session, engine):
        for _ in range(3):
            for files in (hog, light):
                await hand_over(session, engine, files)
                report = await run(session, cpu_time_ms=2000)
                assert report.exit_code == 0, report
                assert report.cpu_time_ms is not None
                assert ((report.memory_peak_bytes or 0) > 40 * MIB) == (files is hog), report
                await session.reset()
        await hand_over(session, engine, {"cutor-run.sh": "exec python3 -c 'bytearray(80 << 20)'"})
        assert (await run(session)).exit_code is None  # its limit is what it was


UNCLEAN: dict[str, tuple[str, dict[str, int]]] = {
    "wall time": ("sleep 30", {"wall_time_ms": 100}),
    "CPU time": ("while :; do :; done", {"cpu_time_ms": 100}),
    "memory": ("exec python3 -c 'bytearray(1 << 30)'", {}),
    "output": ("exec yes", {"stdout_bytes": 1000}),
    "a call that kills": (
        'exec python3 -c \'import ctypes, mmap; m = mmap.mmap(-1, 64, prot=7); m.write(bytes.fromhex("b814000000cd80c3")); '
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()'",
        {},
    ),
}


@pytest.mark.parametrize("end", UNCLEAN)
async def test_a_container_whose_program_was_killed_serves_no_other(end: str) -> None:
    script, limits = UNCLEAN[end]
    async with container() as (_, session, engine):
        await hand_over(session, engine, {"cutor-run.sh": script})
        report = await run(session, **limits)
        assert report.killed_by or report.oom_kills or report.signal_number == 31, report
        with pytest.raises(SessionFault, match="did not end well"):
            await session.reset()


async def test_a_container_that_copies_boxes_serves_no_other() -> None:
    async with container(copy_box=True) as (_, session, engine):
        await hand_over(session, engine, {"cutor-run.sh": "exit 0"})
        assert (await run(session)).exit_code == 0
        assert not session.clean


async def test_a_process_that_cutor_did_not_start_is_seen_from_outside() -> None:
    """Whatever the init says: the host counts, before anybody else's submission comes."""
    async with container() as (child, session, engine):
        await hand_over(session, engine, {"cutor-run.sh": "exec sleep 2"})
        occupancy = Occupancy.find(child.id)
        assert occupancy is not None
        occupancy.remember()
        running = asyncio.create_task(run(session))
        async with asyncio.timeout(60):
            while not occupancy.found(IDLE_TASKS, LEFT_BYTES).endswith(f"{IDLE_TASKS} are cutor's own"):
                await asyncio.sleep(0.01)
        await running
        await session.reset()
        assert occupancy.found(IDLE_TASKS, LEFT_BYTES) == ""
        occupancy.close()


DEEP = r"""
import array, fcntl, os, socket, sys
depth, pipes, more = map(int, sys.argv[1:])
def send(end, held): end.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", held))])
held = []
for _ in range(pipes):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.set_blocking(writing, False)
    os.write(writing, b"x" * (1 << 20))
    os.close(writing)
    held.append(reading)
first, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for _ in range(depth):
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    send(here, held + [0] * more)
    for one in held: os.close(one)
    held = [there.detach()]
    here.close()
send(first, [other.fileno(), *held])  # the other's own queue holds it: nobody but the kernel's search for such rings finds it
os._exit(0)
"""
"""Pipes of 1 MiB each at the end of a chain of sockets, each on its way in the next: the kernel frees one in two ticks."""


async def test_what_the_kernel_frees_bit_by_bit_is_no_memory_of_the_next_submission() -> None:
    """It was killed for want of memory. Freeing takes 5 s here; where it takes longer, nobody comes next."""
    async with container() as (_, session, engine):
        await hand_over(session, engine, {"cutor-run.sh": "exec python3 deep.py 600 40 0", "deep.py": DEEP})
        report = await run(session, open_files=1024)
        assert (report.exit_code, report.stderr) == (0, b"")
        try:
            await session.reset()
        except SessionFault:
            return
        await hand_over(session, engine, {"cutor-run.sh": "exec python3 -c 'bytearray(50 << 20)'"})
        assert (await run(session)).exit_code == 0


async def test_descriptors_that_a_compile_stage_left_on_their_way_keep_no_run_from_beginning() -> None:
    """The kernel counts them by uid: of more than an init may open files, it could hand no program its input and output."""
    files: Files = {"cutor-compile.sh": "exec python3 deep.py 100 1 20", "cutor-run.sh": "exit 0", "deep.py": DEEP}
    async with container() as (_, session, engine):
        await hand_over(session, engine, files)
        report = await session.run_compile(limit(open_files=4096))
        assert (report.exit_code, report.stderr) == (0, b"")
        report = await run(session)
        assert (report.exit_code, report.fault) == (0, None)


async def test_a_jail_stands_only_once_nothing_of_its_uid_is_on_its_way() -> None:
    """Else a program that sends a descriptor could be told that it has too many on their way, which were another one's."""
    sends = """
import array, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
here, there = socket.socketpair()
for _ in range(8): here.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
"""
    files: Files = {"cutor-run.sh": 'exec python3 "$@"', "deep.py": DEEP, "sends.py": sends}
    async with container() as (_, session, engine):
        await hand_over(session, engine, files)
        for arguments in (("deep.py", "60", "1", "3"), ("sends.py",)):
            report = await session.run_test(0, args=arguments, stdin=b"", limit=limit(open_files=512), more=True)
            assert (report.exit_code, report.stderr) == (0, b"")


HINTS = """
import fcntl, os, struct
for place in ("/etc", "/bin", "/usr/bin", "/etc/passwd", "/etc/group", "/etc/hosts", "/dev/null", os.path.realpath("/bin/sh")):
    file = os.open(place, os.O_RDONLY)
    print(place, *struct.unpack("Q", fcntl.fcntl(file, 1035, bytes(8))))
    for command in (1036, 1038):
        try: fcntl.fcntl(file, command, struct.pack("Q", 4))
        except OSError: continue
        print("set")
"""


async def test_no_hint_stays_with_a_file_that_the_next_submission_reads() -> None:
    async with container() as (_, session, engine):
        for _ in range(2):
            await hand_over(session, engine, {"cutor-run.sh": "exec python3 hints.py", "hints.py": HINTS})
            report = await run(session)
            assert (report.exit_code, report.stderr) == (0, b"")
            assert [line.split()[-1] for line in report.stdout.decode().splitlines()] == ["0"] * 8
            await session.reset()
