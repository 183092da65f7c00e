"""Settings of environment builds: which image and volumes, how Nix evaluates, what a build container may have. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from cutor.model.errors import InvalidPolicy
from cutor.model.limits import GIB, MIB, check_number
from cutor.nix.cache import CachePlace, place_of, public_key_name
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

    ``restrict_eval`` keeps an evaluation from listing the store. ``cores`` is NIX_BUILD_CORES, too. ``build_directory_bytes``
    should be smaller than the memory limit. ``cache_…`` are of the binary cache by which environments get to other hosts
    (`cutor.nix.cache`).
    """

    image: str = "cutor-child:latest"
    """image of build containers; `docker.image` unless set"""
    store_volume: str = "cutor-nix-store"
    """Docker volume with the Nix store; one that is not there is made; to be set with `var_volume`"""
    var_volume: str = "cutor-nix-var"
    """Docker volume with Nix's database; made as the store's"""
    packages_volume: str = "cutor-nix-packages"
    """Docker volume with the offline package set; it must be there"""
    nix_path: str = "nixpkgs=/packages/nixpkgs"
    """`NIX_PATH` of evaluations"""
    system: str = "x86_64-linux"
    """system that environments are built for"""
    network: str = "none"
    """Docker network of build containers, in which they reach nothing private; must be there; `none` is none"""
    refused_networks: tuple[str, ...] = ()
    """networks or addresses that builds must not reach either, such as `198.51.100.0/24`"""
    restrict_eval: bool = True
    """whether evaluations see nothing but `nix_path`, their own files and `allowed_uris`"""
    allow_import_from_derivation: bool = True
    """whether evaluations may import what they build"""
    allowed_uris: tuple[str, ...] = ()
    """prefixes of addresses that evaluations may fetch"""
    substituters: tuple[str, ...] = ()
    """binary caches that builds may fetch from"""
    trusted_public_keys: tuple[str, ...] = ()
    """keys whose signatures on fetched paths count"""
    cores: int = 2
    """CPUs of a build container"""
    build_directory_bytes: int = 512 * MIB
    """bytes of the directory in which builds work; it is memory"""
    store_bytes: int = 8 * GIB
    """bytes that one build may add to the store"""
    min_free_bytes: int = 1 * GIB
    """bytes free on the store's volume with fewer of which no build and no fetch begins"""
    start_timeout_ms: int = 30_000
    """milliseconds that a build container has to start"""
    collection_timeout_ms: int = 600_000
    """milliseconds that a collection of garbage has"""
    cache_url: str | None = None
    """binary cache from which runners fetch environments: `volume:NAME`, `file:///DIRECTORY`, an `http(s)` address"""
    cache_upload_url: str | None = None
    """where builders publish environments, in the same forms; `cache_url` unless set"""
    cache_secret_key_file: str | None = None
    """file with the key by which builders sign what they publish; absolute, mode 0600; without it, nothing is"""
    cache_public_keys: tuple[str, ...] = ()
    """keys whose signatures on what runners fetch count; without one they fetch nothing"""
    cache_network: str = "none"
    """Docker network over which a cache on HTTP is reached; it must be there"""
    cache_timeout_ms: int = 600_000
    """milliseconds that publishing or fetching one environment may take"""


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


def check_cache(settings: NixSettings) -> None:
    """Raise `InvalidPolicy` for the first setting of the cache that can't work, alone or with the others."""
    for name, url in (("nix.cache_url", settings.cache_url), ("nix.cache_upload_url", settings.cache_upload_url)):
        if url is not None:
            place_of(name, url, settings.cache_network)
    for key in settings.cache_public_keys:
        if public_key_name(key) is None:
            name = key.partition(":")[0][:80]  # the rest may be a secret
            raise InvalidPolicy(
                f"nix.cache_public_keys holds {name!r}…: a public key is NAME:BASE64, as `cutor env cache-key` prints it"
            )
    file = settings.cache_secret_key_file
    if file is not None and (not file.startswith("/") or "\0" in file):
        raise InvalidPolicy(f"nix.cache_secret_key_file is {file!r}: it must be an absolute path")
    if settings.cache_url is None and settings.cache_public_keys:
        raise InvalidPolicy("nix.cache_public_keys has no use without nix.cache_url")
    if upload_setting(settings)[1] is None and file is not None:
        raise InvalidPolicy("nix.cache_secret_key_file has no use without nix.cache_url or nix.cache_upload_url")
    if settings.cache_upload_url is not None and file is None:
        raise InvalidPolicy(
            "nix.cache_upload_url has no use without nix.cache_secret_key_file: what is not signed is not fetched"
        )
    if settings.cache_url is not None and file is None and not settings.cache_public_keys:
        raise InvalidPolicy(
            "nix.cache_url needs nix.cache_public_keys (a host with a runner), nix.cache_secret_key_file (one with a builder),"
            " or both"
        )


def download_from(settings: NixSettings) -> CachePlace | None:
    """Return where runners fetch environments; None where no cache is configured, or no key is."""
    if settings.cache_url is None or not settings.cache_public_keys:
        return None
    return place_of("nix.cache_url", settings.cache_url, settings.cache_network)


def upload_to(settings: NixSettings) -> CachePlace | None:
    """Return where builders publish environments; None where they have no key to sign with."""
    name, url = upload_setting(settings)
    if settings.cache_secret_key_file is None or url is None:
        return None
    return place_of(name, url, settings.cache_network)


def upload_setting(settings: NixSettings) -> tuple[str, str | None]:
    """Return the setting that says where to publish, and its value."""
    if settings.cache_upload_url is not None:
        return "nix.cache_upload_url", settings.cache_upload_url
    return "nix.cache_url", settings.cache_url


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
