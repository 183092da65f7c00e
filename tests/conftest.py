"""Fixtures of all tests; each module of fixtures is a plugin."""

import signal

import pytest

pytest_plugins = ["tests.live_stack", "tests.bare_stack", "tests.nats_server", "tests.nix_builds"]


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes that tests start be interrupted: those of a shell's background job would inherit a SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
