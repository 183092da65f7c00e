"""Files without a name that real processes keep: on a file system with few inodes, and behind long lists of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from cutor.nix.inside import additions as module
from cutor.nix.inside.additions import Additions
from cutor.nix.inside.turns import BEHIND_LOOKS

MIB: Final = 1 << 20

OWN_DISK: Final = r"""
import ctypes, json, mmap, os, signal, sys
from cutor.nix.inside.additions import Additions
NEW_USER, NEW_MOUNTS = 0x10000000, 0x20000
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
place, options = sys.argv[1:]
maps = {"uid_map": f"0 {os.getuid()} 1", "setgroups": "deny", "gid_map": f"0 {os.getgid()} 1"}
if libc.unshare(NEW_USER | NEW_MOUNTS):
    raise SystemExit(f"no namespace: {os.strerror(ctypes.get_errno())}")
for name, ids in maps.items():
    with open(f"/proc/self/{name}", "w") as file:
        file.write(ids)
if libc.mount(b"own", place.encode(), b"tmpfs", 0, options.encode()):
    raise SystemExit(f"no tmpfs: {os.strerror(ctypes.get_errno())}")
store, proc = place + "/store", place + "/proc"
os.mkdir(store)
os.mkdir(proc)
os.symlink("/proc/self", proc + "/self")
"""
"""Of which nobody else frees anything meanwhile: that would hide as much of what is taken."""

FEW_INODES: Final = r"""
additions = Additions(store, proc, 123456, 123456)
ready, tell = os.pipe()
pid = os.fork()
if not pid:
    file = os.open(store + "/held", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 64 << 20)
    held = libc.mmap(None, 64 << 20, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file, 0)
    os.unlink(store + "/held")
    os.close(file)
    ctypes.memset(held, 1, 64 << 20)
    os.write(tell, b"x")
    signal.pause()
os.read(ready, 1)
os.symlink(f"/proc/{pid}", f"{proc}/{pid}")
for _ in additions.look():
    pass
os.kill(pid, signal.SIGKILL)
print(json.dumps([additions.total_bytes, additions.keeps_mapped]))
"""


BEHIND_OTHERS: Final = r"""
SIZE = 64 << 20
os.chdir(store)
for _ in range(14):
    os.mkdir(chr(10) * 250)
    os.chdir(chr(10) * 250)
ready, tell = os.pipe()
pids = []

def begin(holds):
    pid = os.fork()
    if not pid:
        if not holds:
            libc.munmap(held, SIZE)
        file = os.open("x", os.O_RDWR | os.O_CREAT)
        os.ftruncate(file, 8192)
        for n in range(62):
            assert libc.mmap(None, 4096, 1, 2 - n % 2, file, 0) != 2**64 - 1
        os.close(file)
        os.write(tell, b"x")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    os.symlink(f"/proc/{pid}", f"{proc}/{pid}")
    pids.append(pid)
    return pid

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.unlink(f"{proc}/{pid}")
    pids.remove(pid)

additions = Additions(store, proc, 123456, 123456)
file = os.open(store + "/held", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, SIZE)
held = libc.mmap(None, SIZE, 3, 1, file, 0)
os.unlink(store + "/held")
os.close(file)
ctypes.memset(held, 1, SIZE)
holder, most_bytes = begin(True), 0
for _ in range(30):
    begin(False)
    begin(False)
    former, holder = holder, begin(True)
    end(former)
    while len(pids) > 14:
        end(min(pid for pid in pids if pid != holder))
    for _ in additions.look():
        pass
    most_bytes = max(most_bytes, additions.total_bytes)
while pids:
    end(pids[0])
print(json.dumps([most_bytes, additions.keeps_mapped]))
"""


def answer_of(script: str, place: Path, disk: str) -> list[object]:
    """Run a script on a tmpfs of its own, with these options; return what it printed at its end."""
    command = [sys.executable, "-c", OWN_DISK + script, str(place), disk]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.stderr.startswith("no ") and os.environ.get("CI") != "true":
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    answer: list[object] = json.loads(done.stdout)
    return answer


def test_what_a_mapping_keeps_is_seen_where_the_disk_has_few_inodes(tmp_path: Path) -> None:
    """There the room is what the inodes are good for, and no byte that is written changes it."""
    total_bytes, keeps_mapped = answer_of(FEW_INODES, tmp_path, "size=256m,nr_inodes=64")
    assert isinstance(total_bytes, int)
    assert 64 * MIB <= total_bytes < 65 * MIB
    assert keeps_mapped


def test_what_a_mapping_keeps_is_seen_behind_long_lists_of_others(tmp_path: Path) -> None:
    """Of each of which one look reads one or two. Who keeps the file is a new process each time, the latest."""
    most_bytes, keeps_mapped = answer_of(BEHIND_OTHERS, tmp_path, "size=256m")
    assert isinstance(most_bytes, int)
    assert most_bytes >= 64 * MIB
    assert keeps_mapped


HOLDER: Final = r"""
import ctypes, os, platform, sys, threading
kind, path = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
NEW_FILES, EXIT = 0x400, {"x86_64": 60, "aarch64": 93}[platform.machine()]

def hold():
    if kind == "files of its own":
        assert libc.unshare(NEW_FILES) == 0
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(file, bytes(1 << 20))
    os.unlink(path)
    os.write(1, b"held" + bytes([10]))
    os.read(0, 1)
    os._exit(0)

other = threading.Thread(target=hold)
other.start()
if kind == "the first one ended":
    libc.syscall(EXIT, 0)
other.join()
"""


def state_of(pid: int) -> str:
    """Return the state of a process's first thread, as proc(5) calls it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("kind", ["one of several", "files of its own", "the first one ended"])
def test_what_a_thread_has_open_is_seen(tmp_path: Path, kind: str) -> None:
    """Also where it took a table of open files of its own, or the thread ended that the process is listed by."""
    store, proc = tmp_path / "store", tmp_path / "proc"
    store.mkdir()
    proc.mkdir()
    (proc / "self").symlink_to("/proc/self")
    additions = Additions(str(store), str(proc), 123456, 123456)
    command = [sys.executable, "-c", HOLDER, kind, str(store / "held")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        deadline = time.monotonic() + 60
        while kind == "the first one ended" and state_of(process.pid) != "Z" and time.monotonic() < deadline:
            time.sleep(0.01)
        (proc / str(process.pid)).symlink_to(f"/proc/{process.pid}")
        for _ in additions.look():
            continue
        process.communicate(b"x")
    additions.close()
    assert additions.total_bytes == MIB


class Build:
    """Very many processes at once, each of which ends soon: as many again come in its place."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._jobs: dict[int, subprocess.Popen[bytes]] = {}
        self.begun = 0

    def go_on(self) -> None:
        """Let those go that have ended, and begin one, as long as there are fewer than 64."""
        for pid, job in list(self._jobs.items()):
            if job.poll() is not None:
                (self._proc / str(pid)).unlink()
                del self._jobs[pid]
        if len(self._jobs) < 64:
            job = subprocess.Popen(["/bin/sh", "-c", "sleep 0.1; true"])
            (self._proc / str(job.pid)).symlink_to(f"/proc/{job.pid}")
            self._jobs[job.pid] = job
            self.begun += 1

    def end(self) -> None:
        for job in self._jobs.values():
            job.wait(60)


def test_a_build_of_very_many_short_lived_processes_is_never_taken_for_one_that_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them ended before they were read, and whatever the disk loses to others meanwhile."""
    free = iter(range(1 << 40, 0, -MIB))
    monkeypatch.setattr(module, "unwritten_bytes", lambda _: next(free))
    store, proc = tmp_path / "store", tmp_path / "proc"
    store.mkdir()
    proc.mkdir()
    (proc / "self").symlink_to("/proc/self")
    build = Build(proc)
    additions = Additions(str(store), str(proc), 123456, 123456)
    for _ in range(2 * BEHIND_LOOKS):
        for _ in additions.look():
            build.go_on()
        build.go_on()
        assert not additions.keeps_mapped
    build.end()
    additions.close()
    assert build.begun > 4 * BEHIND_LOOKS
