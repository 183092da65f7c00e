"""The child image: the base layer, and on top of it one small layer with cutor's own files.

The top layer holds what `cutor/setup/image/contents.txt` lists and the static helper `jail_init.c`. The image is tagged
`cutor-child:DIGEST` by the digest over everything that went in (label `cutor.inputs`), so that checkouts of different
versions have images of their own; a note (`cutor.installation.image_note`) names that of this code, and `cutor up` reads it.
`cutor-child:latest` is the image that set-up made or found last.
"""

import hashlib
import io
import re
import shlex
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aiodocker import Docker

from cutor.setup import base_image, machine
from cutor.setup.console import SetupError, run, step
from cutor.setup.docker_api import (
    SETUP_LABEL,
    Image,
    OneShot,
    created,
    finish,
    image_labels,
    images,
    put_files,
    remove_image,
    remove_unnamed_images,
)

REPOSITORY = "cutor-child"
NAME = f"{REPOSITORY}:latest"
KEPT = 16
"""How many images stay, the newest: each is a megabyte over its base, and a running stack or another checkout may want it."""
CONTENTS = Path("cutor/setup/image/contents.txt")
HELPER_SOURCE = Path("cutor/setup/image/jail_init.c")
HELPER_DESTINATION = "/opt/cutor/bin/jail-init"
PROTOCOL = Path("cutor/jail/inside/protocol.py")
NIX_CONFIGURATION = "/etc/nix/nix.conf"
"""What is in it decides what an environment is: its digest is a label, and part of every environment's key."""
COMPILER_FLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror")
LABELS = ("cutor.inputs", "cutor.base", "cutor.protocol", "cutor.nix-configuration")
BUNDLE = "python3 -S -E /opt/cutor/bundle.py cutor.jail.inside.worker_init /opt/cutor/worker_init.pyc"
"""The init that is started for every container of a runner's, in one file."""
PRECOMPILE = f"{base_image.COMPILE} /opt/cutor && {BUNDLE}"


@dataclass(frozen=True)
class Item:
    """A file, by its path from what holds the package, and its absolute place in the image."""

    source: Path
    destination: str


def parse_contents(text: str) -> list[Item]:
    """Lines `SOURCE DESTINATION`; blank lines and what follows `#` are skipped. SetupError on any other line."""
    items = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not words[1].startswith("/") or ".." in PurePosixPath(words[1]).parts:
            raise SetupError(f"{CONTENTS}, line {number}: want `SOURCE /DESTINATION`, got {line.strip()!r}")
        items.append(Item(Path(words[0]), words[1]))
    return items


def protocol_version(text: str) -> str | None:
    """The number in the line `PROTOCOL_VERSION = N` of the stage protocol; None where there is no such line."""
    match = re.search(r"^PROTOCOL_VERSION(?:\s*:\s*[\w.\[\]]+)?\s*=\s*(\d+)\b", text, re.MULTILINE)
    return match.group(1) if match else None


def inputs_digest(base_id: str, files: Sequence[tuple[str, int, bytes]], commands: Sequence[str]) -> str:
    """Digest over the base image, every file's place, mode and content, and the commands that make the rest."""
    digest = hashlib.sha256(base_id.encode())
    for destination, mode, content in sorted(files):
        digest.update(f"\0{destination}\0{mode:o}\0{len(content)}\0".encode() + content)
    for command in commands:
        digest.update(b"\0" + command.encode())
    return digest.hexdigest()


def read_files(root: Path) -> list[tuple[str, int, bytes]]:
    """What contents.txt lists: destination, mode, content. SetupError where a source is missing."""
    files = []
    for item in parse_contents((root / CONTENTS).read_text()):
        source = root / item.source
        if not source.is_file():
            raise SetupError(f"{CONTENTS} lists {item.source}, which is missing")
        files.append((item.destination, 0o755 if source.stat().st_mode & 0o100 else 0o644, source.read_bytes()))
    return files


async def compile_helper(source: Path) -> bytes:
    """The static helper, compiled by the machine's C compiler."""
    if not await machine.compiles_statically():
        await machine.install(["gcc", "libc6-dev"], "a C compiler, for the helper in the child image")
    with tempfile.TemporaryDirectory(prefix="cutor-setup-") as scratch:
        output = Path(scratch) / "jail-init"
        await run(["cc", *COMPILER_FLAGS, "-o", output, source])
        return output.read_bytes()


def layer(files: Sequence[tuple[str, int, bytes]]) -> bytes:
    """The top layer as a tar, directories of the files included."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        parents = {parent for path, _, _ in files for parent in PurePosixPath(path).parents if parent.name}
        for parent in sorted(parents):
            entry = tarfile.TarInfo(str(parent).lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, mode, content in sorted(files):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()


@dataclass(frozen=True)
class Wanted:
    """What the top layer is to hold: files of contents.txt, the helper's source, the protocol's version, their digest."""

    files: Sequence[tuple[str, int, bytes]]
    helper: bytes | None
    protocol: str | None
    digest: str


def wanted(root: Path, base_id: str) -> Wanted:
    """Read the package below `root` for a top layer on the image `base_id`."""
    files = read_files(root)
    helper, protocol = read_optional(root / HELPER_SOURCE), read_optional(root / PROTOCOL)
    version = protocol_version(protocol.decode()) if protocol is not None else None
    inputs = files if helper is None else [*files, (HELPER_DESTINATION, 0o755, helper)]
    return Wanted(files, helper, version, inputs_digest(base_id, inputs, [*COMPILER_FLAGS, PRECOMPILE, version or "", *LABELS]))


def configuration_digest(files: Sequence[tuple[str, int, bytes]]) -> str:
    """Digest of Nix's configuration among the files of the image; that of nothing where there is none."""
    return hashlib.sha256(b"".join(content for place, _, content in files if place == NIX_CONFIGURATION)).hexdigest()


def read_optional(path: Path) -> bytes | None:
    """Content of a file that another part of the project brings; None while it does not."""
    return path.read_bytes() if path.is_file() else None


def name_of(digest: str) -> str:
    """The name of the image whose inputs have this digest."""
    return f"{REPOSITORY}:{digest[:16]}"


async def ensure(docker: Docker, root: Path, base: str, note: Path) -> str:
    """Make the child image of the package below `root` unless it is there; return its name, which `note` keeps."""
    base_labels = await image_labels(docker, base)
    if base_labels is None:
        raise SetupError(f"image {base} vanished while set-up ran; run set-up again")
    top = wanted(root, base_labels["Id"])
    name = name_of(top.digest)
    present = await image_labels(docker, name)
    if present is None or present.get("cutor.inputs") != top.digest:
        with step(f"child image: top layer of {name}"):
            files = list(top.files)
            if top.helper is not None:
                files.append((HELPER_DESTINATION, 0o755, await compile_helper(root / HELPER_SOURCE)))
            labels = {"cutor.inputs": top.digest, "cutor.base": base, SETUP_LABEL: ""}
            labels |= {"cutor.protocol": top.protocol} if top.protocol else {}
            labels |= {"cutor.nix-configuration": configuration_digest(top.files)}
            await add_layer(docker, base, layer(files), labels, name)
    await docker.images.tag(name, REPOSITORY, tag="latest")
    keep(note, name)
    await remove_superseded(docker, base, name)
    return name


def keep(note: Path, name: str) -> None:
    """Write the name of the image into its note."""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{name}\n")


async def remove_superseded(docker: Docker, base: str, own: str) -> None:
    """Remove images that lost their name, old ones of `superseded`, and bases on which none is left, but no image in use."""
    await remove_unnamed_images(docker, "cutor.nix-version")
    children = [image for image in await images(docker, REPOSITORY) if SETUP_LABEL in image.labels]  # no hand-made ones
    for name in superseded(children, own):
        await remove_image(docker, name)
    left = await images(docker, REPOSITORY)
    bases = {base, *(image.labels.get("cutor.base", "") for image in left)}
    for image in await images(docker, base_image.REPOSITORY):
        for name in set(image.names) - bases:
            await remove_image(docker, name)


def superseded(children: Sequence[Image], own: str) -> list[str]:
    """Names of the images to remove: all but the `KEPT` newest, `own`, and the one that is also `NAME`."""
    old = sorted(children, key=lambda image: image.created_at, reverse=True)[KEPT:]
    return [name for image in old if not {own, NAME} & set(image.names) for name in image.names]


async def add_layer(docker: Docker, base: str, content: bytes, labels: dict[str, str], name: str) -> None:
    """Put `content` (a tar) over `base`, precompile the Python in it, and call the outcome `name`."""
    shot = OneShot(base, ["/usr/bin/bash", "-c", PRECOMPILE])
    repository, _, tag = name.partition(":")
    async with created(docker, shot.configuration()) as container:
        await put_files(container, "/", content)
        await finish(container, "precompiling cutor's files in the child image")
        changes = [f"LABEL {label}={shlex.quote(value)}" for label, value in labels.items()]
        await container.commit(repository=repository, tag=tag, changes=[*changes, 'CMD ["/usr/bin/bash"]'])
