"""Which archives of Debian make up the offline package set: chosen and checked by apt, kept in a list with digests."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path

from cutor.setup.apt import Package, Repository

RELEASE = "bookworm"

DEBIAN_NAMES: dict[str, tuple[str, ...]] = {
    "runtime": ("libc6", "libgcc-s1", "libstdc++6"),
    "patchelf": ("patchelf",),
    "bash": ("bash-static",),
    "busybox": ("busybox-static",),
    "coreutils": ("coreutils",),
    "diffutils": ("diffutils",),
    "findutils": ("findutils",),
    "gawk": ("gawk",),
    "gnugrep": ("grep",),
    "gnumake": ("make",),
    "gnused": ("sed",),
    "gnutar": ("tar",),
    "gzip": ("gzip",),
    "python3": ("python3.11",),
    "gcc": ("gcc", "g++"),
    "nodejs": ("nodejs",),
    "lua": ("lua5.4",),
}
"""Package of the set to what it is called in Debian; the first name gives the version."""

ASSUMED = (
    *("dpkg", "debianutils", "passwd", "install-info", "readline-common", "media-types"),  # used by maintainer scripts alone
    *("libtirpc3", "libnsl2", "libtirpc-dev", "libnsl-dev", "rpcsvc-proto"),  # Sun RPC
    *("libgprofng0", "node-busboy", "node-xtend"),
)
"""Dependencies that count as present: nothing that users call needs them."""


@dataclass(frozen=True)
class Archive:
    """One .deb: its name in the set, its SHA-256 in hexadecimal, and its name among apt's archives."""

    file: str
    sha256: str
    file_name: str


@dataclass(frozen=True)
class Chosen:
    """Version and archives of one package of the set; archives of the shared runtime are only in package `runtime`."""

    version: str
    archives: tuple[Archive, ...]


def store_name(file_name: str) -> str:
    """`file_name` with what the Nix store refuses in names (the %3a of an epoch, ~) replaced."""
    return re.sub(r"[^A-Za-z0-9+._?=-]", "-", file_name.replace("%3a", "-"))


def upstream_version(version: str) -> str:
    """A Debian version without epoch and revision: 1:9.1-1+b2 is 9.1."""
    without_epoch = version.partition(":")[2] or version
    return without_epoch.rpartition("-")[0] or without_epoch


def choice_digest() -> str:
    """Digest of what decides which archives are taken, but the state of the mirror."""
    return hashlib.sha256(json.dumps([DEBIAN_NAMES, ASSUMED, RELEASE]).encode()).hexdigest()


def divide(plan: Mapping[str, Sequence[Package]], archives: Mapping[str, Archive]) -> dict[str, Chosen]:
    """`plan` with its archives, those of the runtime left out of every other package."""
    runtime = {package.name for package in plan["runtime"]}
    return {name: choose(name, packages, archives, runtime) for name, packages in plan.items()}


def choose(name: str, packages: Sequence[Package], archives: Mapping[str, Archive], runtime: Set[str]) -> Chosen:
    """Version and own archives of package `name` of the set."""
    version = next(package.version for package in packages if package.name == DEBIAN_NAMES[name][0])
    own = [package for package in packages if name == "runtime" or package.name not in runtime]
    return Chosen(upstream_version(version), tuple(archives[package.file_name] for package in own))


def to_json(chosen: Mapping[str, Chosen]) -> str:
    """The list as text, for `debian.nix` and for the next set-up."""
    return json.dumps({name: asdict(package) for name, package in chosen.items()}, indent=1, sort_keys=True)


def from_json(text: str) -> dict[str, Chosen]:
    """The inverse of `to_json`."""
    return {
        name: Chosen(package["version"], tuple(Archive(**archive) for archive in package["archives"]))
        for name, package in json.loads(text).items()
    }


async def load_or_fetch(repository: Repository, *, refresh: bool) -> dict[str, Chosen]:
    """The archives of the last set-up if they are all there still, else those of today's mirror."""
    listing = repository.directory / f"chosen-{choice_digest()[:16]}.json"
    if not refresh and listing.is_file():
        chosen = from_json(listing.read_text())
        if all(repository.path(archive.file_name).is_file() for p in chosen.values() for archive in p.archives):
            return chosen
    chosen = await fetch(repository)
    listing.write_text(to_json(chosen))
    return chosen


async def fetch(repository: Repository) -> dict[str, Chosen]:
    """Choose and download every package with its closure."""
    await repository.refresh()
    plan = {name: await repository.resolve(names) for name, names in DEBIAN_NAMES.items()}
    wanted = {package.file_name: package for packages in plan.values() for package in packages}
    paths = await repository.download(list(wanted.values()))
    return divide(plan, {path.name: describe(path) for path in paths})


def describe(path: Path) -> Archive:
    """`path` with its name in the set and its digest."""
    return Archive(store_name(path.name), hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
