"""How a program can end: five kinds of death and every limit, each told apart, in one container one after the other."""

from __future__ import annotations

import time

import pytest

from cutor.model.limits import MIB
from cutor.model.outcome import classify
from tests.integration.stage_support import facts, scripts, stages

SPIN_IN_A_DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while time.process_time() < 0.2: pass
        open("/tmp/spun", "w").close()
        while True: pass
    os._exit(0)
while not os.path.exists("/tmp/spun"): time.sleep(0.01)
"""

ENDINGS = {
    # case: (script, limits, outcome, facts; None where the kernel's kill and cutor's own race)
    "hello": ("echo hello", {}, "OK", {"exit_code": 0}),
    "exit": ("exit 3", {}, "RE", {"exit_code": 3}),
    "exit_139": ("exit 139", {}, "RE", {"exit_code": 139}),
    "segmentation_fault": ("kill -SEGV $$", {}, "SG", {"signal_number": 11}),
    "kills_itself": ("kill -KILL $$", {}, "SG", {"signal_number": 9}),
    "terminates_itself": ("kill -TERM $$", {}, "SG", {"signal_number": 15}),
    "sleeps": ("sleep 30", {"wall_time_ms": 200}, "TLE_WALL", {"killed_by": "wall_time"}),
    "spins": ("while :; do :; done", {"cpu_time_ms": 200}, "TLE_CPU", {"killed_by": "cpu_time"}),
    "wants_memory": ("exec python3 -c 'bytearray(1 << 30)'", {}, "MLE", None),
    "child_wants_memory": ("python3 -c 'bytearray(1 << 30)'; exit 0", {}, "MLE", None),
    "outlives_its_child": ("python3 -c 'bytearray(1 << 30)'; sleep 30", {}, "MLE", None),
    "writes_a_large_file": ("exec head -c 5000000 /dev/zero > x", {"file_size_bytes": MIB}, "FSE", {"signal_number": 25}),
    "floods_stdout": ("exec yes", {"stdout_bytes": 100_000}, "OLE", {"killed_by": "stdout"}),
    "floods_stderr": ("exec yes >&2", {"stderr_bytes": 100_000}, "OLE", {"killed_by": "stderr"}),
    "orphan_holds_the_pipe": ("sleep 100 & exit 4", {}, "RE", {"exit_code": 4}),
    "stops_everything": ("kill -STOP 1; kill -KILL 1; kill -STOP -1; kill -KILL -1; exit 5", {}, "RE", {"exit_code": 5}),
    "stops_itself": ("kill -STOP $$", {"wall_time_ms": 200}, "TLE_WALL", {"killed_by": "wall_time"}),
    "says_it_was_too_slow": ("echo 'time limit exceeded' >&2; exit 1", {}, "RE", {"exit_code": 1}),
}


async def test_every_ending_is_told_apart() -> None:
    wrong = {}
    async with stages(scripts(**{name: script for name, (script, *_) in ENDINGS.items()})) as running:
        for name, (_, limits, outcome, expected) in ENDINGS.items():
            report = await running.run(name, **limits)
            got = (classify(report), None if expected is None else facts(report))
            if got != (outcome, expected):
                wrong[name] = got
    assert wrong == {}


async def test_a_killed_stage_keeps_what_it_printed_and_its_times() -> None:
    files = scripts(slow="echo first; sleep 30", busy="echo first; while :; do :; done", flood="yes | head -c 300000")
    async with stages(files) as running:
        slow = await running.run("slow", wall_time_ms=300)
        busy = await running.run("busy", cpu_time_ms=300)
        flood = await running.run("flood", stdout_bytes=1001)
    assert (slow.stdout, busy.stdout) == (b"first\n", b"first\n")
    assert slow.wall_time_ms is not None
    assert 300 <= slow.wall_time_ms < 15_000, "far less than it would sleep"
    assert busy.cpu_time_ms is not None
    assert 300 <= busy.cpu_time_ms < 900
    assert flood.stdout == b"y\n" * 500 + b"y"
    assert flood.stdout_bytes_total > 1001


async def test_an_orphan_with_the_pipe_delays_nothing() -> None:
    async with stages(scripts(orphan="sleep 100 & echo done")) as running:
        started = time.monotonic()
        report = await running.run("orphan")
        assert time.monotonic() - started < 30, "far less than it sleeps"
    assert (report.stdout, report.exit_code) == (b"done\n", 0)


async def test_cpu_time_counts_a_daemon_that_left_the_session_and_kills_it() -> None:
    async with stages({**scripts(daemon="exec python3 daemon.py", idle="sleep 0.3"), "daemon.py": SPIN_IN_A_DAEMON}) as running:
        spun = await running.run("daemon")
        idle = await running.run("idle")
    assert spun.exit_code == 0
    assert spun.cpu_time_ms is not None
    assert spun.cpu_time_ms > 200
    assert idle.cpu_time_ms is not None
    assert idle.cpu_time_ms < 100


async def test_memory_in_files_is_memory() -> None:
    fill = "exec head -c 150000000 /dev/zero > "
    async with stages(
        scripts(tmp=fill + "/tmp/x", shm=fill + "/dev/shm/x", box=fill + "x", after="ls /tmp /dev/shm")
    ) as running:
        for place in ("tmp", "shm", "box"):
            assert classify(await running.run(place, file_size_bytes=200 * MIB)) == "MLE", place
        after = await running.run("after")
    assert after.stdout == b"/dev/shm:\n\n/tmp:\n"


@pytest.mark.parametrize("memory_bytes", [4096, MIB, 8 * MIB])
async def test_a_limit_too_small_for_a_shell_ends_as_the_programs_fault(memory_bytes: int) -> None:
    async with stages(scripts(hog="exec python3 -c 'bytearray(1 << 30)'", hello="echo hello")) as running:
        assert classify(await running.run("hog", memory_bytes=memory_bytes)) == "MLE"
        assert (await running.run("hello")).stdout == b"hello\n"


async def test_a_program_gets_its_memory_and_not_much_more() -> None:
    hold = "exec python3 -c 'import sys; x = bytearray(int(sys.argv[1])); x[::4096] = bytes(len(x[::4096]))' $1"
    async with stages(scripts(hold=hold)) as running:
        fits = await running.run("hold", str(48 * MIB))
        too_much = await running.run("hold", str(72 * MIB))
    assert facts(fits) == {"exit_code": 0}
    assert fits.memory_peak_bytes is not None
    assert 48 * MIB < fits.memory_peak_bytes < 70 * MIB
    assert classify(too_much) == "MLE"


async def test_bombs_end_and_harm_nobody() -> None:
    bombs = {
        "fork": ":(){ :|:& };: ; sleep 0.5; exit 0",
        "fork_with_memory": "b(){ local x=$(head -c 2000000 /dev/zero | tr '\\0' x); b & b & wait; }; b",
        "threads": """exec python3 -c "
import threading, time
try:
    for count in range(1000): threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start()
except RuntimeError: print(count)
" """,
    }
    async with stages(scripts(**bombs, hello="echo hello")) as running:
        assert (await running.run("fork", processes=16, wall_time_ms=5000)).fault is None  # bash waits longer and longer
        assert (await running.run("hello")).stdout == b"hello\n"
        assert (await running.run("fork_with_memory", wall_time_ms=700)).fault is None
        assert (await running.run("hello")).stdout == b"hello\n"
        threads = await running.run("threads", processes=16)
        assert 10 <= int(threads.stdout) < 16
        assert (await running.run("hello")).stdout == b"hello\n"


async def test_limits_of_files_and_processes_reach_the_program() -> None:
    show = "ulimit -n; ulimit -f; ulimit -c; ulimit -s"
    many = "exec python3 -c 'kept = [open(\"/dev/null\") for _ in range(1000)]'"
    async with stages(scripts(show=show, many=many)) as running:
        shown = await running.run("show", open_files=256, file_size_bytes=MIB)
        many_files = await running.run("many", open_files=64)
    assert shown.stdout.split() == [b"256", b"1024", b"0", b"65536"]
    assert b"Too many open files" in many_files.stderr


async def test_programs_start_with_three_descriptors_and_default_signals() -> None:
    held = "for n in {0..200}; do [ -e /proc/$$/fd/$n ] && echo $n; done; exit 0"  # bash keeps its scripts open from 250 on
    files = scripts(fds=held, broken="yes | head -n 1; echo ${PIPESTATUS[0]}", pid="echo $$ $PPID")
    async with stages(files) as running:
        fds = await running.run("fds")
        broken = await running.run("broken")
        pid = await running.run("pid")
    assert fds.stdout == b"0\n1\n2\n"
    assert broken.stdout == b"y\n141\n"  # a program that ignored SIGPIPE would go on
    assert pid.stdout == b"2 1\n"


async def test_a_short_program_takes_the_time_it_took_however_late_its_parent_wakes() -> None:
    """Its beginning is noted by itself, right before it becomes the program; and who measures goes before it."""
    spin = "for n in {1..20000}; do :; done"
    async with stages(scripts(short=spin, nice="nice")) as running:
        for _ in range(10):
            report = await running.run("short")
            assert report.wall_time_ms is not None
            assert report.cpu_time_ms is not None
            assert report.wall_time_ms + 5 >= report.cpu_time_ms, "one process can't use more than passes"
        nice = await running.run("nice")
    assert nice.stdout == b"19\n"
