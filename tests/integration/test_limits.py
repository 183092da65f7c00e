"""Every limit of every stage, end to end on a live stack: a table of programs that keep to a limit, and of others that do not.

All of them are handed in at once, before the first test; each test then looks at what came of one. Where the kernel or cutor
counts exactly, a program goes up to the last byte, file or process that it may have, and another one over by one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from cutor import Client
from cutor.model.events import Stage
from cutor.model.limits import DEFAULT_LIMITS, MIB, StageKind
from cutor.model.result import Result
from tests.integration.live_submissions import document
from tests.live_stack import Stack

pytestmark = pytest.mark.timeout(600)  # the first test waits for all submissions

ENDED_S: Final = 500
LONG_MS: Final = 100_000
"""Wall time where another limit is meant: a busy machine must not end what that one is to end."""


class Case(NamedTuple):
    """A limit, a program that keeps to it and one that does not, and how that one ends. What it has of wall time otherwise."""

    limit: str
    value: int
    keeps: str
    breaks: str
    outcome: str

    @property
    def asked(self) -> dict[str, int]:
        """Return what is asked for."""
        return {"wall_time_ms": LONG_MS, self.limit: self.value}


def memory(mebibytes: int) -> str:
    return f"exec python3 -c 'bytearray({mebibytes} << 20)'"


def forks(count: int) -> str:
    """Return a program of one process that makes ``count`` more, all of which stay until it ends."""
    return f"python3 -c 'import os, time\nfor _ in range({count}): os.fork() or time.sleep(60)\nos._exit(0)'"


def opens(count: int) -> str:
    """Return a program that has ``count`` files open beside its standard ones."""
    return f"python3 -c 'import os\nfor _ in range({count}): os.open(os.devnull, os.O_RDONLY)'"


SPIN: Final = "while :; do :; done"
SPIN_A_LITTLE: Final = "for ((i = 0; i < 10000; i++)); do :; done"

CASES: Final = (
    Case("wall_time_ms", 5000, "sleep 0.2", "sleep 60", "TLE_WALL"),
    Case("cpu_time_ms", 1000, SPIN_A_LITTLE, SPIN, "TLE_CPU"),
    Case("memory_bytes", 64 * MIB, memory(40), memory(80), "MLE"),
    Case("processes", 8, f"exec {forks(7)}", f"exec {forks(8)}", "RE"),
    Case("stdout_bytes", 10_000, "head -c 10000 /dev/zero", "head -c 10001 /dev/zero", "OLE"),
    Case("stderr_bytes", 10_000, "head -c 10000 /dev/zero >&2", "head -c 10001 /dev/zero >&2", "OLE"),
    Case("file_size_bytes", 10_000, "exec head -c 10000 /dev/zero > f", "exec head -c 10001 /dev/zero > f", "FSE"),
    Case("open_files", 16, f"exec {opens(13)}", f"exec {opens(14)}", "RE"),
)
"""Of compile and run: both run a script in the same way."""

GROW: Final = "x=x; while :; do x=$x$x; done"
HOOKS: Final = (
    Case("wall_time_ms", 5000, "sleep 0.2", "sleep 60", "TLE_WALL"),
    Case("cpu_time_ms", 2000, SPIN_A_LITTLE, SPIN, "TLE_CPU"),
    Case("memory_bytes", 256 * MIB, "x=$(head -c 20M /dev/zero | tr '\\0' x)", GROW, "MLE"),
    Case("processes", 40, f"{forks(20)} || exit 9", f"{forks(80)} || exit 9", "RE"),
    Case("stdout_bytes", 100, "printf %100d 1", "printf %101d 1", "OLE"),
    Case("stderr_bytes", 10_000, "printf %5000d 1 >&2", "printf %10001d 1 >&2", "OLE"),  # Nix prints there, too
    Case("file_size_bytes", 10 * MIB, "printf %10485760d 1 > f", "printf %10485761d 1 > f", "FSE"),
    Case("open_files", 64, f"{opens(40)} || exit 9", f"{opens(80)} || exit 9", "RE"),
)
"""Of the dependencies stage, as hooks of its shell: evaluation and hook are jailed like any stage."""
BUILDER_LIMITS: Final = {"wall_time_ms": LONG_MS, "file_size_bytes": 200 * MIB, "open_files": 300}
BUILDER: Final = f"""
$python/bin/{opens(250)} && echo opened 250
$python/bin/{opens(400)} || echo did not open 400
head -c 201M /dev/zero > $out || echo did not write 201 MiB
exit 3
"""
"""Of the dependencies stage, as a builder: a child of Nix's daemon, which needs 192 MiB and 256 files itself at least."""


def shell(attributes: str) -> str:
    """Return an environment with Python that nobody has built yet."""
    new = f'NEW = "{secrets.token_hex(8)}";'
    return f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ packages = [ pkgs.python3 ]; {new} {attributes} }}"


def hook(script: str) -> str:
    return shell(f"shellHook = ''{script}\n'';")


def builder(script: str) -> str:
    return shell(f"needs = pkgs.runCommand \"needs-{secrets.token_hex(4)}\" {{ python = pkgs.python3; }} ''{script}\n'';")


def scripts(run_script: str, compile_script: str, **limits: dict[str, int]) -> dict[str, Any]:
    """Return a request of what is run and compiled, with limits by stage."""
    return document(run_script, files={"cutor-compile.sh": compile_script}, limits=limits)


def three_runs(case: Case) -> dict[str, Any]:
    """Return a request whose compile stage keeps to a limit; of three runs the second breaks it."""
    runs = [{"args": [case.keeps]}, {"args": [case.breaks]}, {"args": [case.keeps]}]
    request = scripts('eval "$1"', case.keeps, compile=case.asked, run=case.asked)
    return request | {"test_cases": runs, "stop_on_failure": False}


def building(text: str, limits: dict[str, int]) -> dict[str, Any]:
    """Return a request whose environment is what counts."""
    return document("true", shell=text, limits={"dependencies": limits})


KEPT_TOGETHER: Final = {case.limit: case.value for case in HOOKS} | {"wall_time_ms": LONG_MS, "cpu_time_ms": 50_000}
NEED: Final = "exec python3 -c 'bytearray(150 << 20)'"
SMALL, LARGE = {"memory_bytes": 64 * MIB}, {"memory_bytes": 256 * MIB}
FILL: Final = """
import os
for place in ("/box", "/tmp"):
    count = 0
    try:
        while count < 100_000:
            os.close(os.open(f"{place}/{count}", os.O_CREAT | os.O_WRONLY))
            count += 1
    except OSError as error:
        print(place, count, error.strerror)
raise SystemExit(1)
"""

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    **{f"runs {case.limit}": three_runs(case) for case in CASES},
    **{f"compile breaks {case.limit}": scripts("true", case.breaks, compile=case.asked) for case in CASES},
    "hook keeps": building(hook("\n".join(case.keeps for case in HOOKS)), KEPT_TOGETHER),
    **{f"hook breaks {case.limit}": building(hook(case.breaks), case.asked) for case in HOOKS},
    "builder": building(builder(BUILDER), BUILDER_LIMITS),
    "compile large": scripts(NEED, NEED, compile=LARGE, run=SMALL),
    "run large": scripts(NEED, "true", compile=SMALL, run=LARGE),
    "compile small": scripts(NEED, NEED, compile=SMALL, run=LARGE),
    "many files": scripts("true", f"exec python3 -c '{FILL}'", compile={"memory_bytes": 512 * MIB, "wall_time_ms": LONG_MS}),
}


@pytest.fixture(scope="module")
def results(stack: Stack) -> dict[str, Result]:
    """What came of every request, by its name."""

    async def ended(client: Client, request: dict[str, Any]) -> Result:
        receipt = await client.submit(request)
        return await client.result(receipt.id, wait=True, timeout_s=ENDED_S)

    async def all_ended(requests: Iterable[dict[str, Any]]) -> list[Result]:
        async with Client(stack.server) as client:
            return await asyncio.gather(*(ended(client, request) for request in requests))

    return dict(zip(REQUESTS, asyncio.run(all_ended(REQUESTS.values())), strict=True))


def check(stage: Stage | None, outcome: str, kind: StageKind, asked: dict[str, int]) -> Stage:
    """Check how a stage ended, and that it names the limits asked for, wall time among them, and the defaults; return it."""
    assert stage is not None
    assert stage.outcome == outcome, stage
    assert stage.limits is not None
    assert stage.limits == msgspec.structs.replace(getattr(DEFAULT_LIMITS, kind).default, **asked)
    return stage


def by_limit(cases: tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.limit for case in cases])


@by_limit(CASES)
def test_a_compile_stage_that_keeps_to_a_limit(results: dict[str, Result], case: Case) -> None:
    check(results[f"runs {case.limit}"].compile, "OK", "compile", case.asked)


@by_limit(CASES)
def test_a_compile_stage_that_breaks_a_limit(results: dict[str, Result], case: Case) -> None:
    result = results[f"compile breaks {case.limit}"]
    check(result.compile, case.outcome, "compile", case.asked)
    assert (result.outcome, [stage.outcome for stage in result.run]) == ("COMPILE_ERROR", ["SKIPPED"])


@by_limit(CASES)
def test_a_run_that_breaks_a_limit_between_two_that_keep_to_it(results: dict[str, Result], case: Case) -> None:
    """The init outlives it, the kernel's OOM killer included: the run after it is in the same container."""
    result = results[f"runs {case.limit}"]
    for stage, outcome in zip(result.run, ("OK", case.outcome, "OK"), strict=True):
        check(stage, outcome, "run", case.asked)
    assert (result.outcome, result.attempts.runner) == ("RUN_ERROR", 1)


def test_a_hook_that_keeps_to_every_limit(results: dict[str, Result]) -> None:
    stage = check(results["hook keeps"].dependencies, "OK", "dependencies", KEPT_TOGETHER)
    assert stage.stdout.bytes_total == KEPT_TOGETHER["stdout_bytes"]


@by_limit(HOOKS)
def test_a_hook_that_breaks_a_limit(results: dict[str, Result], case: Case) -> None:
    result = results[f"hook breaks {case.limit}"]
    check(result.dependencies, case.outcome, "dependencies", case.asked)
    assert (result.outcome, result.compile, [stage.outcome for stage in result.run]) == ("DEPENDENCY_ERROR", None, ["SKIPPED"])


def test_a_builder_has_the_limits_that_are_above_the_daemons_own_need(results: dict[str, Result]) -> None:
    """It ends as it likes to: which of a builder's processes broke a limit is told by its own words alone."""
    result = results["builder"]
    stage = check(result.dependencies, "RE", "dependencies", BUILDER_LIMITS)
    assert result.outcome == "DEPENDENCY_ERROR"
    for said in ("opened 250", "Too many open files", "did not open 400", "File size limit exceeded", "did not write 201 MiB"):
        assert said in stage.stderr.data


def test_compile_and_run_have_different_memory_and_both_limits_hold(results: dict[str, Result]) -> None:
    outcomes = {}
    for name in ("compile large", "run large", "compile small"):
        assert results[name].compile is not None
        outcomes[name] = [stage.outcome for stage in (results[name].compile, *results[name].run) if stage is not None]
    assert outcomes == {"compile large": ["OK", "MLE"], "run large": ["OK", "OK"], "compile small": ["MLE", "SKIPPED"]}


def test_files_of_a_compile_stage_are_bounded_in_number(results: dict[str, Result]) -> None:
    """Its box is the container's own file system, its /tmp the jail's; attacks look at those of runs (files/many-*)."""
    stage = results["many files"].compile
    assert stage is not None
    lines = [line.split(maxsplit=2) for line in stage.stdout.data.splitlines()]
    assert [(place, why) for place, _, why in lines] == [(place, "No space left on device") for place in ("/box", "/tmp")]
    for _, count, _ in lines:
        assert 65_000 < int(count) <= 65_536
