"""Fixtures of all tests; each module of fixtures is a plugin."""

pytest_plugins = ["tests.live_stack", "tests.bare_stack", "tests.nats_server", "tests.nix_builds"]
