"""Commits keep apart while nobody looks, and who looks waits for none that is not due."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cutor.bus.bulk.columns import Columns
from cutor.projections import pace
from cutor.projections.cpu_pressure import PRESSURE, CpuPressure
from cutor.projections.pace import FEW, FEW_BYTES, Paces, StreamPace

PATIENCE_S = 60.0
NEVER_S = 10 * PATIENCE_S


def columns(count: int = 1, size_bytes: int = 2) -> Columns:
    return Columns([*range(1, count + 1)], [0] * count, ["s"] * count, [None] * count, [b"x" * size_bytes] * count)


def paced(interval_s: float, *streams: str) -> Paces:
    """Return paces of streams that are not ahead."""
    return Paces(interval_s, streams or ["S"], lambda _: False, lambda: True)


def resting(of: StreamPace) -> asyncio.Task[None]:
    return asyncio.create_task(of.rest(columns()))


async def test_it_rests_until_somebody_looks_who_then_waits_for_what_came() -> None:
    paces = paced(NEVER_S)
    rest = resting(paces.of("S"))
    await asyncio.sleep(0)
    assert not rest.done()
    look = asyncio.create_task(paces.look())
    await asyncio.wait([rest], timeout=PATIENCE_S)
    assert rest.done()
    assert not look.done()
    paces.of("S").quiet()
    async with asyncio.timeout(PATIENCE_S):
        await look


async def test_what_came_is_there_for_who_looks_when_it_is_taken() -> None:
    paces = paced(NEVER_S)
    rest = resting(paces.of("S"))
    await asyncio.sleep(0)
    look = asyncio.create_task(paces.look())
    await asyncio.wait([rest], timeout=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        await paces.of("S").rest(columns())  # not for long: somebody looks
        await look


async def test_a_rest_ends_by_itself() -> None:
    async with asyncio.timeout(PATIENCE_S):
        await paced(0.001).of("S").rest(columns())


@pytest.mark.parametrize(
    ("interval_s", "taken"), [(0.0, columns()), (NEVER_S, columns(FEW)), (NEVER_S, columns(1, FEW_BYTES))], ids=str
)
async def test_there_is_no_rest_where_none_is_wanted_or_more_is_to_come(interval_s: float, taken: Columns) -> None:
    paces = paced(interval_s)
    async with asyncio.timeout(PATIENCE_S):
        await paces.of("S").rest(taken)
        await paces.settle()


async def test_there_is_no_rest_while_a_stream_is_known_to_be_ahead() -> None:
    paces = Paces(NEVER_S, ["A", "B"], lambda stream: stream == "A", lambda: True)
    async with asyncio.timeout(PATIENCE_S):
        await paces.of("A").rest(columns())
    rest = resting(paces.of("B"))
    await asyncio.sleep(0)
    assert not rest.done()
    rest.cancel()


async def test_who_looks_waits_for_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE_S", NEVER_S)
    paces = paced(NEVER_S, "A", "B")
    rests = [resting(paces.of(stream)) for stream in ("A", "B")]
    await asyncio.sleep(0)
    look = asyncio.create_task(paces.settle())
    await asyncio.wait(rests, timeout=PATIENCE_S)
    paces.of("A").quiet()
    await asyncio.sleep(0)
    assert not look.done()
    paces.of("B").quiet()
    async with asyncio.timeout(PATIENCE_S):
        await look
    assert not paces.is_looked_at


async def test_who_looks_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE_S", 0.0)
    paces = paced(NEVER_S)
    rest = resting(paces.of("S"))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await paces.look()
        await rest


async def test_somebody_has_looked_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LOOKED_AT_S", NEVER_S)
    paces = paced(1.0)
    assert not paces.is_looked_at
    await paces.look()
    assert paces.is_looked_at
    monkeypatch.setattr(pace, "LOOKED_AT_S", 0.0)
    await paces.look()
    assert not paces.is_looked_at


async def test_there_is_no_rest_while_there_are_cpus_enough() -> None:
    paces = Paces(NEVER_S, ["S"], lambda _: False, lambda: False)
    async with asyncio.timeout(PATIENCE_S):
        await paces.of("S").rest(columns())


async def test_there_is_no_rest_while_much_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "RATE_S", 0.0)
    monkeypatch.setattr(pace, "FAST_PER_S", 0.0)
    of = paced(NEVER_S).of("S")
    async with asyncio.timeout(PATIENCE_S):
        rest = resting(of)  # since it is the first, nobody knows how fast they come
        await asyncio.sleep(0.01)
        assert not rest.done()
        of.hurry()
        await rest
        await of.rest(columns())


class Kernel:
    """A clock, and an account of who waited for a CPU."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 5.0
        self.waited_s = 700.0
        self.passes(0.0, 0.0)

    def passes(self, seconds: float, waited_s: float) -> None:
        self.now_s += seconds
        self.waited_s += waited_s
        self.path.write_text(f"some avg10=0.00 avg300=0.00 total={self.waited_s * 1e6:.0f}\nfull avg10=0.00 total=0\n")

    def clock(self) -> float:
        return self.now_s


def test_pressure_is_of_the_last_seconds(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "cpu")
    pressure = CpuPressure(kernel.path, kernel.clock)
    assert not pressure.is_high()
    kernel.passes(0.1, 0.09)
    assert pressure.is_high()
    kernel.passes(1.5, 0.6)
    assert not pressure.is_high()
    kernel.passes(1.5, 1.05)
    assert pressure.is_high()
    kernel.passes(1.5, 0.6)
    assert not pressure.is_high()
    kernel.passes(0.5, 0.5)
    assert pressure.is_high()


@pytest.mark.parametrize("text", [None, "", "nonsense\n"])
def test_where_the_kernel_keeps_no_account_no_pressure_is_high(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cpu").write_text(text)
    pressure = CpuPressure(tmp_path / "cpu")
    assert not pressure.is_high()


@pytest.mark.skipif(not PRESSURE.exists(), reason="this kernel keeps no account of who waits for a CPU (CONFIG_PSI)")
def test_the_account_of_a_real_kernel_is_understood() -> None:
    assert CpuPressure()._look().waited_s > 0
