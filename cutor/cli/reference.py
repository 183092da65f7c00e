"""The reference pages of command line and configuration, made from the code: ``python -m cutor.cli.reference [DIRECTORY]``.

A test compares the pages in ``docs/reference`` with what this makes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from cutor.cli.field_docs import field_docs
from cutor.cli.reference_commands import MADE_BY, cli_page
from cutor.config import Config, LogSettings, parse
from cutor.containers.settings import DockerSettings
from cutor.metrics.settings import MetricsSettings
from cutor.model.limits import BOUND_CEILINGS, STAGE_KINDS, UNITS, Bounds, of_stage
from cutor.nix.settings import NixSettings
from cutor.projections.settings import ArchiveSettings, ProjectorSettings
from cutor.roles.settings import BuilderSettings, RunnerSettings
from cutor.stack.settings import ServerSettings

SECTIONS: Final[tuple[tuple[str, type[msgspec.Struct]], ...]] = (
    ("server", ServerSettings),
    ("docker", DockerSettings),
    ("builder", BuilderSettings),
    ("runner", RunnerSettings),
    ("projector", ProjectorSettings),
    ("metrics", MetricsSettings),
    ("archive", ArchiveSettings),
    ("log", LogSettings),
    ("bounds", Bounds),
    ("nix", NixSettings),
)
"""Tables of the file with keys of their own; `limits` and `tenants` have sections of the page."""

_WORDS_OF_TYPES: Final = {"StrType": "text", "BoolType": "true or false", "VarTupleType": "list of texts"}

ENVIRONMENT: Final = (
    ("CUTOR_CONFIG", "the configuration file, where `--config` names none"),
    ("CUTOR_SERVER", "the server of commands, roles and clients, where `--server` names none"),
    ("CUTOR_TLS_CA", "the CA that is trusted for TLS, before `server.tls_ca`"),
    ("CUTOR_LOG_FORMAT", "`text` or `json`: the format of logs, before `log.format`"),
    ("DOCKER_HOST", "the address of the Docker Engine, where `docker.host` names none"),
    ("XDG_CONFIG_HOME", "`cutor/config.toml` in it is the user's configuration file; else `~/.config`"),
    ("XDG_DATA_HOME", "`cutor` in it is the default data directory; else `~/.local/share`"),
    ("XDG_STATE_HOME", "`cutor/current.json` in it tells commands of the stack that was started last; else `~/.local/state`"),
)

EXAMPLE: Final = """\
# Two tenants: what people wait for gets three turns of four.
[tenants]
interactive = 3
batch = 1

# A limit that is left out keeps its built-in value. A request over a maximum is refused.
[limits.run.default]
wall_time_ms = 5000
memory_bytes = 134217728  # 128 MiB

[limits.run.maximum]
wall_time_ms = 30000

[bounds]
test_cases = 200

[runner]
slots = 4
"""


WHERE: Final = """\
One TOML file: that of `--config`, else of `CUTOR_CONFIG`, else `~/.config/cutor/config.toml` if it is there. Every key may be
left out. An unknown key, a wrong type or a value that cannot work is refused with one line that names file and key.

`cutor up` keeps a copy in its data directory, with which its roles work until it is started again. Commands that work on that
stack or its store (`doctor`, `gc`, `env remove`, `env refresh`, `streams plan` and `apply`) take this copy, unless a file is
named with `--config` or CUTOR_CONFIG: then they take that; `gc` and `env remove` say so where the stack has another store, and
`doctor` where anything differs. Limits, bounds and tenants are published in the stack: clients and builders check requests
against those, whatever their own file says.
"""

TENANTS: Final = """\
## [tenants]

Every tenant with its weight, a positive integer. Built in: `default = 1`; a table here takes its place. Requests of other
tenants are refused. Builders and runners serve tenants in turns, as often as their weights say: none waits behind another
one's flood.
"""

LIMITS: Final = """\
## [limits.STAGE.default] and [limits.STAGE.maximum]

STAGE is `dependencies`, `compile` or `run`. A request that leaves a limit out gets the default; one over the maximum is
refused. A built-in default that is over a configured maximum gives way to it. `cutor doctor` prints the limits that hold, and
warns of unwise ones; how to choose them is explained in [limits](../explanation/limits.md). Built in, as default / maximum:
"""


def configuration_page() -> str:
    """Return the page of the configuration. Raises `InvalidConfig` where its example does not work."""
    parse(EXAMPLE.encode(), "the example of the reference")
    lines = ["# Configuration", "", MADE_BY, "", *WHERE.splitlines(), "", "```toml", *EXAMPLE.splitlines(), "```", ""]
    lines += [
        "## Top level",
        "",
        *_keys(Config, only=("data_directory", "max_leases", "shutdown_grace_s")),
        "",
        *TENANTS.splitlines(),
        "",
        *_limits(),
    ]
    for name, section in SECTIONS:
        lines += ["", f"## [{name}]", "", *_keys(section)]
    lines += ["", "## Environment", "", "| variable | what it does |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in ENVIRONMENT]
    return "\n".join(lines) + "\n"


def _limits() -> Iterator[str]:
    """Yield the built-in limits of every stage."""
    policy = Config().policy()
    yield from (*LIMITS.splitlines(), "")
    yield from ("| limit | unit | " + " | ".join(STAGE_KINDS) + " |", "|---|---|" + "---|" * len(STAGE_KINDS))
    for name, unit in UNITS.items():
        stages = [of_stage(policy.limits, kind) for kind in STAGE_KINDS]
        cells = [f"{getattr(stage.default, name)} / {getattr(stage.maximum, name)}" for stage in stages]
        yield f"| `{name}` | {unit} | " + " | ".join(cells) + " |"


def _keys(struct: type[msgspec.Struct], only: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the table of a struct's keys."""
    yield from ("| key | type | built in | meaning |", "|---|---|---|---|")
    for field in msgspec.inspect.type_info(struct).fields:  # type: ignore[attr-defined]
        if only and field.name not in only:
            continue
        text = _description(field.type) or field_docs(struct)[field.name]
        ceiling = BOUND_CEILINGS.get(field.name) if struct is Bounds else None
        kind = _type(field.type) if ceiling is None else f"integer up to {ceiling}"
        yield f"| `{field.name}` | {kind} | {_default(field.default)} | {text} |"


def _description(kind: Any) -> str | None:
    """Return what stands in the annotation of a field."""
    if isinstance(kind, msgspec.inspect.Metadata):
        extra = kind.extra_json_schema or {}
        return str(extra["description"]) if "description" in extra else _description(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return next((text for one in kind.types if (text := _description(one))), None)
    return None


def _type(kind: Any) -> str:
    """Return the type of a key in a word, with its bounds."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _type(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(_type(one) for one in kind.types if not isinstance(one, msgspec.inspect.NoneType))
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        low = "" if kind.ge is None else f" from {kind.ge}"
        return f"{'integer' if isinstance(kind, msgspec.inspect.IntType) else 'number'}{low}" + (
            "" if kind.le is None else f" to {kind.le}"
        )
    if isinstance(kind, msgspec.inspect.LiteralType):
        return " or ".join(sorted((f"`{value}`" for value in kind.values), reverse=True))
    return _WORDS_OF_TYPES[type(kind).__name__]


def _default(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{msgspec.json.encode(value).decode()}`"


PAGES: Final = {"cli.md": cli_page, "configuration.md": configuration_page}


def main() -> int:
    """Write the pages into a directory, `docs/reference` without one."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    for name, page in PAGES.items():
        (directory / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
