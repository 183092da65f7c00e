"""The offline package set in volume cutor-nix-packages: archives of Debian and the Nix files of `cutor/setup/nix/nixpkgs`.

The volume's label `cutor.packages` is the digest of its contents. The file `digest` in it says the same and is written
last, so that a volume whose filling was cut short is recognised. Label `cutor.recipe` spares a look at the mirror.
"""

import asyncio
import hashlib
import io
import json
import struct
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from aiodocker import Docker

from cutor.setup import debian_set
from cutor.setup.apt import Repository, machine_sources, mirror_override, release_sources
from cutor.setup.child_image import NAME as IMAGE
from cutor.setup.console import SetupError, cache_directory, say, step
from cutor.setup.debian_set import ASSUMED, RELEASE, Chosen
from cutor.setup.docker_api import (
    SETUP_LABEL,
    OneShot,
    create_volume,
    created,
    delete_volume,
    put_files,
    volume_labels,
    volume_users,
)
from cutor.setup.rootfs import read_member
from cutor.setup.volumes import PACKAGES as VOLUME

NIX_FILES = Path("cutor/setup/nix/nixpkgs")
BOOTSTRAP = {"bash": "bin/bash-static", "busybox": "bin/busybox"}
"""Static programs that run the set's builders, by package of the set: path in its archive."""
IN_USE_TIMEOUT_S = 60.0
"""Longer than a build of the set takes; a stack with submissions in its queue has to be stopped."""


def nar_digest(content: bytes) -> str:
    """SHA-256, in hexadecimal, of the Nix archive of one executable file (Nix manual, "Nix Archive format")."""

    def framed(data: bytes) -> bytes:
        return struct.pack("<Q", len(data)) + data + b"\0" * (-len(data) % 8)

    words = (b"nix-archive-1", b"(", b"type", b"regular", b"executable", b"", b"contents", content, b")")
    return hashlib.sha256(b"".join(framed(word) for word in words)).hexdigest()


def recipe_digest(nix_files: Mapping[str, bytes]) -> str:
    """Digest of what decides the set's contents, but the state of the mirror."""
    digest = hashlib.sha256(debian_set.choice_digest().encode())
    for name, content in sorted(nix_files.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def contents_digest(small_files: Mapping[str, bytes], chosen: Mapping[str, Chosen]) -> str:
    """Digest of everything in the set; archives count by the digest they are listed with."""
    files = {name: hashlib.sha256(content).hexdigest() for name, content in small_files.items()}
    files |= {archive.file: archive.sha256 for package in chosen.values() for archive in package.archives}
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def read_nix_files(root: Path) -> dict[str, bytes]:
    """The set's own files, by name."""
    return {path.name: path.read_bytes() for path in sorted((root / NIX_FILES).iterdir()) if path.is_file()}


def bootstrap_files(repository: Repository, chosen: Mapping[str, Chosen]) -> dict[str, bytes]:
    """The builders' programs, and the list of their digests that debian.nix reads."""
    programs = {
        name: read_member(repository.path(chosen[name].archives[-1].file_name), member) for name, member in BOOTSTRAP.items()
    }
    digests = {name: nar_digest(content) for name, content in programs.items()}
    files = {f"bootstrap/{name}": content for name, content in programs.items()}
    return {**files, "bootstrap.json": json.dumps(digests, sort_keys=True).encode()}


def write_tar(output: Path, small_files: Mapping[str, bytes], archives: Mapping[str, Path], digest: str) -> None:
    """Write the volume's contents as a tar: `nixpkgs/…`, and `digest` last."""
    with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as tar:
        for directory in ("nixpkgs", "nixpkgs/bootstrap", "nixpkgs/debs"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in small_files.items():
            add_file(tar, f"nixpkgs/{name}", content, 0o755 if name.startswith("bootstrap/") else 0o644)
        for name, path in archives.items():
            add_file(tar, f"nixpkgs/debs/{name}", path.read_bytes(), 0o644)
        add_file(tar, "digest", digest.encode(), 0o644)


def add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    """Add a regular file that root owns and all can read."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


async def ensure(docker: Docker, root: Path, *, refresh: bool) -> None:
    """Make and fill the volume unless it was made by the same recipe."""
    labels = await volume_labels(docker, VOLUME)
    if refresh or labels is None or labels.get("cutor.recipe") != recipe_digest(read_nix_files(root)):
        await make(docker, root, refresh=refresh)


async def make(docker: Docker, root: Path, *, refresh: bool) -> None:
    """Fetch what the set is made of, and fill a new volume with it. `refresh` takes the packages of today."""
    nix_files = read_nix_files(root)
    recipe = recipe_digest(nix_files)
    sources = release_sources(machine_sources(), mirror_override(), RELEASE)
    repository = Repository(tuple(sources), cache_directory() / RELEASE, ASSUMED)
    with step(f"package set: archives of Debian {RELEASE}"):
        chosen = await debian_set.load_or_fetch(repository, refresh=refresh)
    small_files = {
        **nix_files,
        **bootstrap_files(repository, chosen),
        "debs.json": debian_set.to_json(chosen).encode(),
    }
    digest = contents_digest(small_files, chosen)
    archives = {a.file: repository.path(a.file_name) for package in chosen.values() for a in package.archives}
    with step(f"package set: {len(archives)} archives into volume {VOLUME}"):
        await replace_volume(docker, {"cutor.packages": digest, "cutor.recipe": recipe})
        with tempfile.TemporaryDirectory(prefix="cutor-setup-") as scratch:
            contents = Path(scratch) / "packages.tar"
            write_tar(contents, small_files, archives, digest)
            await fill_volume(docker, contents)


async def replace_volume(docker: Docker, labels: Mapping[str, str]) -> None:
    """Make the volume anew, empty, with `labels`. Waits for containers that have the old one mounted; SetupError if long."""
    deadline = time.monotonic() + IN_USE_TIMEOUT_S
    while await volume_labels(docker, VOLUME) is not None and not await delete_volume(docker, VOLUME):
        users = ", ".join(await volume_users(docker, VOLUME))
        if time.monotonic() > deadline:
            raise SetupError(f"volume {VOLUME} is to be replaced, but is in use by {users}: stop those (`cutor down`)")
        say(f"package set: waiting for {users or 'a container that just ended'}, which uses the volume to be replaced")
        await asyncio.sleep(2)
    await create_volume(docker, VOLUME, {**labels, SETUP_LABEL: ""})


async def fill_volume(docker: Docker, contents: Path) -> None:
    """Unpack `contents` into the volume, through a container that is never started."""
    shot = OneShot(IMAGE, ["/usr/bin/true"], volumes={VOLUME: "/packages"})
    with contents.open("rb") as stream:
        async with created(docker, shot.configuration()) as container:
            await put_files(container, "/packages", stream)
