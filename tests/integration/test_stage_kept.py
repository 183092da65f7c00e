"""Jails that are kept ready: one nsjail builds those of all runs, is stopped meanwhile, and can be done without."""

from __future__ import annotations

import asyncio

from cutor.containers.child import Child
from cutor.containers.control_group import PLACES, ROOT
from cutor.containers.host_config import CODE_DIRECTORY
from tests.integration.stage_support import LIMIT, Stages, connected, packages, scripts, spec, stages
from tests.processes import alive, kill, name_of, state_of

PATIENCE_S = 60
SCRIPTS = scripts(hello="echo hello", change="ls; echo x > changed; mkdir deep; echo y > /tmp/z; ls /tmp")


def jails(child: Child) -> dict[str, dict[int, str]]:
    """Return the processes that a container has beside its init, as the host knows them: by name, number and state."""
    found: dict[str, dict[int, str]] = {"nsjail": {}, "jail-init": {}}
    directories = (ROOT / files.directory.format(child.id) for files in PLACES)
    (directory,) = (one for one in directories if one.exists())
    for pid in map(int, (directory / "cgroup.procs").read_text().split()):
        name, state = name_of(pid), state_of(pid)
        if name != "python3" and state not in {"", "Z", "X"}:
            found[name if name == "nsjail" else "jail-init"][pid] = state
    return found


async def at_rest(running: Stages) -> dict[str, dict[int, str]]:
    """Return `jails` once the init waits for the next command, and nsjail has met its stop."""
    await running.session._rest()
    return await stopped(running.child)


async def stopped(child: Child) -> dict[str, dict[int, str]]:
    """Return `jails` once nsjail does nothing, nor does what waits for a job."""

    def does_nothing() -> bool:
        return set(found["nsjail"].values()) == {"T"} and set(found["jail-init"].values()) <= {"S"}

    async with asyncio.timeout(PATIENCE_S):
        found = jails(child)
        while not does_nothing():
            await asyncio.sleep(0.01)
            found = jails(child)
    return found


async def killed(pid: int) -> None:
    """Kill a process, and wait until it is one no more, and so for its death to be known to its parent."""
    kill(pid)
    async with asyncio.timeout(PATIENCE_S):
        while alive(pid):
            await asyncio.sleep(0.01)


async def test_one_nsjail_builds_the_jails_of_all_runs_and_does_nothing_between_them() -> None:
    async with stages({**SCRIPTS, "cutor-compile.sh": "echo made > made"}) as running:
        before = await at_rest(running)
        assert [list(states.values()) for states in before.values()] == [["T"], ["S"]]
        assert (await running.session.run_compile(LIMIT)).exit_code == 0
        assert await at_rest(running) == before  # compile has a jail of its own
        for _ in range(2):
            report = await running.run("change")
            assert report.stdout.split() == [b"cases", b"cutor-compile.sh", b"cutor-run.sh", b"made", b"z"]
            after = await at_rest(running)
            assert after["nsjail"] == before["nsjail"]
            assert after["jail-init"].keys() != before["jail-init"].keys()
            before = after


async def test_after_the_last_run_no_other_jail_is_built() -> None:
    async with stages(SCRIPTS) as running:
        before = await at_rest(running)
        report = await running.session.run_test(0, args=("hello",), stdin=b"", limit=LIMIT, more=False)
        assert report.stdout == b"hello\n"
        after = await stopped(running.child)
        assert (after["nsjail"], after["jail-init"]) == (before["nsjail"], {})


async def test_whatever_becomes_of_a_kept_jail_a_run_has_one() -> None:
    async with stages(SCRIPTS) as running:
        for victim in ("nsjail", "jail-init"):
            before = await at_rest(running)
            (pid,) = before[victim]
            await killed(pid)
            assert (await running.run("change")).exit_code == 0
            after = await at_rest(running)
            assert after["nsjail"].keys() != before["nsjail"].keys()  # a new one is kept
            report = await running.run("change")
            assert report.stdout.split() == [b"cases", b"cutor-run.sh", b"z"]
            assert (await at_rest(running))["nsjail"] == after["nsjail"]


PROCESSES = """
import os, signal
children = []
try:
    while True:
        if not (pid := os.fork()): signal.pause()
        children.append(pid)
except BlockingIOError as error:
    print(1 + len(children), error.strerror)
for pid in children: os.kill(pid, signal.SIGKILL)
"""


async def test_a_program_has_exactly_its_processes_in_either_jail() -> None:
    files = {**scripts(fork="exec python3 fork.py"), "cutor-compile.sh": "exec python3 fork.py", "fork.py": PROCESSES}
    async with stages(files) as running:
        for _ in range(2):
            compiled = await running.session.run_compile(LIMIT)
            ran = await running.run("fork")
            assert compiled.stdout == ran.stdout == f"{LIMIT.processes} Resource temporarily unavailable\n".encode()


STALE_JOB = """
import os, signal
from cutor.jail.inside.cgroup import Cgroup
from cutor.jail.inside.channel import Program
from cutor.jail.inside.kept_jail import KeptJail
from cutor.jail.inside.measure import Limits
from cutor.jail.inside.nsjail_args import Bind, Jail, nsjail_command
from cutor.jail.inside.stage import run_stage
from cutor.jail.inside.layout import prepare

class Host:
    def __init__(self, cancels):
        self.end, other = os.pipe()
        if cancels: os.write(other, b"x")
    def fileno(self): return self.end
    def interrupted(self): return "cancel"

def run(text, cancels):
    jail = kept.lend()
    if cancels: signal.pidfd_send_signal(jail.jail_pidfd, signal.SIGSTOP)
    limits = Limits(*[1 << 20] * len(Limits._fields))
    limits = limits._replace(wall_time_ms=20000, cpu_time_ms=5000, processes=16, memory_bytes=1 << 26)
    limits = limits._replace(stdout_bytes=100, stderr_bytes=100, open_files=64)
    program = Program([BASH, b"-c", text], b"")
    result = run_stage(jail, program, limits, b"", host=Host(cancels), cgroup=Cgroup())
    kept.take_back()
    print(result.killed_by, result.exit_code, kept.tasks, flush=True)
    kept.prepare()

prepare()
mounts = (Bind("/nix/store", "/nix/store"), Bind("/box/base", "/box", writable=True))
kept = KeptJail(nsjail_command(Jail(os.getuid(), os.getgid(), mounts, "DEFAULT ALLOW"), again=True))
kept.prepare()
run(b"echo stale > /box/ran", True)
run(b"echo fresh > /box/other", False)
print(os.listdir("/box/base"))
"""


async def test_a_job_that_no_jail_took_reaches_no_later_one() -> None:
    """A jail that was killed before it took its job takes its channel, and the nsjail that holds that, with it."""
    async with connected() as engine:
        bash = (await packages(engine))["bash"]
        made = spec()
        text = f"import sys; sys.path[0] = {CODE_DIRECTORY!r}; BASH = b'{bash}/bin/bash'\n{STALE_JOB}"
        made.body["Cmd"] = ["/usr/bin/python3", "-S", "-E", "-c", text]
        child = await engine.start(made)
        try:
            said = b""
            while data := await child.receive():
                said += data
            assert said.decode().splitlines() == ["cancel None 0", "None 0 2", "['other']"], child.stderr_tail
        finally:
            await child.remove()
