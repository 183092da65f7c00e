"""What a deployer configures, and where things are. The only reader of the environment and of ``config.toml``.

`Surroundings.read` takes what cutor wants to know from the environment; `load` finds and checks the file. An unknown key, a
wrong type or a value that cannot work is an `InvalidConfig`: one line that names file and key. The reference page
``docs/reference/configuration.md`` is generated from the structs here.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from cutor.containers.host_config import OPEN_FILES_CEILING
from cutor.errors import REFUSED, CutorError
from cutor.logs import LogFormat
from cutor.metrics.settings import MetricsSettings, check_metrics
from cutor.model.errors import InvalidPolicy
from cutor.model.limits import (
    DEFAULT_LIMITS,
    STAGE_KINDS,
    UNITS,
    Bounds,
    Limit,
    LimitPolicies,
    LimitPolicy,
    Policy,
    RequestedLimit,
    check_policy,
)
from cutor.model.quoting import shown
from cutor.model.request import RUN_SCRIPT, SHELL_NIX, explain, explain_toml
from cutor.model.subjects import TENANT
from cutor.nix.inside.namespace import HOST_ID_BASE, ID_COUNT
from cutor.nix.settings import NixSettings, check_settings

CONFIG_FILE_BYTES: Final = 1 << 20
DEFAULT_PORT: Final = 4222
DOCKER_SCHEMES: Final = ("unix://", "tcp://")
IMAGE_NOTE: Final = Path(__file__).parents[1] / ".setup" / "child-image"
"""Where `make setup` of a checkout notes the name of the image that it made from that checkout; elsewhere there is none."""
SYNC_INTERVAL: Final = re.compile(r"always|[1-9][0-9]{0,5}(ms|s|m|h)", re.ASCII)
_NOTED_IMAGE: Final = re.compile(r"cutor-child:[0-9a-f]{16}", re.ASCII)
FIRST_FREE_UID: Final = 65536
"""Below it are the uids of the host's own users; the uids of runner slots must not be any of them."""

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


class StageLimits(_Section, frozen=True, kw_only=True):
    """Default and maximum of the limits of one stage kind; a limit left out keeps its built-in value."""

    default: RequestedLimit = RequestedLimit()
    maximum: RequestedLimit = RequestedLimit()


class LimitsSettings(_Section, frozen=True, kw_only=True):
    """One `StageLimits` a stage kind."""

    dependencies: StageLimits = StageLimits()
    compile: StageLimits = StageLimits()
    run: StageLimits = StageLimits()


class ServerSettings(_Section, frozen=True, kw_only=True):
    """The NATS server: which one commands and roles talk to, the port of the embedded one, and the streams in it."""

    url: Annotated[str, Meta(description="the server of commands and roles where nothing else names one")] | None = None
    port: Annotated[int, Meta(ge=1, le=65535, description="the port of the embedded server; must be free then")] | None = None
    sync_interval: Annotated[
        str,
        Meta(
            description="how often the embedded server forces appends to the disk: `2m`, `500ms` …, or `always`, each by itself"
        ),
    ] = "2m"
    streams: Annotated[str, Meta(description="a `streams.yaml` of one's own instead of the shipped one; absolute")] | None = (
        None
    )
    replicas: (
        Annotated[int, Meta(ge=1, le=5, description="copies of every stream, whatever `streams.yaml` says: 3 in a cluster")]
        | None
    ) = None
    tls_ca: Annotated[str, Meta(description="the CA that is trusted instead of the system's, in PEM; absolute")] | None = None
    tls_cert: (
        Annotated[str, Meta(description="a certificate of one's own, where the server wants one of clients, in PEM; absolute")]
        | None
    ) = None
    tls_key: Annotated[str, Meta(description="the key of `tls_cert`, in PEM, without a password; absolute")] | None = None


class DockerSettings(_Section, frozen=True, kw_only=True):
    """The Docker Engine that serves this host, and the image of child containers."""

    host: Annotated[str, Meta(description="address of the engine, `unix://…` or `tcp://…`; else `DOCKER_HOST`")] | None = None
    image: Annotated[
        str, Meta(description="image of child containers; in a checkout, the one that its own `make setup` made, once it did")
    ] = "cutor-child:latest"


class BuilderSettings(_Section, frozen=True, kw_only=True):
    """A builder process."""

    slots: Annotated[int, Meta(ge=1, le=256, description="environment builds at one time")] = 1


class RunnerSettings(_Section, frozen=True, kw_only=True):
    """A runner process."""

    slots: Annotated[int, Meta(ge=1, le=1024, description="submissions at one time; no more than CPUs keeps times true")] = 2
    uid_base: Annotated[
        int,
        Meta(
            ge=FIRST_FREE_UID,
            le=2_000_000_000,
            description="lowest uid and gid of running submissions; each takes the next that is free on the host",
        ),
    ] = 300_000


class ProjectorSettings(_Section, frozen=True, kw_only=True):
    """The projector."""

    database: Annotated[
        str, Meta(min_length=1, description="the DuckDB file; a relative path starts at the data directory")
    ] = "projections.duckdb"
    snapshot_age_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=3_600_000,
            description="how old what a query sees may be, where it does not say; 0: all that was committed when it came",
        ),
    ] = 0
    snapshot_interval_s: Annotated[
        float, Meta(ge=0, le=31_536_000, description="seconds between two snapshots that are published as a file; 0: none is")
    ] = 0.0
    snapshot_path: Annotated[
        str, Meta(min_length=1, description="where they are published; a relative path starts beside `database`")
    ] = "snapshot.duckdb"


class ArchiveSettings(_Section, frozen=True, kw_only=True):
    """The archive: streams in Parquet files."""

    directory: (
        Annotated[str, Meta(description="where the archive lies; absolute; without it `cutor archive` wants `--directory`")]
        | None
    ) = None
    segment_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=1 << 30,
            description="bytes of messages' bodies with which a file is full; so much memory is used twice over",
        ),
    ] = 128 << 20
    segment_age_s: Annotated[
        int, Meta(ge=60, le=31_536_000, description="seconds after which messages are sealed though their file is not full")
    ] = 86_400
    interval_s: Annotated[
        int,
        Meta(ge=1, le=86_400, description="seconds between two rounds of the archiver, which seals what there is to seal"),
    ] = 600
    retain_days: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=36_500,
                description="days after which EVENTS lets go of what is sealed, compared, and of submissions that have ended; "
                "without it of nothing",
            ),
        ]
        | None
    ) = None


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
            limits=LimitPolicies(**{kind: _policy_of(kind, getattr(self.limits, kind)) for kind in STAGE_KINDS}),
            bounds=self.bounds,
            tenants=dict(self.tenants),
            max_leases=self.max_leases,
        )


def _policy_of(kind: str, stage: StageLimits) -> LimitPolicy:
    """Return the built-in policy with what is configured in its place; a built-in default gives way to a lower maximum."""
    built_in: LimitPolicy = getattr(DEFAULT_LIMITS, kind)
    maximum = {name: _either(getattr(stage.maximum, name), getattr(built_in.maximum, name)) for name in UNITS}
    default = {
        name: _either(getattr(stage.default, name), min(getattr(built_in.default, name), maximum[name])) for name in UNITS
    }
    return LimitPolicy(default=Limit(**default), maximum=Limit(**maximum))


def _either(configured: int | None, built_in: int) -> int:
    return built_in if configured is None else configured


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
            config = parse(b"", "the built-in configuration", image=made_image())
            return Loaded(config=_with_surroundings(config, surroundings), file=None, raw=b"")
    raw = _read(file)
    config = parse(raw, str(file), image=made_image())
    return Loaded(config=_with_surroundings(config, surroundings), file=file.absolute(), raw=raw)


def made_image(note: Path = IMAGE_NOTE) -> str | None:
    """Return the name of the image that belongs to this code; None where no `make setup` made one from it.

    The name holds a digest of all that went in, so that set-ups of other checkouts leave it alone.
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
    _check_uids(config.runner)
    if not SYNC_INTERVAL.fullmatch(config.server.sync_interval):
        raise InvalidPolicy(
            f"server.sync_interval: {config.server.sync_interval[:40]!r} is neither `always` nor a time such as 2m or 500ms"
        )
    paths = [("data_directory", config.data_directory), ("archive.directory", config.archive.directory)]
    for key, path in (*paths, *_server_files(config.server)):
        if path is not None and (not Path(path).is_absolute() or "\0" in path):
            raise InvalidPolicy(f"{key}: {path!r} must be an absolute path, without a NUL character")
    _check_archive(config.archive)
    if (config.server.tls_cert is None) != (config.server.tls_key is None):
        raise InvalidPolicy("server: tls_cert and tls_key belong together: name both, or neither")
    for name in ("database", "snapshot_path"):
        if "\0" in (path := getattr(config.projector, name)):
            raise InvalidPolicy(f"projector.{name}: {path!r} holds a NUL character")
    if Path(config.projector.database).name == Path(config.projector.snapshot_path).name:
        raise InvalidPolicy("projector.snapshot_path: it must not have the name of projector.database: it would take its place")


def _check_archive(archive: ArchiveSettings) -> None:
    if archive.retain_days is not None and archive.directory is None:
        raise InvalidPolicy("archive.retain_days: nothing may go that is not sealed: set archive.directory, too")


def _check_weights(tenants: Any) -> None:
    """Raise `InvalidPolicy` that names the tenant whose weight is none: msgspec does not say which it is."""
    for tenant, weight in tenants.items() if isinstance(tenants, dict) else ():
        if type(weight) is not int or weight < 1:
            named = tenant if TENANT.fullmatch(tenant) else shown(tenant)
            raise InvalidPolicy(f"tenants.{named}: the weight {shown(str(weight))} must be a whole number, 1 at least")


def _server_files(server: ServerSettings) -> list[tuple[str, str | None]]:
    return [(f"server.{name}", getattr(server, name)) for name in ("streams", "tls_ca", "tls_cert", "tls_key")]


def _check_limits(policy: Policy) -> None:
    """Raise `InvalidPolicy` for a limit that no container can be given, or a bound that no request can keep."""
    for kind in STAGE_KINDS:
        for name, ceiling in LIMIT_CEILINGS.items():
            if (maximum := getattr(getattr(policy.limits, kind).maximum, name)) > ceiling:
                raise InvalidPolicy(
                    f"limits.{kind}: the maximum {name} {maximum} is more than {ceiling} {UNITS[name]}, the most there can be"
                )
    for name, least in LEAST_BOUNDS.items():
        if (bound := getattr(policy.bounds, name)) < least:
            raise InvalidPolicy(f"bounds.{name} is {bound}: every request needs {least}, for {SHELL_NIX} and {RUN_SCRIPT}")


def _check_uids(runner: RunnerSettings) -> None:
    """Raise `InvalidPolicy` where a slot would have the uid of something inside a build container."""
    first, last = runner.uid_base, runner.uid_base + runner.slots - 1
    if first < HOST_ID_BASE + ID_COUNT and last >= HOST_ID_BASE:
        taken = f"{HOST_ID_BASE} to {HOST_ID_BASE + ID_COUNT - 1}"
        raise InvalidPolicy(f"runner.uid_base: the slots' uids {first} to {last} overlap those of build containers, {taken}")


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
