"""The container's memory: what cutor and the kernel hold in it is beside the program's limit, whatever that is made of."""

from __future__ import annotations

import os
import secrets

import pytest

from cutor.containers.control_group import PLACES, ROOT
from cutor.containers.errors import SessionFault
from cutor.containers.host_config import Resources
from cutor.jail.job import RunnerJob
from cutor.jail.memory import first_memory_bytes
from cutor.jail.room import OWN_TASKS
from cutor.jail.session import WorkerSession
from cutor.model.environments import Programs
from cutor.model.limits import MIB
from cutor.model.outcome import classify
from tests.integration.stage_support import LIMIT, RESOURCES, Stages, connected, facts, limit, packages, scripts, spec, stages

HOLD = "exec python3 -c 'import sys; x = bytearray(int(sys.argv[1])); x[::4096] = bytes(len(x[::4096]))' $1"
EMPTY_FILES = "exec python3 -c 'for number in range(60_000): open(str(number), \"w\").close()'"
EXIT_0 = {"exit_code": 0}
SLOWLY = {"wall_time_ms": 60_000, "cpu_time_ms": 20_000}
"""For what makes many files, on a machine that does much else."""


async def limits_hold(running: Stages, memory_bytes: int) -> None:
    """Check that a program gets what it may have, and not much more: Python itself takes 6 MiB of it."""
    fits = await running.run("hold", str(memory_bytes - 8 * MIB), memory_bytes=memory_bytes)
    too_much = await running.run("hold", str(memory_bytes + 16 * MIB), memory_bytes=memory_bytes)
    assert (facts(fits), classify(too_much)) == (EXIT_0, "MLE")


@pytest.mark.parametrize(
    ("sizes", "memory_bytes"),
    [
        ((30_000_000,), 16 * MIB),
        ((16_000_000, 16_000_000), 32 * MIB),
        ((16_000_000, 0, 16_000_000, 1), 16 * MIB),
        ((100_000_000, 100_000_000), 256 * MIB),
    ],
)
async def test_large_inputs_one_after_the_other(sizes: tuple[int, ...], memory_bytes: int) -> None:
    async with stages(scripts(count="exec wc -c", hold=HOLD)) as running:
        for size in sizes:
            report = await running.run("count", stdin=bytes(size), memory_bytes=memory_bytes)
            assert (report.stdout, facts(report)) == (f"{size}\n".encode(), EXIT_0)
        await limits_hold(running, memory_bytes)


async def test_a_hundred_thousand_variables_are_held_as_they_came() -> None:
    """An object for each, in the init, would be many times what they are, and no part of what the container is given.

    The program is none that looks at them: bash takes minutes for so many.
    """
    async with connected() as engine:
        child = await engine.start(spec())
        try:
            session = WorkerSession(child, RESOURCES)
            await session.ready()
            path = f"{(await packages(engine))['coreutils']}/bin/true"
            variables = tuple((b"V%05d" % number, b"") for number in range(100_000))
            await session.hand_over(RunnerJob({}, variables, Programs(bash=path, sh=path, env=path)))
            for index in range(2):
                report = await session.run_test(index, args=(), stdin=b"", limit=limit(memory_bytes=16 * MIB))
                assert facts(report) == EXIT_0
        finally:
            await child.remove()


async def test_sixty_thousand_empty_files_of_compile_do_not_count_for_the_runs() -> None:
    async with stages({**scripts(count="ls | wc -l", hold=HOLD), "cutor-compile.sh": EMPTY_FILES}) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=256 * MIB, **SLOWLY))
        assert facts(compiled) == EXIT_0
        report = await running.run("count", memory_bytes=32 * MIB, **SLOWLY)
        assert (report.stdout, facts(report)) == (b"60003\n", EXIT_0)
        await limits_hold(running, 32 * MIB)


async def test_files_of_a_compile_that_die_with_it_are_waited_for() -> None:
    script = f"cd /tmp; head -c 100000000 /dev/zero > large; {EMPTY_FILES}"
    async with stages({**scripts(hello="echo hello", hold=HOLD), "cutor-compile.sh": script}) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=256 * MIB, file_size_bytes=200 * MIB, **SLOWLY))
        assert facts(compiled) == EXIT_0
        assert (await running.run("hello", memory_bytes=16 * MIB)).stdout == b"hello\n"
        await limits_hold(running, 32 * MIB)


@pytest.mark.parametrize("names", [1, 2000], ids=["one", "many"])
async def test_thirty_megabytes_of_files_and_a_small_limit(names: int) -> None:
    files = {**scripts(count="cat data/* | wc -c", hold=HOLD)}
    files |= {f"data/{number}": bytes(30_000_000 // names) for number in range(names)}
    content = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    smallest = limit(memory_bytes=16 * MIB)
    resources = Resources(first_memory_bytes(smallest, content, 10_000, 0), smallest.processes + OWN_TASKS)
    async with stages(files, resources=resources) as running:
        report = await running.run("count", memory_bytes=16 * MIB)
        assert (report.stdout, facts(report)) == (b"30000000\n", EXIT_0)
        await limits_hold(running, 24 * MIB)


async def test_a_large_output_then_a_small_stage() -> None:
    async with stages(scripts(out="exec head -c 16777216 /dev/zero", hello="echo hello", hold=HOLD)) as running:
        for _ in range(2):
            large = await running.run("out", stdout_bytes=16 * MIB, memory_bytes=128 * MIB)
            assert (len(large.stdout), facts(large)) == (16 * MIB, EXIT_0)
            small = await running.run("hello", memory_bytes=MIB * 4, stdout_bytes=10, stderr_bytes=10)
            assert small.stdout == b"hello\n"
        await limits_hold(running, 24 * MIB)


async def test_a_million_writes_of_a_byte() -> None:
    drip = "exec python3 -c 'import os\nfor _ in range(1_000_000): os.write(1, b\"x\")'"
    async with stages(scripts(drip=drip)) as running:
        report = await running.run("drip", memory_bytes=32 * MIB, stdout_bytes=4 * MIB, wall_time_ms=60_000, cpu_time_ms=60_000)
    assert (len(report.stdout), facts(report)) == (1_000_000, EXIT_0)


class Counted:
    """How often a container's limits were changed while this was in place."""

    def __init__(self, running: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._update = running.child.update
        monkeypatch.setattr(running.child, "update", self._counted)

    async def _counted(self, *, memory_bytes: int | None = None, processes: int | None = None) -> None:
        self.count += 1
        await self._update(memory_bytes=memory_bytes, processes=processes)


async def test_inputs_of_many_sizes_change_the_containers_limits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stages(scripts(count="exec wc -c")) as running:
        updates = Counted(running, monkeypatch)
        for size in range(0, 1_000_000, 50_000):
            assert (await running.run("count", stdin=bytes(size))).stdout == f"{size}\n".encode()
    assert updates.count == 1


CONTAINERS = 3
"""Wrong estimates show in each of them. On a busy machine one alone may rest half a MiB lower than it holds."""


@pytest.mark.parametrize("names", [1, 200], ids=["small", "many files"])
async def test_a_container_made_for_its_first_stage_is_not_changed_before_it(
    names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**scripts(hello="echo hello"), **{f"data/{number}": bytes(5000) for number in range(names)}}
    content = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    resources = Resources(first_memory_bytes(LIMIT, content, 1000, 0), LIMIT.processes + OWN_TASKS)
    assert resources.memory_bytes - LIMIT.memory_bytes < 18 * MIB + names * 10_000
    changed: list[int] = []
    while 0 not in changed and len(changed) < CONTAINERS:
        async with stages(files, resources=resources) as running:
            updates = Counted(running, monkeypatch)
            for _ in range(20):
                assert (await running.run("hello")).stdout == b"hello\n"
        changed.append(updates.count)
    assert 0 in changed, "what it was made with is wrong, and not what the kernel freed late while its first jail was measured"


async def test_a_limit_that_docker_can_not_lower_ends_the_container() -> None:
    files = {**scripts(count="wc -c < data"), "cutor-compile.sh": "head -c 150000000 /dev/zero > data"}
    async with stages(files) as running:
        session = running.session
        await session.run_compile(limit(memory_bytes=256 * MIB, file_size_bytes=200 * MIB))
        await session._rest()
        if running.cgroup == "v2":
            pytest.skip("version 2 refuses no limit: it would kill")
        session._held = session._held._replace(resting_bytes=7 * MIB)  # as if the init did not know what it holds
        with pytest.raises(SessionFault, match="memory limit could not be lowered"):
            await running.run("count", memory_bytes=16 * MIB)


async def test_a_limit_that_docker_lowers_a_little_later_holds() -> None:
    files = {**scripts(count="wc -c < data", hold=HOLD), "cutor-compile.sh": "head -c 150000000 /dev/zero > data"}
    async with stages(files) as running:
        session = running.session
        await session.run_compile(limit(memory_bytes=256 * MIB, file_size_bytes=200 * MIB))
        await session._rest()
        if running.cgroup == "v2":
            pytest.skip("version 2 refuses no limit: it would kill")
        held_bytes = session._held.resting_bytes - 32 * MIB  # refused until 12 MiB more are asked for
        session._held = session._held._replace(resting_bytes=held_bytes)
        report = await running.run("count", memory_bytes=16 * MIB, stdout_bytes=10, stderr_bytes=10)
        assert (report.stdout, facts(report)) == (b"150000000\n", EXIT_0)
        assert session._room.memory_bytes < 150_000_000 + 20 * MIB
        await limits_hold(running, 32 * MIB)


FLOOD = """exec python3 -c 'import os, sys
name = os.environ["PATH"].split("/bin")[0] + "/" + "x" * 200
for number in range(int(sys.argv[1])):
    try: os.stat(name + str(number))
    except OSError: pass' """


NAMES = {
    "links": 'open("a", "w").close(); [os.link("a", str(n)) for n in range(60_000)]',
    "long": '[open(str(n) + "x" * 240, "w").close() for n in range(60_000)]',
    "unreadable": 'os.mkdir("d"); [open("d/" + str(n) + "x" * 200, "w").close() for n in range(60_000)]; os.chmod("d", 0)',
}


@pytest.mark.parametrize("names", NAMES)
async def test_a_box_of_many_names_is_no_memory_either_and_takes_none(names: str) -> None:
    script = f"python3 -c 'import os; {NAMES[names]}'\n{FLOOD} 200000"
    async with stages({**scripts(hold=HOLD, hello="echo hello"), "cutor-compile.sh": script}) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=256 * MIB, wall_time_ms=30_000, cpu_time_ms=20_000))
        assert facts(compiled) == EXIT_0
        assert (await running.run("hello", memory_bytes=16 * MIB)).stdout == b"hello\n"
        await limits_hold(running, 64 * MIB)


@pytest.mark.parametrize("copy_box", [False, True], ids=["overlay", "copy"])
async def test_names_looked_up_in_vain_are_no_memory_for_the_next_stage(copy_box: bool) -> None:
    files = {**scripts(hold=HOLD, flood=FLOOD + "$1"), "cutor-compile.sh": FLOOD + "300000"}
    async with stages(files, copy_box=copy_box) as running:
        compiled = await running.session.run_compile(limit(memory_bytes=256 * MIB, wall_time_ms=30_000, cpu_time_ms=20_000))
        assert facts(compiled) == EXIT_0
        await limits_hold(running, 64 * MIB)
        for _ in range(3):  # nor do they add up from case to case
            flooded = await running.run("flood", "100000", wall_time_ms=30_000, cpu_time_ms=20_000)
            assert facts(flooded) == EXIT_0
        await limits_hold(running, 64 * MIB)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have the kernel take memory back")
async def test_what_the_kernel_keeps_of_a_stage_is_taken_back_before_the_next_one() -> None:
    """It frees names a little after it gave them up, and kills a program meanwhile: so none are left to be given up."""
    flood = FLOOD.replace('"x" * 200', f'"{secrets.token_hex(100)}"')  # names that nobody looked up before
    async with stages(scripts(flood=flood + "$1")) as running:
        await running.run("flood", "1", memory_bytes=256 * MIB)
        at_rest_bytes = kernel_bytes(running)
        for _ in range(2):
            flooded = await running.run("flood", "150000", memory_bytes=256 * MIB, wall_time_ms=30_000, cpu_time_ms=20_000)
            assert facts(flooded) == EXIT_0
            await running.run("flood", "1", memory_bytes=256 * MIB)
            assert kernel_bytes(running) - at_rest_bytes < 8 * MIB


def kernel_bytes(running: Stages) -> int:
    """Return how much the container holds that is neither its processes' nor files in memory: page cache is little here."""
    place = next(place for place in PLACES if (ROOT / place.directory.format(running.child.id)).exists())
    directory = ROOT / place.directory.format(running.child.id)
    fields = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
    held = sum(int(fields.get(name, 0)) for name in ("anon", "total_rss", "total_shmem" if "total_rss" in fields else "shmem"))
    return int((directory / place.usage).read_text()) - held


ALLOCATES = "exec python3 -c 'import sys; kept = bytes([1]) * (int(sys.argv[1]) << 20)' $1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set the watermark back")
async def test_every_stage_has_its_own_memory_peak() -> None:
    async with stages(scripts(allocates=ALLOCATES, does_little="exit 0")) as running:
        large = [(await running.run("allocates", "30")).memory_peak_bytes for _ in range(2)]
        medium = (await running.run("allocates", "15")).memory_peak_bytes
        small = (await running.run("does_little")).memory_peak_bytes
    assert all(peak is not None and 30 * MIB < peak < 40 * MIB for peak in large), large
    assert medium is not None
    assert 15 * MIB < medium < 25 * MIB
    assert small is not None
    assert 0 < small < 3 * MIB, "what the kernel frees beside it counts for it, up to 2 MiB"


async def test_a_runner_that_may_not_set_the_watermark_back_knows_the_peaks_that_rise() -> None:
    async with stages(scripts(allocates=ALLOCATES), watermark=False) as running:
        peaks = [(await running.run("allocates", size)).memory_peak_bytes for size in ("15", "30", "15")]
    assert [peak is not None for peak in peaks] == [True, True, False]


HOLDS_FOR_A_WHILE = "exec python3 -c 'import sys, time; kept = bytes([1]) * (int(sys.argv[1]) << 20); time.sleep(2)' $1"


async def test_room_for_output_is_no_room_for_the_program() -> None:
    caps = {"stdout_bytes": 16 * MIB, "stderr_bytes": 16 * MIB}
    async with stages(scripts(holds=HOLDS_FOR_A_WHILE, prints="head -c 16M /dev/zero; sleep 0.3")) as running:
        fits = await running.run("holds", "54", **caps)  # Python takes 7 MiB beside
        over = await running.run("holds", "64", **caps)
        prints = await running.run("prints", memory_bytes=4 * MIB, **caps)
    assert (classify(fits), facts(fits)) == ("OK", EXIT_0)
    assert (classify(over), facts(over)) == ("MLE", {"killed_by": "memory"})
    assert (classify(prints), len(prints.stdout)) == ("OK", 16 * MIB)
