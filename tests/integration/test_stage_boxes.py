"""The box: what compile leaves is there for every run, what a run leaves is there for nobody."""

from __future__ import annotations

import pytest

from cutor.model.limits import MIB
from cutor.model.outcome import classify
from tests.integration.stage_support import LIMIT, limit, scripts, stages

LEAVE_TRACES = """
echo trace | tee new /tmp/new /dev/shm/new > /dev/null
echo changed >> kept; rm gone; mkdir -p d/e; rm -r dir; mkdir dir; echo again > dir/again; ln -sf /etc/passwd link
exec python3 -c "
import ctypes, socket
libc = ctypes.CDLL(None); print(libc.shmget(4242, 4096, 0o1666) >= 0, libc.msgget(4242, 0o1666) >= 0)
socket.socket(1).bind('\\0cutor-test')
"
"""
LOOK_FOR_TRACES = """
ls -R . /tmp /dev/shm; cat kept; cat dir/file
exec python3 -c "
import ctypes, socket
libc = ctypes.CDLL(None); print(libc.shmget(4242, 0, 0), libc.msgget(4242, 0))
socket.socket(1).bind('\\0cutor-test')
"
"""
COMPILE = "echo kept > kept; echo gone > gone; mkdir dir; echo file > dir/file; echo x > /tmp/of-compile"
HOSTILE_COMPILE = """
mkdir -p a/b/c; echo deep > a/b/c/file; chmod 000 a/b/c/file; chmod 000 a/b/c a
mkfifo pipe; ln -s / root; ln -s ../../../../etc/passwd up; ln -s loop loop; touch "$(printf 'odd\\n\\377name')"
printf secret > unreadable; chmod 000 unreadable; chmod 4755 cutor-run.sh
"""


@pytest.mark.parametrize("copy_box", [False, True], ids=["overlay", "copy"])
async def test_runs_start_from_what_compile_left_and_see_nothing_of_each_other(copy_box: bool) -> None:
    files = {**scripts(leave=LEAVE_TRACES, look=LOOK_FOR_TRACES), "cutor-compile.sh": COMPILE}
    async with stages(files, copy_box=copy_box) as running:
        assert (await running.session.run_compile(LIMIT)).exit_code == 0
        before = await running.run("look")
        left = await running.run("leave")
        after = await running.run("look")
    assert (left.exit_code, left.stdout) == (0, b"True True\n")
    assert after.stdout == before.stdout
    assert before.stdout.decode().endswith("kept\nfile\n-1 -1\n")
    assert b"of-compile" not in before.stdout
    assert (before.stderr, after.stderr) == (b"", b"")


@pytest.mark.parametrize("copy_box", [False, True], ids=["overlay", "copy"])
async def test_what_a_hostile_compile_leaves_can_be_run_on(copy_box: bool) -> None:
    look = "chmod 755 a a/b/c; chmod 644 a/b/c/file unreadable; cat a/b/c/file unreadable; readlink root up loop; ls | wc -l"
    async with stages({**scripts(look=look), "cutor-compile.sh": HOSTILE_COMPILE}, copy_box=copy_box) as running:
        assert (await running.session.run_compile(LIMIT)).exit_code == 0
        first = await running.run("look")
        second = await running.run("look")
    assert first.stdout == second.stdout
    count = 10 if copy_box else 11  # lines, one name has two; a copy leaves the named pipe out
    assert first.stdout.decode().splitlines() == ["deep", "secret/", "../../../../etc/passwd", "loop", str(count)]


async def test_compile_and_run_have_memory_limits_of_their_own() -> None:
    hold = "python3 -c 'import sys; x = bytearray(120 << 20); x[::4096] = bytes(len(x[::4096]))'"
    async with stages({**scripts(hold=hold, hello="echo hello"), "cutor-compile.sh": hold}) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=200 * MIB))
        held = await running.run("hold", memory_bytes=64 * MIB)
        again = await running.run("hold", memory_bytes=200 * MIB)
    assert [classify(report) for report in (compiled, held, again)] == ["OK", "MLE", "OK"]


async def test_what_compile_left_does_not_count_for_the_runs() -> None:
    fill = "head -c 100000000 /dev/zero > data"
    async with stages({**scripts(count="wc -c < data"), "cutor-compile.sh": fill}) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=200 * MIB, file_size_bytes=200 * MIB))
        report = await running.run("count", memory_bytes=32 * MIB)
    assert compiled.exit_code == 0
    assert (report.stdout, classify(report)) == (b"100000000\n", "OK")


async def test_a_compile_that_fills_memory_with_files_is_judged_and_survived() -> None:
    fill = "head -c 200000000 /dev/zero > data"
    async with stages({**scripts(hello="echo hello"), "cutor-compile.sh": fill}) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=64 * MIB, file_size_bytes=500 * MIB))
        report = await running.run("hello")
    assert classify(compiled) == "MLE"
    assert report.stdout == b"hello\n"


async def test_a_full_box_is_the_programs_own_trouble() -> None:
    fill = "head -c 300000000 /dev/zero > data || exit 9"
    many = "exec python3 -c 'for i in range(100000): open(str(i), \"w\").close()'"
    async with stages({**scripts(many=many), "cutor-compile.sh": fill}) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=400 * MIB, file_size_bytes=500 * MIB))
        inodes = await running.run("many", memory_bytes=256 * MIB, wall_time_ms=30_000, cpu_time_ms=20_000)
    assert (compiled.exit_code, classify(compiled)) == (9, "RE")
    assert b"No space left on device" in compiled.stderr
    assert inodes.exit_code == 1
    assert b"No space left on device" in inodes.stderr


async def test_compile_leaves_no_process_behind() -> None:
    linger = "(while :; do echo alive > beat; sleep 0.05; done) & sleep 0.2"
    async with stages({**scripts(look="cat beat; rm -f beat; sleep 0.3; ls"), "cutor-compile.sh": linger}) as running:
        await running.session.run_compile(LIMIT)
        report = await running.run("look")
    assert report.stdout == b"alive\ncases\ncutor-compile.sh\ncutor-run.sh\n"


DEEP = """exec python3 -c "
import os
for _ in range(1000): os.mkdir('d' * 100); os.chdir('d' * 100)
open('end', 'w').write('here')
" """
FOLLOW = """exec python3 -c "
import os
for _ in range(1000): os.chdir('d' * 100)
print(open('end').read())
" """
MANY = "exec python3 -c 'for number in range(40_000): open(str(number), \"w\").close()'"
LEFT_BY_COMPILE = {
    # case: (compile script, run script, what it prints)
    "150 MB": ("head -c 150000000 /dev/zero > data", "wc -c < data", "150000000"),
    "240 MB": ("head -c 240000000 /dev/zero > data", "wc -c < data", "240000000"),
    "40,000 files": (MANY, "ls | wc -l", "40003"),
    "1000 deep": (DEEP, FOLLOW, "here"),
    "a closed box": ("chmod 000 /box", "cat cases/run | wc -l", "0"),
    "holes": ("truncate -s 1000000000 data; printf end >> data", "tail -c 3 data; stat -c %s data", "end1000000003"),
}


@pytest.mark.parametrize("copy_box", [False, True], ids=["overlay", "copy"])
@pytest.mark.parametrize("case", LEFT_BY_COMPILE)
async def test_whatever_compile_leaves_is_there_for_small_runs(case: str, copy_box: bool) -> None:
    compile_script, run_script, printed = LEFT_BY_COMPILE[case]
    files = {**scripts(run=run_script), "cutor-compile.sh": compile_script}
    async with stages(files, copy_box=copy_box) as running:
        compiled = await running.session.run_compile(
            limit(memory_bytes=512 * MIB, file_size_bytes=2_000_000_000, wall_time_ms=60_000)
        )
        assert compiled.exit_code == 0, compiled
        for _ in range(2):
            report = await running.run("run", memory_bytes=32 * MIB, wall_time_ms=60_000)
            assert (report.stdout.decode().strip(), classify(report)) == (printed, "OK"), report


async def test_a_box_that_can_not_be_copied_is_an_outcome_with_a_word() -> None:
    links = "head -c 100000000 /dev/zero > data; for n in 1 2 3; do ln data $n; done"
    async with stages({**scripts(hello="echo hello"), "cutor-compile.sh": links}, copy_box=True) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=256 * MIB, file_size_bytes=200 * MIB))
        assert compiled.exit_code == 0
        for _ in range(2):
            report = await running.run("hello", memory_bytes=32 * MIB)
            assert (report.exit_code, report.stdout, classify(report)) == (126, b"", "RE")
            assert b"can't be copied for a run: files with several names would take more room" in report.stderr


async def test_a_copy_leaves_a_run_its_memory_and_no_more() -> None:
    hold = "exec python3 -c 'import sys; x = bytearray(int(sys.argv[1])); x[::4096] = bytes(len(x[::4096]))' $1"
    fill = "head -c 100000000 /dev/zero > data"
    async with stages({**scripts(hold=hold), "cutor-compile.sh": fill}, copy_box=True) as running:
        await running.session.run_compile(limit(memory_bytes=256 * MIB, file_size_bytes=200 * MIB))
        fits = await running.run("hold", str(56 * MIB))
        too_much = await running.run("hold", str(80 * MIB))
    assert [classify(report) for report in (fits, too_much)] == ["OK", "MLE"]
