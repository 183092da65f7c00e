"""The few things set-up asks of the Docker Engine, by the library that cutor itself uses, so that both find the same engine."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import IO, Any

from aiodocker import Docker
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError

from cutor.setup.console import SetupError

SETUP_LABEL = "cutor.setup"
"""On set-up's own containers, with the owner as value, and on the images and volumes that it makes."""


@dataclass(frozen=True)
class OneShot:
    """A container that runs one command with no network, no capability but `capabilities`, and is removed."""

    image: str
    command: Sequence[str]
    capabilities: Sequence[str] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    """volume name to mount point, writable"""
    user: str = "0:0"
    host_config: Mapping[str, Any] = field(default_factory=dict)
    """further settings of the engine's HostConfig"""

    def configuration(self) -> dict[str, Any]:
        """The body of the engine's `create` call."""
        mounts = [
            {"Type": "volume", "Source": name, "Target": target, "VolumeOptions": {"NoCopy": True}}
            for name, target in self.volumes.items()
        ]
        return {
            "Image": self.image,
            "User": self.user,
            "Cmd": list(self.command),
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/",
            "HostConfig": {
                "NetworkMode": "none",
                "CapDrop": ["ALL"],
                "CapAdd": list(self.capabilities),
                "SecurityOpt": ["no-new-privileges"],
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "4m"}},
                "Mounts": mounts,
                **self.host_config,
            },
        }


OWNER: ContextVar[str] = ContextVar("OWNER", default="")
"""Name of the set-up that runs, kept in the file of its lock; empty for tests, which are no set-up."""


@asynccontextmanager
async def created(docker: Docker, configuration: dict[str, Any]) -> AsyncIterator[DockerContainer]:
    """A created container that is removed at the end, whatever happens; `sweep` finds it where this process is killed."""
    owner = OWNER.get()
    name = f"{container_prefix(owner)}{secrets.token_hex(4)}"
    labels = {**configuration.get("Labels", {}), SETUP_LABEL: owner}
    container = await docker.containers.create({**configuration, "Labels": labels}, name=name)
    try:
        yield container
    finally:
        await container.delete(force=True, v=True)


def container_prefix(owner: str) -> str:
    """How the names of a set-up's containers begin."""
    return f"cutor-setup-{owner}-" if owner else "cutor-setup-"


async def sweep(docker: Docker) -> int:
    """Remove the containers that a killed life of this set-up left behind; return how many. To be called under its lock.

    Both label and name have to be of this set-up: the label alone would also be on containers of images committed by it.
    """
    owner = OWNER.get()
    filters = json.dumps({"label": [f"{SETUP_LABEL}={owner}"], "name": [container_prefix(owner)]})
    found = await docker.containers.list(all=True, filters=filters) if owner else []
    for container in found:
        await container.delete(force=True, v=True)
    return len(found)


async def finish(container: DockerContainer, what: str) -> str:
    """Start `container`, wait for its end, return what it printed. SetupError where it fails."""
    await container.start()
    status = (await container.wait())["StatusCode"]
    printed = "".join(await container.log(stdout=True, stderr=True))
    if status != 0:
        raise SetupError(f"{what} failed with code {status}", printed)
    return printed


async def run_once(docker: Docker, shot: OneShot, what: str) -> str:
    """Run `shot` and return its output."""
    async with created(docker, shot.configuration()) as container:
        return await finish(container, what)


async def image_labels(docker: Docker, name: str) -> dict[str, str] | None:
    """Labels of image `name`, `id` among them as `Id`; None where there is no such image."""
    try:
        found = await docker.images.inspect(name)
    except DockerError as error:
        if error.status == 404:
            return None
        raise
    return {**(found["Config"].get("Labels") or {}), "Id": str(found["Id"])}


async def remove_image(docker: Docker, name: str) -> bool:
    """Remove image `name`, where it is there. False where a container uses it."""
    try:
        await docker.images.delete(name)
    except DockerError as error:
        if error.status not in (404, 409):
            raise
        return error.status == 404
    return True


@dataclass(frozen=True)
class Image:
    """An image with its names (`repository:tag`), when it was made (seconds since 1970), and its labels."""

    names: tuple[str, ...]
    created_at: int
    labels: Mapping[str, str]


async def images(docker: Docker, repository: str) -> list[Image]:
    """Every image with a name in `repository`, and with those names alone."""
    found = await docker.images.list(filters={"reference": [f"{repository}:*"]})
    return [
        Image(
            tuple(name for name in image["RepoTags"] or [] if name.startswith(f"{repository}:")),
            int(image["Created"]),
            image["Labels"] or {},
        )
        for image in found
    ]


async def remove_unnamed_images(docker: Docker, label: str) -> None:
    """Remove images with `label` that have lost their name to newer ones, unless a container runs on them."""
    found = await docker.images.list(filters={"dangling": ["true"], "label": [label]})
    for image in found:
        await remove_image(docker, image["Id"])


async def build(docker: Docker, context: IO[bytes], tag: str) -> None:
    """Build `tag` by the engine's classic builder from an uncompressed tar with a Dockerfile in it."""
    try:
        await docker.images.build(fileobj=context, encoding="identity", tag=tag, forcerm=True)
    except DockerError as error:
        raise SetupError(f"image {tag} can't be built: {error.message}") from error


async def put_files(container: DockerContainer, path: str, content: bytes | IO[bytes]) -> None:
    """Unpack a tar below `path` of a container that need not run; volumes of the container are written through."""
    await container.put_archive(path, content)  # type: ignore[no-untyped-call] # aiodocker leaves it untyped


async def volume_labels(docker: Docker, name: str) -> dict[str, str] | None:
    """Labels of volume `name`; None where there is no such volume."""
    try:
        found = await (await docker.volumes.get(name)).show()  # type: ignore[no-untyped-call] # aiodocker leaves it untyped
    except DockerError as error:
        if error.status == 404:
            return None
        raise
    return dict(found.get("Labels") or {})


async def create_volume(docker: Docker, name: str, labels: Mapping[str, str] | None = None) -> None:
    """Make volume `name`; a volume that is there already stays as it is."""
    await docker.volumes.create({"Name": name, "Labels": dict(labels or {})})  # type: ignore[no-untyped-call] # aiodocker leaves it untyped


async def delete_volume(docker: Docker, name: str) -> bool:
    """Remove volume `name`. False where a container has it mounted."""
    try:
        await (await docker.volumes.get(name)).delete()  # type: ignore[no-untyped-call] # aiodocker leaves it untyped
    except DockerError as error:
        if error.status == 409:
            return False
        raise
    return True


async def running_labels(docker: Docker, label: str) -> list[dict[str, str]]:
    """Labels of each running container that has `label`."""
    found = await docker.containers.list(filters=json.dumps({"label": [label]}))
    return [dict(container["Labels"] or {}) for container in found]


async def volume_users(docker: Docker, name: str) -> list[str]:
    """Names of the containers, running or not, that have volume `name` mounted."""
    found = await docker.containers.list(all=True, filters=json.dumps({"volume": [name]}))
    return [container["Names"][0].removeprefix("/") for container in found]
