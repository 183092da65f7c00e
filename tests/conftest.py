"""Fixtures of all tests; each module of fixtures is a plugin."""

pytest_plugins = ["tests.nats_server"]
