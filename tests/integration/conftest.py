"""Fixtures of the integration tests that are not for all tests."""

from tests.nix_builds import builds, nix_set_up

__all__ = ["builds", "nix_set_up"]
