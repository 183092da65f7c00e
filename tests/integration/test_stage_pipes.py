"""Input and output: byte-exact, at once, however large, whatever the program does with its ends."""

from __future__ import annotations

import random

from cutor.model.limits import MIB
from cutor.model.outcome import classify
from tests.integration.stage_support import facts, scripts, stages

EVERY_BYTE = bytes(range(256)) * 3


async def test_input_arguments_and_output_are_byte_exact() -> None:
    show_args = 'printf "%s|" "$@"; cat'
    async with stages(scripts(show=show_args, none="cat; echo end", err="cat >&2")) as running:
        shown = await running.run("show", "a b", "", "ä*$x'\"\\", "-n", stdin=EVERY_BYTE)
        none = await running.run("none")
        error = await running.run("err", stdin=EVERY_BYTE)
    assert shown.stdout == "a b||ä*$x'\"\\|-n|".encode() + EVERY_BYTE
    assert none.stdout == b"end\n"
    assert (error.stdout, error.stderr) == (b"", EVERY_BYTE)


async def test_a_hundred_megabytes_each_way_at_once() -> None:
    """Through pipes of 64 KiB, by a program that writes what it reads and may hold next to nothing itself."""
    data = random.Random(2).randbytes(100_000_000)
    async with stages(scripts(cat="exec cat")) as running:
        report = await running.run("cat", stdin=data, stdout_bytes=len(data), wall_time_ms=60_000, memory_bytes=4 * MIB)
    assert facts(report) == {"exit_code": 0}
    assert report.stdout == data


async def test_input_that_nobody_reads() -> None:
    data = b"x" * 10_000_000
    async with stages(
        scripts(ignores="exit 0", closes="exec <&-; sleep 0.2; echo out", reads_a_line="read a; echo ${#a}")
    ) as running:
        ignored = await running.run("ignores", stdin=data)
        closed = await running.run("closes", stdin=data)
        line = await running.run("reads_a_line", stdin=b"abc\n" + data)
    assert [facts(report) for report in (ignored, closed, line)] == [{"exit_code": 0}] * 3
    assert (closed.stdout, line.stdout) == (b"out\n", b"3\n")


async def test_outputs_that_are_closed_or_dripped() -> None:
    drip = "while :; do printf .; sleep 0.01; done"
    async with stages(scripts(closed="exec >&- 2>&-; sleep 0.2; exit 7", drip=drip)) as running:
        closed = await running.run("closed")
        dripped = await running.run("drip", wall_time_ms=500)
    assert facts(closed) == {"exit_code": 7}
    assert classify(dripped) == "TLE_WALL"
    assert 0 < len(dripped.stdout) <= 50
    assert set(dripped.stdout) == {ord(".")}


async def test_output_at_the_limit_is_no_excess() -> None:
    async with stages(scripts(out="exec head -c $1 /dev/zero")) as running:
        exact = await running.run("out", "100000", stdout_bytes=100_000)
        over = await running.run("out", "100001", stdout_bytes=100_000)
        nothing = await running.run("out", "1", stdout_bytes=1, stderr_bytes=1)
    assert (classify(exact), len(exact.stdout)) == ("OK", 100_000)
    assert (classify(over), len(over.stdout), over.stdout_bytes_total) == ("OLE", 100_000, 100_001)
    assert classify(nothing) == "OK"
