"""Clean-up that goes on however often its caller is cancelled."""

import asyncio

import pytest

from cutor.undisturbed import to_the_end


async def test_cancelled_twice_the_work_is_done_and_then_the_cancellation_is_raised() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.append("")

    async def caller() -> None:
        try:
            await to_the_end(work())
        finally:
            assert done == [""]

    task = asyncio.create_task(caller())
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_fails_while_it_is_cancelled_is_the_cancellations_cause() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        raise OSError("left")

    task = asyncio.create_task(to_the_end(work()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, OSError)


async def test_undisturbed_it_is_a_plain_await() -> None:
    async def work() -> int:
        return 3

    assert await to_the_end(work()) == 3
