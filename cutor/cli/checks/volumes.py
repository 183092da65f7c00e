"""What ``cutor doctor`` says of the volumes and networks of Docker that the configuration names: are they there, and whose."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.cli.failures import line_of
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.nix import requirements
from cutor.nix.requirements import Shortcoming
from cutor.nix.settings import NixSettings


async def check_volumes(engine: Engine, settings: NixSettings) -> AsyncIterator[Finding]:
    """Check store, database and package set. Nothing is made, and nothing given to anybody."""
    if missing := await requirements.missing_store(engine, settings):
        for setting in missing:
            detail = f"{getattr(settings, setting)} (nix.{setting}) is not there yet"
            yield warn("volume", detail, "`cutor up` makes it")
    else:
        for finding in await _owners(engine, settings):
            yield finding
    shortcoming = await requirements.package_set(engine, settings)
    yield ok("volume", settings.packages_volume) if shortcoming is None else _finding(shortcoming)


async def _owners(engine: Engine, settings: NixSettings) -> list[Finding]:
    """Look whose the volumes of the store are, from a container (0.4 s)."""
    try:
        found = await requirements.store_ownership(engine, settings)
    except ContainerError as error:
        volumes = f"{settings.store_volume} and {settings.var_volume}"
        return [fail("volume", f"whose {volumes} are can't be seen: {line_of(error)}", "")]
    return [ok("volume", getattr(settings, name)) if told is None else _finding(told) for name, told in found.items()]


async def check_networks(engine: Engine, settings: NixSettings) -> list[Finding]:
    """Check the networks of builds and of the cache; nothing is said where none is named, or all are there."""
    return [_finding(shortcoming) for shortcoming in await requirements.networks(engine, settings)]


def _finding(told: Shortcoming) -> Finding:
    return (warn if told.passes else fail)(told.what, told.detail, told.remedy)
