"""`python -m deploy.compose.base`: an image to build deploy/compose/Dockerfile on, where no registry of images can be reached.

Python and its venv module of Debian bookworm, by the machine's apt and without root. It trusts whom this machine trusts: a
build may have to reach a package index through a proxy with a CA of its own. Tagged `cutor-compose-base:DIGEST` by the digest
of its recipe and of these CAs, so it is made once; `--refresh` takes today's packages.
"""

import asyncio
import hashlib
import sys
import tarfile
import tempfile
from pathlib import Path

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from cutor.setup import engine, rootfs
from cutor.setup.apt import Package, Repository, machine_sources, mirror_override, release_sources
from cutor.setup.base_image import CODENAME
from cutor.setup.console import SetupError, cache_directory, show_log, step
from cutor.setup.docker_api import SETUP_LABEL, build, image_labels
from cutor.setup.purge import COMPOSE_BASE

PACKAGES = (
    "base-files",
    "libc-bin",
    "dash",
    "bash",
    "coreutils",
    "sed",
    "libstdc++6",
    "python3",
    "python3-venv",
    "ca-certificates",
)
ASSUMED = ("debconf", "debianutils", "dpkg", "perl-base", "adduser", "passwd", "mailcap", "media-types", "tzdata")
"""Dependencies that count as present: only scripts of packages need them, which never run here."""

DIRECTORIES = {**dict.fromkeys(("proc", "sys", "dev", "run", "root", "var", "opt", "etc"), 0o755), "tmp": 0o1777}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
NOTE = Path(__file__).resolve().parents[2] / ".setup" / "compose-base"
"""Where prepare.py reads the name."""


def tag() -> str:
    """The name of the image, by the digest of what decides it but the day."""
    files = (Path(__file__), Path(rootfs.__file__), CERTIFICATES)
    sources = b"\0".join(file.read_bytes() for file in files if file.is_file())
    return f"{COMPOSE_BASE}:{hashlib.sha256(sources).hexdigest()[:16]}"


def write_root(output: Path, packages: list[Package], archives: list[Path]) -> None:
    """Write the root file system as a tar to `output`."""
    with output.open("wb") as stream:
        root = rootfs.RootFileSystem(stream)
        for path, mode in DIRECTORIES.items():
            root.directory(path, mode)
        root.link("usr/bin/sh", "dash")
        for path, text in rootfs.accounts().items():
            root.file(path, text.encode())
        for package, archive in zip(packages, archives, strict=True):
            certificates = package.name == "ca-certificates"
            left_out = root.package(archive, (lambda _path: None) if certificates else rootfs.keep_useful)
            if certificates:
                trusted = CERTIFICATES.read_bytes() if CERTIFICATES.is_file() else rootfs.certificate_bundle(left_out)
                root.file(str(CERTIFICATES)[1:], trusted)
        root.close()


def write_context(output: Path, root: Path) -> None:
    """Write the build context: a recipe, and the root file system that it unpacks."""
    recipe = output.with_name("Dockerfile")
    lines = ("FROM scratch", "ADD rootfs.tar /", 'RUN ["/usr/sbin/ldconfig"]', f"ENV LANG=C.UTF-8 PIP_CERT={CERTIFICATES}")
    recipe.write_text("\n".join((*lines, f"LABEL {SETUP_LABEL}=compose-base", "")))
    with tarfile.open(output, "w") as context:
        context.add(recipe, "Dockerfile")
        context.add(root, root.name)


async def ensure(docker: Docker, *, refresh: bool) -> str:
    """Make the image unless it is there; return its name. Raises SetupError."""
    name = tag()
    if not refresh and await image_labels(docker, name) is not None:
        return name
    sources = release_sources(machine_sources(), mirror_override(), CODENAME)
    debian = Repository(tuple(sources), cache_directory() / "compose-base", ASSUMED)
    with step(f"base of the compose image: package lists of Debian {CODENAME}"):
        await debian.refresh()
        packages = await debian.resolve(PACKAGES)
    with step(f"base of the compose image: {len(packages)} packages"):
        archives = await debian.download(packages)
    with step("base of the compose image"), tempfile.TemporaryDirectory(prefix="cutor-setup-") as scratch:
        root, context = Path(scratch) / "rootfs.tar", Path(scratch) / "context.tar"
        write_root(root, packages, archives)
        write_context(context, root)
        with context.open("rb") as stream:
            await build(docker, stream, name)
    return name


async def made(*, refresh: bool) -> str:
    """The image, made where it is missing, with the engine that set-up uses."""
    await engine.ensure()
    async with Docker() as docker:
        return await ensure(docker, refresh=refresh)


def main() -> int:
    """Make the image, note its name for prepare.py, and print it. Returns the exit code."""
    try:
        name = asyncio.run(made(refresh="--refresh" in sys.argv[1:]))
    except (SetupError, DockerError, aiohttp.ClientError) as error:
        if isinstance(error, SetupError):
            show_log(error)
        print(f"compose-base: {error}", file=sys.stderr)
        return 1
    NOTE.parent.mkdir(exist_ok=True)
    NOTE.write_text(f"{name}\n")
    print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
