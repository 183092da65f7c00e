"""`make bench` on the stack of the other tests: everything once, as short as can be. Its figures mean nothing here."""

from __future__ import annotations

import pytest

from cutor.containers.engine import Engine
from cutor.nix.settings import NixSettings
from tests.bench.kept import encode
from tests.bench.performance import tables
from tests.bench.performance.bench import Bench, Lengths
from tests.bench.performance.cases import C
from tests.bench.performance.figures import BURST, PAUSED, PYTHON, REUSED, STREAM, decode, targets
from tests.bench.performance.producers import Producers
from tests.bench.performance.usage import BUILDER, CLIENT, ENGINE, PROGRAMS, RUNNER, SERVER
from tests.live_stack import Stack

ONCE = Lengths(
    turns=1,
    at_once=(1,),
    program_s=0.01,
    container_s=0.01,
    cutor_s=0.01,
    paused_s=0.01,
    burst=1,
    stream_s=0.1,
    calls=1,
    warm_up=0,
    compiled=(C,),
)


async def test_everything_is_measured_and_nothing_is_left(stack: Stack, nix_settings: NixSettings) -> None:
    said: list[str] = []
    async with Engine.connect() as engine, Producers.of(stack.server, 1) as producers:
        run = await Bench(stack, nix_settings, producers, engine, ONCE, said.append).run()
        assert [one.name for one in await engine.list(stack.instance) if "bench" in one.name] == []
    ways = {(one.what, one.case, one.at_once) for one in run.measured}
    hello = {"fork+exec", "nsjail", "container, cheapest", "container, cutor's", "cutor"}
    assert ways == {
        *((what, PYTHON, 1) for what in hello),
        *((what, C.name, 1) for what in ("fork+exec", "nsjail", "cutor")),
        ("cutor", PAUSED, 1),
        *(("cutor", case, 0) for case in (BURST, STREAM)),
    }
    *single, of_reuse = targets(run)
    assert all(one.figure is not None for one in single)
    assert of_reuse.figure is None
    compiled = {step.name: step.p50 for step in run.steps["C hello, one at a time: cutor's steps"]}
    programs = compiled.pop("of all that, programs running")
    assert list(compiled) == [
        *("submitted", "leased (builder)", "cache-built", "leased (runner)", "compiled"),
        *("ran, first results", "finished", "seen by the client"),
    ]
    [whole] = [one.ms.p50 for one in run.measured if (one.what, one.case) == ("cutor", "C hello")]
    assert sum(compiled.values()) == pytest.approx(whole, abs=1)
    assert 0 < programs < whole
    assert {SERVER, BUILDER, RUNNER, CLIENT, ENGINE, PROGRAMS} <= set(run.usage[0].cpu_s)
    assert all(one.peak_mib >= one.pss_mib > 0 for one in run.memory)
    assert decode(encode(run)) == run
    assert PYTHON in tables.whole(run)
    assert said


async def test_containers_that_are_reused_are_measured_beside_bare_programs(stack: Stack, nix_settings: NixSettings) -> None:
    async with Engine.connect() as engine, Producers.of(stack.server, 1) as producers:
        run = await Bench(stack, nix_settings, producers, engine, ONCE, lambda _: None).reused()
    ways = {(one.what, one.case, one.at_once) for one in run.measured}
    assert ways == {(what, REUSED, 1) for what in ("fork+exec", "nsjail", "cutor")}
    assert list(run.steps) == [f"{REUSED}, one at a time: cutor's steps"]
    *others, of_reuse = targets(run)
    assert {one.figure for one in others} == {None}
    assert of_reuse.figure is not None
    assert decode(encode(run)) == run
