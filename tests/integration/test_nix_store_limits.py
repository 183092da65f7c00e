"""What one build may add to the shared store is bounded, whatever way it takes; what others add, or was there, is not its."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Final

import pytest
from aiodocker import Docker
from msgspec.structs import replace

from cutor.containers.errors import SessionFault
from cutor.containers.host_config import BUILD_UID
from cutor.model.limits import GIB, MIB
from cutor.model.outcome import classify
from tests.nix_builds import Builds, look_seldom, variables
from tests.stores import make_store, own_volumes, remove_store

LIMIT: Final = 64 * MIB
LEFT: Final = "cd /nix/store; shopt -s nullglob dotglob; echo *.drv.chroot .removing* tmp-* .tmp*"


def shell(attributes: str) -> str:
    return f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ {attributes} }}"


def derivation(script: str, number: str = "") -> str:
    """Return an expression for a derivation that runs ``script``, new every time."""
    name = f"adds-{secrets.token_hex(4)}"
    return f"(pkgs.runCommand \"{name}{number}\" {{ python = pkgs.python3; }} ''\n{script}\n'')"


def builder(script: str) -> str:
    return shell(f"packages = [ {derivation(script)} ];")


def python(program: str) -> str:
    return f"$python/bin/python3 -c '{program}'"


def chain(count: int) -> str:
    """Return a shell that needs derivations which need each other, each with 10 MiB of its own."""
    token = secrets.token_hex(4)
    made = []
    for n in range(count):
        before = f"${{a{n - 1}}}" if n else ""
        script = f"echo {before}; head -c 10M /dev/zero > $out"
        made.append(f'a{n} = pkgs.runCommand "adds-{token}-{n}" {{ }} "{script}";')
    return f"{{ pkgs ? import <nixpkgs> {{ }} }}: let {' '.join(made)} in pkgs.mkShell {{ packages = [ a{count - 1} ]; }}"


MAPPED: Final = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
piece = bytes(SIZE)
for _ in range(COUNT):
    file = os.open("/tmp/mapped", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, LENGTH)
    os.write(file, piece)
    assert libc.mmap(None, LENGTH, 3, 1, file, 0) not in (None, 2**64 - 1)
    os.unlink("/tmp/mapped")
    os.close(file)
time.sleep(SECONDS)
open(os.environ["out"], "w").close()
"""
"""Files with a mapping and nothing else: no name, and no descriptor."""


def mapped(count: int, size: int, length: int, seconds: int) -> str:
    """Return a shell whose builder maps ``count`` files of ``length`` bytes, ``size`` of which are written."""
    values = {"COUNT": count, "SIZE": size, "LENGTH": length, "SECONDS": seconds}
    program = MAPPED
    for name, value in values.items():
        program = program.replace(name, str(value))
    return builder(f"cat > /build/mapped.py <<'END'\n{program}END\n$python/bin/python3 /build/mapped.py")


MANY_MAPPINGS: Final = """
import ctypes, os, time
os.chdir("/tmp")
for _ in range(150):
    name = chr(10) * 250
    os.mkdir(name)
    os.chdir(name)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
file = os.open("x", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 8192)
for n in range(60_000):
    assert libc.mmap(None, 4096, 1, 2 - n % 2, file, 0) != 2**64 - 1
if os.fork() == 0:
    with open("/tmp/big", "wb") as big:
        for _ in range(300):
            big.write(bytes(1 << 20))
time.sleep(SECONDS)
open(os.environ["out"], "w").close()
"""
"""A list of mappings of 9 GiB, which takes minutes to be read, and another process that fills the disk meanwhile."""


def many_mappings(seconds: int) -> str:
    program = MANY_MAPPINGS.replace("SECONDS", str(seconds))
    return builder(f"cat > /build/many.py <<'END'\n{program}END\n$python/bin/python3 /build/many.py")


DECOYS: Final = """
import ctypes, os, signal, time
SIZE = 150 << 20
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork():
    time.sleep(60)
    raise SystemExit("nobody looked behind the others")
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
os.chdir("/tmp")
for _ in range(14):
    os.mkdir(chr(10) * 250)
    os.chdir(chr(10) * 250)
file = os.open("/tmp/held", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, SIZE)
held = libc.mmap(None, SIZE, 3, 1, file, 0)
os.unlink("/tmp/held")
os.close(file)
small = os.open("x", os.O_RDWR | os.O_CREAT)
os.ftruncate(small, 8192)
for n in range(62):
    assert libc.mmap(None, 4096, 1, 2 - n % 2, small, 0) != 2**64 - 1
os.close(small)

def decoy():
    if pid := os.fork():
        return pid
    libc.munmap(held, SIZE)
    while True:
        signal.pause()

decoys = [decoy() for _ in range(12)]
for generation in range(1000):
    decoys += [decoy(), decoy()]
    while len(decoys) > 14:
        os.kill(decoys.pop(0), signal.SIGKILL)
    if os.fork():
        os._exit(0)
    if generation == 1:
        libc.memset(held, 1, SIZE)
    time.sleep(0.5)
"""
"""A file that a process keeps by a mapping alone, behind the mebibyte of its list, among others with as much of theirs.

The process is a new one every half second, younger than all others; when it begins to write, nobody has the file open.
"""


def decoys() -> str:
    return builder(f"cat > /build/decoys.py <<'END'\n{DECOYS}END\n$python/bin/python3 /build/decoys.py")


def rooted_elsewhere() -> str:
    """Return a shell whose builder takes a root of its own in its first moments, and is nothing but that one process.

    Its programs are static: bash, which becomes `unshare`, which becomes `chroot`, which becomes a shell that fills the disk.
    """
    return f"""{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ packages = [ (derivation {{
      name = "adds-{secrets.token_hex(4)}"; system = builtins.currentSystem;
      builder = pkgs.staticBash; busybox = pkgs.staticBusybox;
      args = [ "-euc" ''
        busybox() {{ (exec -a busybox "$busybox" "$@"); }}
        busybox mkdir /tmp/root
        busybox cp "$busybox" /tmp/root/busybox
        exec -a busybox "$busybox" unshare -U -r /tmp/root/busybox chroot /tmp/root /busybox sh -c \\
          'n=0; while [ $n -lt 400 ]; do n=$((n+1)); /busybox cp /busybox /$n; done; exec /busybox sleep 60'
      '' ];
    }}) ]; }}"""


WAYS: Final = {
    "one output": builder("head -c 300M /dev/zero > $out; sleep 60"),
    "an output of many files": builder("mkdir $out; for n in $(seq 8); do head -c 30M /dev/zero > $out/$n; done; sleep 60"),
    "beside its output": builder("head -c 300M /dev/zero > /tmp/big; sleep 60"),
    "in the root of its file system": builder("mkdir /nix/store/own && head -c 300M /dev/zero > /nix/store/own/big; sleep 60"),
    "files that have no name any more": builder(
        python(
            'import os, time; f = os.open("/tmp/gone", os.O_RDWR | os.O_CREAT); os.unlink("/tmp/gone"); '
            '[os.write(f, bytes(1 << 20)) for _ in range(300)]; time.sleep(60)'
        )
    ),
    "files without a name that one thread has open by itself": builder(
        python(
            "import ctypes, os, threading, time; alone = lambda: (ctypes.CDLL(None).unshare(0x400), "
            '(f := os.open("/tmp/gone", os.O_RDWR | os.O_CREAT)), os.unlink("/tmp/gone"), '
            "[os.write(f, bytes(1 << 20)) for _ in range(300)], time.sleep(60)); threading.Thread(target=alone).start()"
        )
    ),
    "by a builder with a root of its own": builder(
        python(
            "import ctypes, os, time; os.chdir(\"/tmp\"); assert ctypes.CDLL(None).unshare(0x10000000) == 0; "
            'os.chroot("/build"); f = open("big", "wb"); [f.write(bytes(1 << 20)) for _ in range(300)]; time.sleep(60)'
        )
    ),
    "beside a process with mappings that nobody can read through": many_mappings(60),
    "a file that a mapping alone keeps, behind others with as long lists": decoys(),
    "files that nobody may read": builder("mkdir $out; head -c 300M /dev/zero > $out/big; chmod 0 $out/big $out; sleep 60"),
    "empty files": builder(
        python('import os, time; os.mkdir("/tmp/d"); [os.mknod(f"/tmp/d/{n}") for n in range(40_000)]; time.sleep(60)')
    ),
    "one derivation after the other": chain(40),
    "sources that the evaluation writes": shell(
        f'sources = map (n: builtins.toFile "source-{secrets.token_hex(4)}-${{toString n}}" (toString n +'
        ' builtins.concatStringsSep "" (builtins.genList (i: "0123456789abcdef") 65536))) (builtins.genList (n: n) 120);'
    ),
    "what an evaluation imports": (
        "{ pkgs ? import <nixpkgs> { } }: import "
        + derivation("mkdir $out; head -c 300M /dev/zero > $out/big; echo '{ }' > $out/default.nix; sleep 60")
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_a_build_that_adds_too_much_is_ended_and_told_why(builds: Builds, way: str) -> None:
    builds.settings = replace(builds.settings, store_bytes=LIMIT)
    failed = await builds.failed(WAYS[way])
    assert classify(failed.report) == "FSE", failed
    assert failed.report.killed_by == "store"
    assert failed.message.startswith("the build adds more than 64.0 MiB to the store (nix.store_bytes): "), failed.message
    assert failed.report.wall_time_ms is not None
    assert failed.report.wall_time_ms < 59_000
    assert await builds.in_store(LEFT) == "\n", "what it had not finished is gone"


async def test_a_builder_that_took_another_root_before_anybody_looked_is_counted(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_seldom(monkeypatch, 6)
    builds.settings = replace(builds.settings, store_bytes=LIMIT)
    failed = await builds.failed(rooted_elsewhere())
    assert (classify(failed.report), failed.report.killed_by) == ("FSE", "store"), failed
    assert await builds.in_store(LEFT) == "\n"


async def test_a_build_that_ended_before_it_was_looked_at_is_over_its_limit_all_the_same(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_seldom(monkeypatch, 3600)
    builds.settings = replace(builds.settings, store_bytes=1 * MIB)
    failed = await builds.failed(builder("head -c 2M /dev/zero > $out"))
    assert (classify(failed.report), failed.report.killed_by, failed.report.exit_code) == ("FSE", "store", None)


async def test_directories_too_deep_to_be_counted_are_told(builds: Builds) -> None:
    deep = 'import os, time; os.chdir("/tmp"); [(os.mkdir("d"), os.chdir("d")) for _ in range(300)]; time.sleep(60)'
    failed = await builds.failed(builder(python(deep)))
    assert classify(failed.report) == "FSE"
    assert failed.message == "the build makes directories more than 200 deep in the store: they can't be counted"
    assert await builds.in_store(LEFT) == "\n"


async def test_what_was_there_already_counts_for_nobody(builds: Builds) -> None:
    builds.settings = replace(builds.settings, store_bytes=1 * MIB)
    environment = await builds.built(
        shell(f'packages = [ pkgs.python3 pkgs.gcc ]; shellHook = "export A={secrets.token_hex(4)}";')
    )
    assert environment.closure_bytes > 50 * MIB


async def test_what_another_build_adds_at_the_same_time_counts_for_that_one_alone(builds: Builds) -> None:
    slow = "for n in 1 2 3 4 5 6 7 8; do head -c 20M /dev/zero > /tmp/$n; sleep 0.5; done; touch $out"
    whole = builds.settings
    builds.settings = replace(whole, store_bytes=4 * GIB)
    large = asyncio.create_task(builds.built(builder(slow)))
    await asyncio.sleep(0.5)
    builds.settings = replace(whole, store_bytes=LIMIT)
    small = await builds.built(shell(f'packages = [ {derivation("sleep 4; head -c 10M /dev/zero > $out")} ]; OK = "1";'))
    assert variables(small)["OK"] == b"1"
    await large
    builds.settings = whole


async def test_two_builds_that_want_the_same_derivation_are_not_both_charged(builds: Builds) -> None:
    """The second waits for the first, whose file system is no part of it."""
    builds.settings = replace(builds.settings, store_bytes=LIMIT)
    text = builder("head -c 40M /dev/zero > /tmp/scratch; sleep 2; head -c 10M /dev/zero > $out")
    for environment in await asyncio.gather(builds.built(text), builds.built(text)):
        assert environment.derivation


async def test_files_with_several_names_count_once(builds: Builds) -> None:
    builds.settings = replace(builds.settings, store_bytes=LIMIT)
    await builds.built(builder("mkdir $out; head -c 20M /dev/zero > $out/0; for n in $(seq 9); do ln $out/0 $out/$n; done"))


async def test_what_a_build_deletes_again_is_not_added(builds: Builds) -> None:
    builds.settings = replace(builds.settings, store_bytes=LIMIT)
    await builds.built(builder("for n in $(seq 8); do head -c 30M /dev/zero > /tmp/x; sleep 0.3; rm /tmp/x; done; touch $out"))


async def test_no_build_begins_where_too_little_is_free(builds: Builds) -> None:
    builds.settings = replace(builds.settings, min_free_bytes=1 << 50)
    with pytest.raises(
        SessionFault, match=r"the store volume has [\d,.]+ MiB left \(nix\.min_free_bytes is 1,073,741,824\.0 MiB\)"
    ) as fault:
        await builds.build(shell(""))
    assert "free some with `cutor gc`" in str(fault.value)


@pytest.fixture
async def small_store(builds: Builds) -> AsyncIterator[Builds]:
    """Builds on a store whose disk has 300 MiB."""
    whole, builds.settings = builds.settings, own_volumes()
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size=300m,uid={BUILD_UID},gid={BUILD_UID},mode=0755"}
    async with Docker() as docker:
        try:
            await docker.volumes.create({"Name": builds.settings.store_volume, "DriverOpts": options})
            async with builds.holding(["/usr/bin/sleep", "600"]):  # or the memory would be given back between two builds
                yield builds
        finally:
            await remove_store(builds.settings)
            builds.settings = whole


async def test_a_disk_that_fills_up_meanwhile_is_nobodys_failure(small_store: Builds) -> None:
    builds = small_store
    await make_store(replace(builds.settings, store_volume=builds.settings.var_volume))
    builds.settings = replace(builds.settings, min_free_bytes=100 * MIB)
    await builds.built(shell('A = "1";'))
    with pytest.raises(SessionFault, match=r"the store volume has [\d.]+ MiB left \(nix\.min_free_bytes is 100\.0 MiB\)"):
        await builds.build(builder("head -c 500M /dev/zero > $out").replace("python = pkgs.python3;", ""))
    assert await builds.in_store(LEFT) == "\n"
    await builds.built(shell('A = "2";'))


FILLED_BY_ANOTHER: Final = """
/usr/bin/python3 -S -E - <<'END'
import os, time
free = os.statvfs("/nix/store")
file = os.open("/nix/store/.filled", os.O_WRONLY | os.O_CREAT)
os.posix_fallocate(file, 0, free.f_bavail * free.f_frsize - (150 << 20))
time.sleep(10)
os.unlink("/nix/store/.filled")
END
"""


async def test_a_build_is_not_taken_for_one_that_hides_because_it_lasts_while_others_write(small_store: Builds) -> None:
    """Below what a build needs to begin, who keeps what nobody can count is ended: that is nobody here."""
    builds = small_store
    await make_store(replace(builds.settings, store_volume=builds.settings.var_volume))
    builds.settings = replace(builds.settings, min_free_bytes=200 * MIB)
    await builds.built(shell('A = "1";'))
    lasting = builder("echo it lasts; sleep 16; touch $out").replace("python = pkgs.python3;", "")
    begun = asyncio.Event()
    build = asyncio.create_task(
        builds.built(lasting, on_progress=lambda piece: begun.set() if b"it lasts\n" in piece else None)
    )
    async with asyncio.timeout(180):
        await begun.wait()
    await builds.in_store(FILLED_BY_ANOTHER)
    assert (await build).derivation


IN_A_SOCKET: Final = """
import array, os, socket, time
one, other = socket.socketpair()
for n in range(28):
    file = os.open("/tmp/held", os.O_RDWR | os.O_CREAT)
    os.unlink("/tmp/held")
    try:
        os.write(file, bytes(10 << 20))
    except OSError:
        break
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
    os.close(file)
time.sleep(60)
"""
IN_A_MOUNT: Final = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x10020000) == 0
for n in range(28):
    open(f"/tmp/point{n}", "w").close()
    file = os.open("/tmp/held", os.O_RDWR | os.O_CREAT)
    assert libc.mount(b"/tmp/held", f"/tmp/point{n}".encode(), None, 4096, None) == 0
    os.unlink("/tmp/held")
    try:
        os.write(file, bytes(10 << 20))
    except OSError:
        break
    os.close(file)
time.sleep(60)
"""
AT_ONCE: Final = """
import os, time
file = os.open("/tmp/held", os.O_RDWR | os.O_CREAT)
free = os.fstatvfs(file)
os.posix_fallocate(file, 0, free.f_bavail * free.f_frsize - (1 << 20))
time.sleep(60)
"""
FILLING: Final = {"hid it in a socket": IN_A_SOCKET, "hid it in mounts": IN_A_MOUNT, "took it in one step": AT_ONCE}


@pytest.mark.parametrize("way", FILLING)
async def test_who_filled_the_disk_is_told_and_not_tried_again(small_store: Builds, way: str) -> None:
    """It ends all builds of the host: it must not do that as often as a fault is tried again."""
    builds = small_store
    await make_store(replace(builds.settings, store_volume=builds.settings.var_volume))
    builds.settings = replace(builds.settings, min_free_bytes=1 * MIB)
    await builds.built(shell("packages = [ pkgs.python3 ];"))
    builds.settings = replace(builds.settings, store_bytes=32 * MIB, min_free_bytes=60 * MIB)
    failed = await builds.failed(
        builder(f"cat > /build/fill.py <<'END'\n{FILLING[way]}END\n$python/bin/python3 /build/fill.py")
    )
    assert (classify(failed.report), failed.report.killed_by) == ("FSE", "store"), failed
    assert failed.message.startswith("the build adds more than 32.0 MiB to the store (nix.store_bytes): "), failed.message
    assert await builds.in_store(LEFT) == "\n"


async def test_files_that_mappings_alone_keep_count_as_what_they_take(small_store: Builds) -> None:
    """On a disk that nobody else changes: what it has lost tells how much of a mapping is a hole."""
    builds = small_store
    await make_store(replace(builds.settings, store_volume=builds.settings.var_volume))
    builds.settings = replace(builds.settings, min_free_bytes=1 * MIB)
    await builds.built(shell("packages = [ pkgs.python3 ];"))
    builds.settings = replace(builds.settings, store_bytes=LIMIT)
    await builds.built(mapped(3, 1 * MIB, 1 * GIB, 2))
    failed = await builds.failed(mapped(25, 5 * MIB, 5 * MIB, 60))
    assert (classify(failed.report), failed.report.killed_by) == ("FSE", "store"), failed
    assert failed.message.startswith("the build adds more than 64.0 MiB to the store (nix.store_bytes): "), failed.message
