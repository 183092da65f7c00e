"""A session's own life: cancelling, lost containers, inits that fail, nothing left behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

import msgspec
import pytest

from cutor.containers.engine import Engine
from cutor.containers.errors import EngineFailure, EngineUnreachable, ImageMissing, SessionFault
from cutor.jail.inside.protocol import encode
from cutor.jail.job import RunnerJob
from cutor.jail.session import WorkerSession
from cutor.model.environments import Programs
from cutor.model.limits import MIB
from cutor.model.outcome import classify
from tests.integration.stage_support import (
    INSTANCE,
    LIMIT,
    RESOURCES,
    Stages,
    connected,
    facts,
    scripts,
    spec,
    stages,
    submission,
)
from tests.processes import command_of, descendants, init_of

LONG_MS: Final = 110_000


async def test_a_container_killed_in_the_middle_is_a_fault_that_says_so() -> None:
    async with stages(scripts(sleep="sleep 110")) as running:
        task = asyncio.create_task(running.run("sleep", wall_time_ms=LONG_MS))
        await sleeping(running)
        await running.child.kill()
        with pytest.raises(SessionFault, match="the container ended with 137"):
            await task
        with pytest.raises(SessionFault, match="connection to the container ended"):
            await running.run("sleep")
        await running.child.kill()
        await running.child.remove()
        await running.child.remove()


async def test_the_init_ends_when_the_host_goes_away() -> None:
    async with stages(scripts(sleep="sleep 110")) as running:
        task = asyncio.create_task(running.run("sleep", wall_time_ms=LONG_MS))
        await sleeping(running)
        await running.child.close_stdin()
        assert classify(await task) == "CANCELLED"
        async with asyncio.timeout(180):
            while await running.child.receive():  # that it rested
                pass
        async with asyncio.timeout(180):
            while (await running.child.state()).running:
                await asyncio.sleep(0.02)


async def test_what_is_no_frame_ends_the_init_with_a_word() -> None:
    async with connected() as engine:
        child = await engine.start(spec())
        try:
            session = WorkerSession(child, RESOURCES)
            await session.ready()
            await child.send(encode({"type": "dance"}))
            with pytest.raises(SessionFault, match="a command dance that this init does not know"):
                await session.hand_over(RunnerJob({}, (), Programs(bash="/b", sh="/s", env="/e")))
        finally:
            await child.remove()


async def test_names_that_lead_out_of_the_box_are_refused_inside_too() -> None:
    async with connected() as engine:
        child = await engine.start(spec())
        try:
            session = WorkerSession(child, RESOURCES)
            await session.ready()
            with pytest.raises(SessionFault, match=r"not a name of a file in the box: '../x'"):
                await session.hand_over(await submission(engine, {"../x": "x"}))
        finally:
            await child.remove()


async def test_an_environment_whose_bash_is_gone_or_too_large_is_judged_as_a_shell_would() -> None:
    async with connected() as engine:
        whole = await submission(engine, {"cutor-run.sh": "echo hello"})
        gone = msgspec.structs.replace(whole.programs, bash="/nix/store/none/bin/bash")
        for changed, exit_code in (
            (RunnerJob(whole.files, whole.variables, gone), 127),
            (RunnerJob(whole.files, ((b"BIG", b"x" * (1 << 18)),), whole.programs), 126),
            (RunnerJob(whole.files, ((b"BIG", b"x" * (1 << 16)),), whole.programs), 0),
        ):
            child = await engine.start(spec())
            try:
                session = WorkerSession(child, RESOURCES)
                await session.ready()
                await session.hand_over(changed)
                report = await session.run_test(0, args=(), stdin=b"", limit=LIMIT)
            finally:
                await child.remove()
            assert facts(report) == {"exit_code": exit_code}
            assert (b"can't be executed" in report.stderr) == (exit_code != 0)


async def test_twenty_megabytes_of_files_arrive() -> None:
    data = bytes(range(256)) * (80 << 10)
    async with stages(
        {**scripts(sum="cat data/* | wc -c; cmp data/0 data/1"), "data/0": data[:MIB], "data/1": data}
    ) as running:
        report = await running.run("sum")
    assert report.stdout.splitlines()[0].decode() == str(len(data) + MIB)


async def test_many_test_cases_in_one_container() -> None:
    async with stages(scripts(echo="cat")) as running:
        for index in range(50):
            report = await running.run("echo", stdin=str(index).encode())
            assert report.stdout == str(index).encode()


async def test_errors_of_docker_are_one_line_that_helps() -> None:
    with pytest.raises(EngineUnreachable, match=r"answers at unix:///nowhere.sock \(No such file or directory\): start it"):
        async with Engine.connect("unix:///nowhere.sock"):
            pass
    with pytest.raises(EngineUnreachable, match="is not understood"):
        async with Engine.connect("nonsense"):
            pass
    async with connected() as engine:
        made = spec()
        made.body["Image"] = "cutor-nothing:latest"
        with pytest.raises(ImageMissing, match="'cutor-nothing:latest' is not on this host: fetch or build it"):
            await engine.start(made)
        with pytest.raises(ImageMissing, match="'cutor-child:nothing' is not on this host: make it with `make setup`"):
            await engine.image_labels("cutor-child:nothing")
        assert await engine.volume_labels("cutor-nothing") is None
        broken = spec()
        broken.body["Cmd"] = ["/nothing"]
        with pytest.raises(EngineFailure, match="could not start"):
            await engine.start(broken)
        assert await engine.list(INSTANCE) == []


async def test_a_sweep_finds_and_removes_what_a_dead_life_left() -> None:
    async with connected() as engine:
        child = await engine.start(spec())
        (found,) = await engine.list(INSTANCE)
        assert (found.id, found.name, found.state) == (child.id, child.name, "running")
        assert {"cutor": INSTANCE, "cutor.role": "runner", "cutor.submission": "default/test"}.items() <= found.labels.items()
        await asyncio.gather(engine.remove(found.id), engine.remove(found.id), child.remove())
        assert await engine.list(INSTANCE) == []
        assert not (await child.state()).exists


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 10, 20, 30, 60, 120, 240])
async def test_a_start_cancelled_at_any_moment_leaves_no_container(delay_ms: int) -> None:
    async with connected() as engine:
        task = asyncio.create_task(engine.start(spec()))
        await asyncio.sleep(delay_ms / 1000)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await (await task).remove()  # the start was quicker than the cancel
        assert await engine.list(INSTANCE) == []
        await asyncio.sleep(0.1)  # nor does one appear late
        assert await engine.list(INSTANCE) == []


async def test_a_program_at_an_odd_path_is_a_fault_with_a_word_and_no_traceback() -> None:
    async with connected() as engine:
        whole = await submission(engine, {"cutor-run.sh": "echo hello"})
        odd = msgspec.structs.replace(whole.programs, sh="/nix/store/an odd:path/bin/sh")
        child = await engine.start(spec())
        try:
            session = WorkerSession(child, RESOURCES)
            await session.ready()
            with pytest.raises(SessionFault, match="init failed: ValueError: not a path that a jail can be given") as caught:
                await session.hand_over(RunnerJob(whole.files, whole.variables, odd))
            assert "\n" not in str(caught.value)
            assert child.stderr_tail == b""
        finally:
            await child.remove()


async def sleeping(running: Stages) -> None:
    """Wait until the program of a stage sleeps."""
    async with asyncio.timeout(180):
        init = await asyncio.to_thread(init_of, running.child.id)
        while not any(command_of(pid)[:1] == ["sleep"] for pid in descendants(init)):
            await asyncio.sleep(0.01)


async def exit_code(running: Stages, how: str) -> str:
    """Close a session of a stage; return with what Docker says that its container ended."""
    began = f"{time.time():.3f}"
    if how == "in the middle":
        task = asyncio.create_task(running.run("sleep", wall_time_ms=LONG_MS))
        await sleeping(running)
    elif how == "deaf":
        await running.run("hello")
        await running.engine.call("stop it", running.engine.post(f"containers/{running.child.id}/kill?signal=STOP", {}))
    else:
        await running.run("hello")
    async with asyncio.timeout(180):
        await running.session.close()
    if how == "in the middle":
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    filters = (f"container={running.child.id}", "event=die")
    command = ["docker", "events", "--since", began, "--until", f"{time.time() + 1:.3f}"]
    command += [word for one in filters for word in ("--filter", one)]
    asked = await asyncio.create_subprocess_exec(
        *command, "--format", "{{.Actor.Attributes.exitCode}}", stdout=asyncio.subprocess.PIPE
    )
    return (await asked.communicate())[0].decode().strip()


@pytest.mark.parametrize(("how", "codes"), [("done", {"0"}), ("in the middle", {"0", "137"}), ("deaf", {"137"})])
async def test_an_init_that_has_nothing_to_do_ends_by_itself_and_any_other_is_killed(how: str, codes: set[str]) -> None:
    """A kill takes Docker another program; who does not end is killed nevertheless.

    In the middle of a stage the init hears of its host's end, too, and ends first where Docker has much to do.
    """
    async with stages(scripts(hello="echo hello", sleep="sleep 110")) as running:
        assert await exit_code(running, how) in codes
