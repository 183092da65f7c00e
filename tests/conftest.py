"""Fixtures of all tests; each module of fixtures is a plugin."""

import signal
import subprocess
import sys

import pytest

pytest_plugins = ["tests.live_stack", "tests.bare_stack", "tests.nats_server", "tests.nix_builds"]

ENDED = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes that tests start be interrupted: those of a shell's background job would inherit a SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how it ended: `pytest_unconfigure` is not told."""
    session.config.stash[ENDED] = exitstatus


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what an interrupted run of several processes left: they were killed before their fixtures could."""
    if config.stash.get(ENDED, None) != pytest.ExitCode.INTERRUPTED or hasattr(config, "workerinput"):
        return
    for lock in config._tmp_path_factory.getbasetemp().glob("popen-*/*/data/lock"):  # type: ignore[attr-defined]
        command = [sys.executable, "-m", "cutor", "down", "--now", "--data", str(lock.parent)]
        subprocess.run(command, capture_output=True, timeout=120, check=False)
