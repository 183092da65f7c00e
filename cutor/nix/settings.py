"""Settings of environment builds: which image and volumes, how Nix evaluates, what a build container may have. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from cutor.model.errors import InvalidPolicy
from cutor.model.limits import GIB, MIB, check_number
from cutor.nix.cache import check_cache
from cutor.nix.inside.refused_networks import parse

REQUIRED: Final = (2, 34, 5)
"""The first release of its series without CVE-2026-39860; options and formats that build containers use are those of 2.34."""

_VERSION: Final = re.compile(r"(?:^|\s)(\d+)\.(\d+)(?:\.(\d+))?")
_SYSTEM: Final = re.compile(r"[a-z0-9_]+-[a-z0-9]+")
_DOCKER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
_NAMES: Final = ("image", "store_volume", "var_volume", "packages_volume", "cache_network")
_NETWORK: Final = re.compile(r"(?!(?:host|default)$)[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names of networks that a container can be in. The host's is none: a build's filter would be the host's."""
_NUMBERS: Final = (
    *("cores", "build_directory_bytes", "store_bytes", "min_free_bytes"),
    *("start_timeout_ms", "collection_timeout_ms", "cache_timeout_ms"),
)


class NixSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How environments are built; every field has a default that works without a network.

    ``nix_path`` is NIX_PATH of the evaluation, ``network`` a Docker network for build containers (``none``: no network), in
    which a build reaches nothing private, and nothing of ``refused_networks`` (networks or addresses).
    ``restrict_eval`` keeps an evaluation to ``nix_path``, its own files and ``allowed_uris``: it can't list the store.
    ``substituters`` are binary caches, whose paths must be signed by one of ``trusted_public_keys``; both need a network.
    ``cores`` is the CPUs of a build container, and NIX_BUILD_CORES. ``build_directory_bytes`` bounds the directory in which
    builders work; it is memory, and should be smaller than the memory limit. ``store_bytes`` is what one build may add to the
    store; with less than ``min_free_bytes`` left on its volume, none begins, and no fetch. Times are milliseconds.
    ``cache_…`` are of the binary cache by which environments get to other hosts (`cutor.nix.cache`).
    """

    image: str = "cutor-child:latest"
    store_volume: str = "cutor-nix-store"
    var_volume: str = "cutor-nix-var"
    packages_volume: str = "cutor-nix-packages"
    nix_path: str = "nixpkgs=/packages/nixpkgs"
    system: str = "x86_64-linux"
    network: str = "none"
    refused_networks: tuple[str, ...] = ()
    restrict_eval: bool = True
    allow_import_from_derivation: bool = True
    allowed_uris: tuple[str, ...] = ()
    substituters: tuple[str, ...] = ()
    trusted_public_keys: tuple[str, ...] = ()
    cores: int = 2
    build_directory_bytes: int = 512 * MIB
    store_bytes: int = 8 * GIB
    min_free_bytes: int = 1 * GIB
    start_timeout_ms: int = 30_000
    collection_timeout_ms: int = 600_000
    cache_url: str | None = None
    cache_upload_url: str | None = None
    cache_secret_key_file: str | None = None
    cache_public_keys: tuple[str, ...] = ()
    cache_network: str = "none"
    cache_timeout_ms: int = 600_000


def check_settings(settings: NixSettings) -> None:
    """Raise `InvalidPolicy` naming the first setting that can't work."""
    for name in _NAMES:
        value: str = getattr(settings, name)
        if not _DOCKER_NAME.fullmatch(value):
            raise InvalidPolicy(f"nix.{name} is {value!r}: it must be a name that Docker takes")
    if not _NETWORK.fullmatch(settings.network):
        raise InvalidPolicy(
            f"nix.network is {settings.network!r}: it must be the name of a Docker network, or none; the host's own can't be"
            " had: a build in it would be among the host's services"
        )
    try:
        parse(settings.refused_networks)
    except ValueError as error:
        raise InvalidPolicy(f"nix.refused_networks: {error}: write a network such as 198.51.100.0/24, or an address") from error
    if not _SYSTEM.fullmatch(settings.system):
        raise InvalidPolicy(f"nix.system is {settings.system!r}: it must look like x86_64-linux")
    for text in (settings.nix_path, *settings.allowed_uris, *settings.substituters, *settings.trusted_public_keys):
        if not text.isprintable() or not text.isascii() or " " in text:
            raise InvalidPolicy(f"nix.nix_path, uris, substituters and keys must be plain text without spaces, found {text!r}")
    for name in _NUMBERS:
        check_number(f"nix.{name}", getattr(settings, name))
    check_cache(settings)
    _check_store(settings)


def _check_store(settings: NixSettings) -> None:
    """Raise `InvalidPolicy` where only half of the built-in store is replaced: its database would be that of two stores."""
    store_volume, var_volume, built_in = settings.store_volume, settings.var_volume, NixSettings()
    if (store_volume == built_in.store_volume) != (var_volume == built_in.var_volume) or store_volume == var_volume:
        raise InvalidPolicy(
            f"nix.store_volume is {store_volume!r} and nix.var_volume {var_volume!r}: a store and its database go together,"
            " each in a volume of its own; set both, or none"
        )


def evaluation_options(settings: NixSettings) -> tuple[str, ...]:
    """Return the options of Nix that decide what an expression evaluates to; no shell reads them."""
    return (
        *("--option", "eval-system", settings.system),
        *("--option", "restrict-eval", _flag(settings.restrict_eval)),
        *("--option", "allow-import-from-derivation", _flag(settings.allow_import_from_derivation)),
        *("--option", "allowed-uris", " ".join(settings.allowed_uris)),
        *("-I", "cutor-box=/box"),  # restrict-eval allows what the search path names: the submission's own files
    )


def daemon_configuration(settings: NixSettings) -> str:
    """Return what is added to the image's ``nix.conf`` for the daemon of a build, in that file's form."""
    lines = {
        "cores": str(settings.cores),
        "max-jobs": str(settings.cores),
        "substituters": " ".join(settings.substituters),
        "trusted-public-keys": " ".join(settings.trusted_public_keys),
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def nix_version(text: str) -> tuple[int, int, int] | None:
    """Return the version in the output of ``nix --version`` or in a plain version; None where there is none."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def nix_version_ok(text: str) -> bool:
    """Return whether ``nix --version`` prints a release that cutor may use: `REQUIRED` or newer."""
    version = nix_version(text)
    return version is not None and version >= REQUIRED


def _flag(value: bool) -> str:
    return "true" if value else "false"
