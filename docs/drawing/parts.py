"""The parts of cutor, and which of them imports which, by the imports in the code (grimp).

Imports count wherever they stand: in a function, and under ``TYPE_CHECKING``, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

import grimp

PACKAGE: Final = "cutor"


class Part(NamedTuple):
    """One part: packages (with all that is in them, but for what another part names) and modules.

    ``runs`` are the roles and programs that it is, in a process of their own; ``libraries`` are those that it alone imports.
    """

    name: str
    about: str
    modules: tuple[str, ...]
    runs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


PARTS: Final = (
    Part("cli", "the commands", ("cutor.cli", "cutor.__main__"), libraries=("click", "rich")),
    Part("setup", "set-up of a machine", ("cutor.setup",)),
    Part("report", "a page on what was done", ("cutor.report",), libraries=("jinja2", "markupsafe")),
    Part(
        "client",
        "the Python client",
        ("cutor", "cutor.client"),
        ("producer",),
    ),
    Part(
        "operations",
        "re-judge, collect, catalogue",
        ("cutor.operations",),
    ),
    Part("stack", "up, down, and between", ("cutor.stack",), ("supervisor",), ("uvloop",)),
    Part("roles", "the loop and its steps", ("cutor.roles",), ("builder", "runner")),
    Part(
        "projections",
        "views, queries, archive",
        ("cutor.projections",),
        ("projector", "query service", "archiver"),
        ("duckdb", "nanoarrow"),
    ),
    Part("process", "what every role has", ("cutor.process",)),
    Part(
        "journal",
        "events of submissions and environments",
        ("cutor.journal",),
    ),
    Part("nix", "builds, from outside", ("cutor.nix",)),
    Part("jail", "stages, from outside", ("cutor.jail",)),
    Part("containers", "child containers", ("cutor.containers",), libraries=("aiodocker", "aiohttp", "yarl")),
    Part(
        "config",
        "settings, and the environment",
        (
            *("cutor.config", "cutor.stack.settings", "cutor.roles.settings", "cutor.projections.settings"),
            *("cutor.metrics.settings", "cutor.containers.settings", "cutor.nix.settings", "cutor.nix.cache"),
        ),
    ),
    Part(
        "inside",
        "what runs in child containers",
        ("cutor.jail.inside", "cutor.nix.inside"),
        ("worker init", "build init", "store init"),
    ),
    Part("metrics", "metrics, statistics, lines of logs", ("cutor.metrics", "cutor.logs"), libraries=("prometheus_client",)),
    Part("bus", "streams: append, consume, read", ("cutor.bus",), libraries=("nats", "yaml")),
    Part("model", "values and decisions", ("cutor.model",)),
    Part(
        "base",
        "errors, text, files",
        (
            *("cutor.errors", "cutor.text", "cutor.undisturbed", "cutor.release"),
            *("cutor.private_files", "cutor.notes", "cutor.bond", "cutor.installation"),
        ),
    ),
)
"""From above to below: a part imports only what stands beneath it here."""


@cache
def imports() -> grimp.ImportGraph:
    """Return who imports whom, module by module; of foreign packages the name alone."""
    return grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)


def own_modules() -> list[str]:
    """Return all modules of cutor, sorted."""
    return sorted(name for name in imports().modules if name.partition(".")[0] == PACKAGE)


def parts_of(module: str) -> list[Part]:
    """Return the parts that name a module, or the nearest package that one names; it should be one."""
    name = module
    while name:
        if found := [part for part in PARTS if name in part.modules]:
            return found
        name = name.rpartition(".")[0]
        if name == PACKAGE:  # names itself alone: else nothing could be forgotten
            return []
    return []


def part_of(module: str) -> str:
    """Return the name of the part that a module belongs to."""
    [part] = parts_of(module)
    return part.name


@cache
def edges() -> Mapping[tuple[str, str], tuple[tuple[str, str], ...]]:
    """Return which part imports which, with the imports: (importer, imported) by their modules."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for importer in own_modules():
        for imported in sorted(imports().find_modules_directly_imported_by(importer)):
            if imported.partition(".")[0] != PACKAGE:
                continue
            pair = part_of(importer), part_of(imported)
            if pair[0] != pair[1]:
                found.setdefault(pair, []).append((importer, imported))
    return {pair: tuple(those) for pair, those in found.items()}


def reduced() -> frozenset[tuple[str, str]]:
    """Return the edges without those that others imply: a part that is reached over a third one is not drawn twice.

    Only for a graph without circles, which `PARTS` has by its order.
    """
    below: dict[str, set[str]] = {part.name: set() for part in PARTS}
    for importer, imported in edges():
        below[importer].add(imported)
    reached: dict[str, set[str]] = {}
    for part in reversed(PARTS):
        reached[part.name] = below[part.name].union(*(reached[one] for one in below[part.name]))
    return frozenset(
        (importer, imported)
        for importer, imported in edges()
        if not any(imported in reached[one] for one in below[importer] - {imported})
    )
