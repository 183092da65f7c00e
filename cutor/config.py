"""What a deployer configures, and where things are. The only reader of the environment and of ``config.toml``.

`Surroundings.read` takes what cutor wants to know from the environment; `load` finds and checks the file. An unknown key, a
wrong type or a value that cannot work is an `InvalidConfig`: one line that names file and key. The tables of the file
are structs beside the parts that they configure (``settings``), of which the reference page
``docs/reference/configuration.md`` is generated.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from cutor.containers.settings import OPEN_FILES_CEILING, DockerSettings
from cutor.errors import REFUSED, CutorError
from cutor.installation import image_note
from cutor.logs import LogFormat
from cutor.metrics.settings import MetricsSettings, check_metrics
from cutor.model.errors import InvalidPolicy
from cutor.model.limit_settings import LimitsSettings
from cutor.model.limits import STAGE_KINDS, UNITS, Bounds, Policy, check_policy, of_stage
from cutor.model.quoting import shown
from cutor.model.request import RUN_SCRIPT, SHELL_NIX, explain, explain_toml
from cutor.model.subjects import TENANT
from cutor.nix.settings import NixSettings, check_settings
from cutor.projections.settings import ArchiveSettings, ProjectorSettings, check_archive, check_projector
from cutor.roles.settings import BuilderSettings, RunnerSettings, check_runner, check_slots
from cutor.stack.settings import ServerSettings, check_server

CONFIG_FILE_BYTES: Final = 1 << 20
"""A longer one is refused: it is no configuration of cutor."""
DOCKER_SCHEMES: Final = ("unix://", "tcp://")
_NOTED_IMAGE: Final = re.compile(r"cutor-child:[0-9a-f]{16}", re.ASCII)
LIMIT_CEILINGS: Final = {"open_files": OPEN_FILES_CEILING, "processes": 4_000_000}
"""What no container can be given more of: the hard limit that each is made with, and what the kernel has of tasks."""
LEAST_BOUNDS: Final = {"files": 2, "file_name_bytes": len(RUN_SCRIPT), "request_bytes": len(SHELL_NIX) + len(RUN_SCRIPT)}
"""What the two files take that every request holds."""

Positive = Annotated[int, Meta(ge=1)]


class InvalidConfig(CutorError):
    """The configuration cannot be read or cannot work; the message names file and key."""

    exit_code = REFUSED


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: unknown keys are errors."""


class LogSettings(_Section, frozen=True, kw_only=True):
    """What roles and the supervisor write into their logs, and `cutor up` on its terminal."""

    format: Annotated[
        LogFormat, Meta(description="lines for people, or one JSON object a line; `CUTOR_LOG_FORMAT` goes before it")
    ] = "text"


class Config(_Section, frozen=True, kw_only=True):
    """Everything a deployer configures; every key may be left out."""

    data_directory: (
        Annotated[str, Meta(min_length=1, description="streams, views and logs of `cutor up`; absolute, or from `~/` on")]
        | None
    ) = None
    max_leases: Annotated[int, Meta(ge=1, description="attempts of one role at a submission before it is parked")] = 3
    shutdown_grace_s: Annotated[
        float, Meta(ge=0, le=3600, description="seconds that what runs may still take after SIGTERM; then it is handed back")
    ] = 5.0
    tenants: Annotated[
        dict[str, Positive], Meta(min_length=1, description="every tenant with its weight; others are refused")
    ] = msgspec.field(default_factory=lambda: {"default": 1})
    limits: LimitsSettings = LimitsSettings()
    bounds: Bounds = Bounds()
    server: ServerSettings = ServerSettings()
    docker: DockerSettings = DockerSettings()
    nix: NixSettings = NixSettings()
    builder: BuilderSettings = BuilderSettings()
    runner: RunnerSettings = RunnerSettings()
    projector: ProjectorSettings = ProjectorSettings()
    metrics: MetricsSettings = MetricsSettings()
    archive: ArchiveSettings = ArchiveSettings()
    log: LogSettings = LogSettings()

    def policy(self) -> Policy:
        """Return what the stack publishes: these limits, bounds and tenants, filled up with the built-in ones."""
        return Policy(
            limits=self.limits.policies(),
            bounds=self.bounds,
            tenants=dict(self.tenants),
            max_leases=self.max_leases,
        )


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What cutor takes from the environment: files, addresses, and the user's directories (XDG base directories)."""

    config_home: Path
    data_home: Path
    state_home: Path
    config_file: Path | None = None
    server: str | None = None
    tls_ca: str | None = None
    docker_host: str | None = None
    log_format: str | None = None

    @classmethod
    def read(cls) -> Surroundings:
        """Read CUTOR_CONFIG, _SERVER, _TLS_CA and _LOG_FORMAT, DOCKER_HOST and the XDG directories; empty means unset."""
        config_file, tls_ca = os.environ.get("CUTOR_CONFIG"), os.environ.get("CUTOR_TLS_CA")
        return cls(
            config_home=_xdg("XDG_CONFIG_HOME", ".config"),
            data_home=_xdg("XDG_DATA_HOME", ".local/share"),
            state_home=_xdg("XDG_STATE_HOME", ".local/state"),
            config_file=Path(config_file) if config_file else None,
            server=os.environ.get("CUTOR_SERVER") or None,
            tls_ca=str(Path(tls_ca).absolute()) if tls_ca else None,
            docker_host=os.environ.get("DOCKER_HOST") or None,
            log_format=os.environ.get("CUTOR_LOG_FORMAT") or None,
        )

    @property
    def current_stack(self) -> Path:
        """The per-user file in which `cutor up` leaves address and credential of its stack."""
        return self.state_home / "cutor" / "current.json"

    def data_directory(self, config: Config, wanted: Path | None = None) -> Path:
        """Return the data directory: the wanted one, else the configured one, else the user's default; absolute."""
        if wanted is not None:
            return wanted.absolute()
        return Path(config.data_directory) if config.data_directory else self.data_home / "cutor"


def _xdg(variable: str, default: str) -> Path:
    """Return a base directory; a relative value is ignored, as the XDG specification demands."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration with its origin; ``file`` is null where there is none and every value is built in."""

    config: Config
    file: Path | None
    raw: bytes


def load(wanted: Path | None, surroundings: Surroundings) -> Loaded:
    """Return the configuration of ``wanted``, else of CUTOR_CONFIG, else of the user's ``cutor/config.toml`` if there is one.

    Raises `InvalidConfig`, also where a file that was asked for is not there.
    """
    file = wanted or surroundings.config_file
    if file is None:
        file = surroundings.config_home / "cutor" / "config.toml"
        if not file.is_file():
            config = parse(b"", "the built-in configuration", image=made_image(image_note(surroundings.state_home)))
            return Loaded(config=_with_surroundings(config, surroundings), file=None, raw=b"")
    raw = _read(file)
    config = parse(raw, str(file), image=made_image(image_note(surroundings.state_home)))
    return Loaded(config=_with_surroundings(config, surroundings), file=file.absolute(), raw=raw)


def made_image(note: Path) -> str | None:
    """Return the name of the image that belongs to this code by its note (`image_note`); None where set-up made none of it.

    The name holds a digest of all that went in, so that other set-ups leave it alone.
    """
    try:
        name = note.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if _NOTED_IMAGE.fullmatch(name) else None


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            raw = opened.read(CONFIG_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidConfig(f"{file}: the configuration cannot be read: {error.strerror}") from error
    if len(raw) > CONFIG_FILE_BYTES:
        raise InvalidConfig(f"{file}: more than {CONFIG_FILE_BYTES} bytes; this is no configuration of cutor")
    return raw


def parse(raw: bytes, name: str, *, image: str | None = None) -> Config:
    """Return the configuration in TOML, checked as a whole; ``image`` is that of child containers where it names none.

    Raises `InvalidConfig` that names the file as ``name``.
    """
    try:
        document = tomllib.loads(raw.decode())
    except ValueError as error:
        raise InvalidConfig(f"{name}: {explain_toml(error)}") from error
    except RecursionError as error:
        raise InvalidConfig(f"{name}: nested too deeply; this is no configuration of cutor") from error
    try:
        _check_weights(document.get("tenants"))
        config = msgspec.convert(_prepared(document, image), Config)
        check(config)
    except (msgspec.ValidationError, InvalidPolicy) as error:
        said = explain(error).replace("Object contains unknown field", "unknown key")
        raise InvalidConfig(f"{name}: {said}") from error
    return config


def check(config: Config) -> None:
    """Raise `InvalidPolicy` that names the first setting that cannot work."""
    policy = config.policy()
    check_policy(policy)
    _check_limits(policy)
    check_settings(config.nix)
    check_metrics(config.metrics)
    for tenant in config.tenants:
        if not TENANT.fullmatch(tenant):
            raise InvalidPolicy(f"tenants: the name {tenant!r} must be 1 to 32 characters of a-z, 0-9 and '-'")
    check_runner(config.runner)
    check_slots("builder", config.builder)
    check_slots("runner", config.runner)
    check_server(config.server)
    check_projector(config.projector)
    check_archive(config.archive)
    paths = [("data_directory", config.data_directory), ("archive.directory", config.archive.directory)]
    for key, path in (*paths, *config.server.files()):
        if path is not None and (not Path(path).is_absolute() or "\0" in path):
            raise InvalidPolicy(f"{key}: {path!r} must be an absolute path, without a NUL character")


def _check_weights(tenants: Any) -> None:
    """Raise `InvalidPolicy` that names the tenant whose weight is none: msgspec does not say which it is."""
    for tenant, weight in tenants.items() if isinstance(tenants, dict) else ():
        if type(weight) is not int or weight < 1:
            named = tenant if TENANT.fullmatch(tenant) else shown(tenant)
            raise InvalidPolicy(f"tenants.{named}: the weight {shown(str(weight))} must be a whole number, 1 at least")


def _check_limits(policy: Policy) -> None:
    """Raise `InvalidPolicy` for a limit that no container can be given, or a bound that no request can keep."""
    for kind in STAGE_KINDS:
        for name, ceiling in LIMIT_CEILINGS.items():
            if (maximum := getattr(of_stage(policy.limits, kind).maximum, name)) > ceiling:
                raise InvalidPolicy(
                    f"limits.{kind}: the maximum {name} {maximum} is more than {ceiling} {UNITS[name]}, the most there can be"
                )
    for name, least in LEAST_BOUNDS.items():
        if (bound := getattr(policy.bounds, name)) < least:
            raise InvalidPolicy(f"bounds.{name} is {bound}: every request needs {least}, for {SHELL_NIX} and {RUN_SCRIPT}")


def _prepared(document: dict[str, Any], image: str | None) -> dict[str, Any]:
    """Return the document with ``~/`` resolved, and `docker.image` as that of environment builds unless `nix.image` is set."""
    docker, nix = document.get("docker", {}), document.get("nix", {})
    if isinstance(docker, dict) and isinstance(nix, dict) and (image := docker.get("image", image)) is not None:
        document = document | {"docker": {"image": image} | docker, "nix": {"image": image} | nix}
    directory = document.get("data_directory")
    if isinstance(directory, str) and directory.startswith("~/"):
        document = document | {"data_directory": str(Path.home() / directory[2:])}
    return document


def _with_surroundings(config: Config, surroundings: Surroundings) -> Config:
    """Return the configuration with what the environment says. Raises `InvalidConfig` for a format of logs that is none."""
    if surroundings.log_format is not None:
        try:
            log = msgspec.convert({"format": surroundings.log_format}, LogSettings)
        except msgspec.ValidationError:
            raise InvalidConfig(f"CUTOR_LOG_FORMAT is {shown(surroundings.log_format)}: it must be text or json") from None
        config = msgspec.structs.replace(config, log=log)
    if config.docker.host or not surroundings.docker_host:
        return config
    return msgspec.structs.replace(config, docker=msgspec.structs.replace(config.docker, host=surroundings.docker_host))


def check_docker_host(host: str | None) -> None:
    """Raise `InvalidConfig` for an address of Docker over which cutor cannot talk to an engine; null is the usual socket.

    Apart from `load`, because a client that never asks Docker may well run beside a ``DOCKER_HOST`` that other programs need.
    """
    if host is not None and not host.startswith(DOCKER_SCHEMES):
        raise InvalidConfig(
            f"DOCKER_HOST or `docker.host` is {host!r}: cutor talks to an engine over {' or '.join(DOCKER_SCHEMES)} alone"
        )


def environment_for_role(server: str) -> dict[str, str]:
    """Return the environment of a role process: this one's, with the server's address and credential in CUTOR_SERVER."""
    return {**os.environ, "CUTOR_SERVER": server, "PYTHONUNBUFFERED": "1"}
