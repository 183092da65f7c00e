"""A runner that runs nothing: all of a runner but containers, so that what the log costs can be measured many times.

``python -m tests.bench.scale.log_runner URL DATA``; it says on its standard output when it is ready, and ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from cutor.config import Config
from cutor.journal.environments import Environments
from cutor.model.events import Finished, Ran, Role, Stage
from cutor.model.limits import resolve_all
from cutor.process.context import RoleContext
from cutor.roles.loop import serve
from cutor.roles.step import Arrival, LeasedStep, LeasedWork

SLOTS = 2


class LogStep:
    """A runner's step without a container: it reads what a run needs, and reports that all went well."""

    role: Role = "runner"
    looks = False

    async def check(self) -> None:
        """Nothing is needed."""

    async def approach(self, _arrival: Arrival, /) -> LeasedWork:
        """Return the work."""
        return self._work

    async def _work(self, leased: LeasedStep) -> None:
        assert leased.state.environment is not None
        known = await Environments(leased.journal.bus).find(leased.state.environment.key)
        assert known is not None, leased.state.environment.key
        request = await leased.journal.contents.load_request(leased.state.address, leased.state.request)
        await leased.journal.contents.fetch(known.built.variables)
        limits = resolve_all(request.limits, leased.policy.limits)
        stage = Stage(outcome="OK", exit_code=0, cpu_time_ms=10, wall_time_ms=12, limits=limits["run"])
        await leased.report(Ran(lease=leased.lease, index=0, stages=(stage,)))
        await leased.report(Finished(lease=leased.lease, outcome="OK"))


async def run(server: str, data: Path) -> None:
    """Be a runner until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    context = RoleContext(server, "bench", "log-runner", Config(), lambda: print("ready", flush=True), stop, data=data)
    await serve(context, LogStep(), SLOTS)


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(exist_ok=True)
    uvloop.run(run(sys.argv[1], Path(sys.argv[2])))
