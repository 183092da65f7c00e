"""A role process is kept running: it comes back when it is killed, is given up when that is hopeless, and ends when told to."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cutor.stack.keeper import Keeper, Orders, RoleGivenUp
from cutor.stack.logs import Log
from cutor.stack.process import Process
from cutor.stack.stop_times import StopTimes
from tests.processes import alive

SERVING = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: sys.exit(0))
print("serving", flush=True)
os.write(int(sys.argv[2]), b"ready\\n")
while True:
    time.sleep(60)
"""
STUBBORN = SERVING.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
FINISHING = SERVING.replace("lambda *_: sys.exit(0)", "lambda number, _: number == signal.SIGUSR1 and sys.exit(0)")
BROKEN = "import sys; print('no \\x1b[31mluck'); sys.exit(3)"


NAMING = SERVING.replace('"serving"', 'os.environ["WHERE"]')


@asynccontextmanager
async def kept(
    program: str, log: Path, grace_s: float = 5.0
) -> AsyncIterator[tuple[Keeper, Orders, asyncio.Task[None], list[bytes]]]:
    """Run a program under a keeper; it is gone at the end, whatever the test did."""
    shown: list[bytes] = []
    keeper = Keeper(
        "role",
        [sys.executable, "-c", program],
        environment=os.environ,
        inherited=(),
        log=Log(log),
        show=lambda _, line: shown.append(line),
        times=StopTimes(grace_s),
    )
    orders = Orders()
    task = asyncio.create_task(keeper.run(orders))
    try:
        yield keeper, orders, task, shown
    finally:
        orders.stop.set()
        orders.halt.set()
        await asyncio.wait([task])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):  # of a busy machine
        while not true():
            await asyncio.sleep(0.01)


async def test_a_killed_role_comes_back_by_itself(tmp_path: Path) -> None:
    async with kept(SERVING, tmp_path / "role.log") as (keeper, _, _, shown):
        await asyncio.wait_for(keeper.ready.wait(), 180)
        assert keeper.process is not None
        first = keeper.process.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: shown.count(b"serving") == 2)
        assert keeper.process is not None
        assert keeper.process.pid != first
        assert b"the role was killed by SIGKILL; it is started again in 0.1 s" in shown, "what it said last is no cause"
    assert (tmp_path / "role.log").read_bytes().count(b"serving") == 2


async def test_a_role_that_dies_at_once_is_given_up_with_one_line(tmp_path: Path) -> None:
    async with kept(BROKEN, tmp_path / "role.log") as (keeper, _, task, _):
        with pytest.raises(RoleGivenUp) as caught:
            await asyncio.wait_for(task, 180)
        assert not keeper.ready.is_set()
    assert "5 times in a row" in str(caught.value)
    assert "exit code 3" in str(caught.value)
    assert str(caught.value).endswith("no \\x1b[31mluck")
    assert "\n" not in str(caught.value)


async def test_a_role_that_is_killed_again_and_again_is_given_up_with_its_log(tmp_path: Path) -> None:
    program = "import os; print('all is well', flush=True); os.kill(os.getpid(), 9)"
    async with kept(program, tmp_path / "role.log") as (_, _, task, _):
        with pytest.raises(RoleGivenUp) as caught:
            await asyncio.wait_for(task, 180)
    assert str(caught.value).endswith(f"the last time it was killed by SIGKILL; its log is {tmp_path / 'role.log'}")


async def test_a_role_of_a_stack_that_has_served_is_never_given_up(tmp_path: Path) -> None:
    """It comes back as soon as what it lacked is there again; each attempt says what it died of."""
    lacking = tmp_path / "lacking"
    lacking.write_text("")
    program = f"import os, sys\nif os.path.exists({str(lacking)!r}): sys.exit('no \\x1b[31mDocker')\n{SERVING}"
    async with kept(program, tmp_path / "role.log") as (keeper, orders, task, shown):
        orders.served.set()
        await until(lambda: any(b"6 quick deaths in a row" in line for line in shown))
        assert not task.done()
        lacking.unlink()
        await asyncio.wait_for(keeper.ready.wait(), 180)
    attempts = [line.decode() for line in shown if b"started again" in line]
    assert len(attempts) == 6
    assert all("exit code 1: no \\x1b[31mDocker; it is started again in" in line for line in attempts)
    assert (tmp_path / "role.log").read_bytes().count(b"started again") == 6


async def test_a_process_that_cannot_be_started_is_a_life_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr("cutor.stack.process.subprocess.Popen", refuse)
        async with kept(SERVING, tmp_path / "role.log") as (keeper, orders, _, shown):
            orders.served.set()
            await until(lambda: bool(shown))
            patched.undo()
            await asyncio.wait_for(keeper.ready.wait(), 180)
    assert b"ended before it began (Resource temporarily unavailable); it is started again" in shown[0]


async def test_stop_ends_it_in_an_orderly_way(tmp_path: Path) -> None:
    async with kept(SERVING, tmp_path / "role.log") as (keeper, orders, task, _):
        await asyncio.wait_for(keeper.ready.wait(), 180)
        assert keeper.process is not None
        pid = keeper.process.pid
        orders.stop.set()
        await asyncio.wait_for(task, 180)
        assert not alive(pid)


async def test_halt_ends_one_that_does_not_listen(tmp_path: Path) -> None:
    async with kept(STUBBORN, tmp_path / "role.log") as (keeper, orders, task, _):
        await asyncio.wait_for(keeper.ready.wait(), 180)
        assert keeper.process is not None
        pid = keeper.process.pid
        orders.stop.set()
        await asyncio.sleep(0.1)
        assert alive(pid)
        orders.halt.set()
        await asyncio.wait_for(task, 180)
        assert not alive(pid)


async def test_a_role_that_finishes_its_work_is_hurried_in_an_orderly_way(tmp_path: Path) -> None:
    async with kept(FINISHING, tmp_path / "role.log", grace_s=3600) as (keeper, orders, task, _):
        await asyncio.wait_for(keeper.ready.wait(), 180)
        assert keeper.process is not None
        process = keeper.process
        orders.stop.set()
        await asyncio.sleep(0.3)
        assert alive(process.pid)
        orders.hurry.set()
        await asyncio.wait_for(task, 180)
        assert await process.wait() == 0


async def test_cancelling_the_keeper_leaves_no_process(tmp_path: Path) -> None:
    async with kept(STUBBORN, tmp_path / "role.log") as (keeper, _, task, _):
        await asyncio.wait_for(keeper.ready.wait(), 180)
        assert keeper.process is not None
        pid = keeper.process.pid
        task.cancel()
        await asyncio.wait([task])
        assert not alive(pid)


async def test_another_environment_is_given_by_a_new_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "here")
    async with kept(NAMING, tmp_path / "role.log") as (keeper, _, task, shown):
        await keeper.ready.wait()
        keeper.move({**os.environ, "WHERE": "there"})
        await until(lambda: b"there" in shown)
        assert not task.done()
        assert any(b"ended with exit code 0" in line for line in shown)


async def test_another_environment_reaches_a_role_that_is_just_being_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "here")
    start, started = Process.start, asyncio.Event()

    async def slowly(*args: Any, **more: Any) -> Process:
        process = await start(*args, **more)
        started.set()
        await asyncio.sleep(0.2)
        return process

    monkeypatch.setattr(Process, "start", slowly)
    async with kept(NAMING, tmp_path / "role.log") as (keeper, _, _task, shown):
        await started.wait()
        keeper.move({**os.environ, "WHERE": "there"})
        await until(lambda: b"there" in shown)
