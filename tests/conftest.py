"""Fixtures of all tests; each module of fixtures is a plugin."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

import pytest
from aiodocker import DockerError
from hypothesis import HealthCheck, settings

from cutor.projections.queries.client import query
from tests.containers import left_in
from tests.stores import RUN, remove_stores_of

pytest_plugins = ["tests.live_stack", "tests.bare_stack", "tests.nats_server", "tests.nix_builds"]

ENDED = pytest.StashKey[int]()
LEFT = pytest.StashKey[list[str]]()
LEFT_BEHIND = 7
"""Exit status of a run that left containers: none of pytest's, so that no second run without them hides it."""

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes says how busy the machine is
query.__defaults__ = (30.0,)  # as does how long an answer takes


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes that tests start be interrupted: those of a shell's background job would inherit a SIGINT ignored.

    SIGTERM (of `timeout`, say) ends a run as SIGINT does, with the ends of its fixtures: a stack is a session of its own, and
    would go on. This is called in every process of a run of several.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt_once)
    os.environ.setdefault(RUN, secrets.token_hex(4))  # the processes of a run of several inherit it


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Raise SIGINT, which asyncio may have a handler for; once: `timeout` sends two, and the second would hit the clean-up."""
    signal.signal(signal.SIGTERM, _ignore)
    signal.raise_signal(signal.SIGINT)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. SIG_IGN would be inherited by what the clean-up starts."""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how it ended: `pytest_unconfigure` is not told. A run whose stacks and roles left a container has failed.

    Of a run of several processes this one ends last, and all have their directories beneath its own.
    """
    session.config.stash[ENDED] = exitstatus
    if exitstatus == pytest.ExitCode.INTERRUPTED or hasattr(session.config, "workerinput"):
        return
    base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    session.config.stash[LEFT] = left = left_in(base)
    if left:
        session.exitstatus = LEFT_BEHIND


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which containers were left."""
    for left in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT BEHIND: {left}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what an interrupted run left: of several processes all, which were killed before their fixtures could; of one what
    was just being started.
    """
    if config.stash.get(ENDED, None) != pytest.ExitCode.INTERRUPTED or hasattr(config, "workerinput"):
        return
    base = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    for lock in (*base.glob("*/data/lock"), *base.glob("popen-*/*/data/lock")):
        command = [sys.executable, "-m", "cutor", "down", "--now", "--data", str(lock.parent)]
        subprocess.run(command, capture_output=True, timeout=120, check=False)
    with suppress(DockerError, ValueError, OSError):  # where there is no engine there are no volumes either
        asyncio.run(remove_stores_of(os.environ[RUN]))
