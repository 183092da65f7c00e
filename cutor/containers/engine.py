"""Docker, as far as cutor needs it: start a child container, remove it, list what carries a label, look at images and volumes.

With `child` the only importer of aiodocker. One `Engine` a process, one `Child` a container. Errors: those of ``errors``;
everything else is a bug.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import aiohttp
from aiodocker import Docker
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError

from cutor.containers import requested
from cutor.containers.child import Child, pipes_of
from cutor.containers.control_group import limit_sockets
from cutor.containers.errors import EngineFailure, EngineRefused, EngineUnreachable, ImageMissing, one_line
from cutor.containers.host_config import ContainerSpec, VolumeSpec
from cutor.containers.labels import ENVIRONMENT_LABEL, INSTANCE_LABEL
from cutor.containers.remedies import DEFAULT_SOCKET, image_missing, unreachable
from cutor.undisturbed import to_the_end

REMOVED_LOOK_S: Final = 0.05
"""Between two tries at a container whose removal is under way already. A choice: Docker takes tenths of a second for one."""
REQUEST_TIMEOUT_S: Final = 60.0
"""Docker answers in milliseconds, on a busy machine in seconds: one that takes a minute hangs."""
DISCARD_PAUSES_S: Final = (0.0, 0.2, 1.0)
"""When to look for a container whose creation Docker never answered: it may still be at it."""
GONE_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses between two tries to remove a container that Docker would not let go; the last one stays."""
_CANNOT_CONNECT: Final = 900  # aiodocker's number for "no answer at all"

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContainerSummary:
    """One line of a listing, for sweeps: what carries an instance's label on this host."""

    id: str
    name: str
    state: str
    labels: dict[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs in it any more, by the state with which Docker lists it."""
        return self.state in {"exited", "dead"}


class Engine:
    """A connection to one Docker Engine: ``async with Engine.connect() as engine``."""

    def __init__(self, docker: Docker, address: str) -> None:
        self._docker = docker
        self.address = address
        self._answered_s = float("-inf")

    @classmethod
    @asynccontextmanager
    async def connect(cls, docker_host: str | None = None) -> AsyncIterator[Engine]:
        """Connect to ``docker_host`` (``unix://…`` or ``tcp://…``; null means `DEFAULT_SOCKET`) and check that it answers.

        Raises `EngineUnreachable`. Reads no environment variable: the caller's configuration does.
        """
        address = docker_host or DEFAULT_SOCKET
        try:
            docker = Docker(url=address)
        except ValueError as error:
            raise EngineUnreachable(f"Docker's address {address!r} is not understood: {error}") from error
        docker.connector._limit = 0  # attached containers hold a connection each; of a hundred, none was left for a request
        try:
            engine = cls(docker, address)
            await engine.version()
            yield engine
        finally:
            await docker.close()

    async def call(self, what: str, request: Awaitable[T], *, keep_status: set[int] | None = None) -> T:
        """Await one request with a deadline, its errors in this module's terms; those of ``keep_status`` stay `DockerError`."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                answer = await request
        except TimeoutError as error:
            raise EngineFailure(f"Docker did not answer within {REQUEST_TIMEOUT_S:.0f} s: {what}") from error
        except DockerError as error:
            if keep_status is not None and error.status in keep_status:
                raise
            if error.status == _CANNOT_CONNECT:
                raise unreachable(self.address, error) from error
            raise EngineRefused(f"Docker could not {what}: {one_line(str(error.message))} (status {error.status})") from error
        except (OSError, aiohttp.ClientError) as error:
            raise unreachable(self.address, error) from error
        self._answered_s = time.monotonic()
        return answer

    @property
    def is_local(self) -> bool:
        """Whether it is asked over a socket of this host: then the end of its process ends every connection at once."""
        return self.address.startswith("unix://")

    def answered_within(self, seconds: float) -> bool:
        """Return whether the engine did something that it was asked for so short a time ago."""
        return time.monotonic() - self._answered_s < seconds

    def post(self, path: str, body: dict[str, Any]) -> Awaitable[Any]:
        """Return a POST request that aiodocker has no method for."""
        return self._docker._query_json(path, method="POST", data=body)

    async def version(self) -> dict[str, Any]:
        """Return Docker's version document (``Version``, ``ApiVersion``, ``Arch``, ``KernelVersion`` …)."""
        return await self.call("say its version", self._docker.version())

    async def ping(self) -> bool:
        """Return whether what answers is a Docker Engine (0.9 ms; its version takes 11: Docker runs programs to tell it)."""

        async def api_version() -> str | None:
            async with self._docker._query("_ping", versioned_api=False) as response:
                await response.read()
                return response.headers.get("Api-Version")

        return await self.call("say that it is there", api_version()) is not None

    async def notices(self, filters: Mapping[str, Sequence[str]]) -> AsyncGenerator[bytes, None]:
        """Yield once Docker is listened to, then whenever it tells of something: raw, and of several at once only once.

        It begins with those of Docker's last 256 that pass the filters. Ends with the connection. Raises `EngineFailure`.
        """
        parameters = {"filters": json.dumps(filters), "since": "1"}
        request = self._docker._query("events", params=parameters, timeout=aiohttp.ClientTimeout())
        response = await self.call("tell of its events", request.__aenter__())
        try:
            yield b""
            async for noticed in response.content.iter_any():
                yield noticed
        except (OSError, aiohttp.ClientError) as error:
            raise unreachable(self.address, error) from error
        finally:
            response.close()

    async def start(self, spec: ContainerSpec) -> Child:
        """Create the container, attach its pipes, start it: in this order, so that not a byte is lost (about 250 ms).

        Raises `ImageMissing`, `EngineFailure`. Whatever goes wrong, also when cancelled, no container is left: one that was
        made is removed before this ends, however long Docker fails to.
        """
        container = await self._create_or_discard(spec)
        stream = pipes_of(self._docker, container.id)
        try:
            await self.call(f"attach to {spec.name}", stream.__aenter__())
            await self.call(f"start {spec.name}", container.start())
            limit_sockets(container.id)  # nothing of a user's runs yet
        except BaseException:
            await stream.close()
            await to_the_end(self.discard(container.id, spec.name))
            raise
        return Child(self, container, stream, spec.name)

    async def _create_or_discard(self, spec: ContainerSpec) -> DockerContainer:
        """Create the container, or make sure that there is none.

        Docker goes on creating when its client has gone: a cancellation waits for the answer, and what was made is known by
        its name alone. Where Docker itself refused, nothing was made. What becomes of a kill meanwhile: `requested`.
        """
        requested.note(spec.name, spec.labels)
        try:
            container = await to_the_end(self._create(spec))
        except (EngineRefused, ImageMissing):
            requested.forget(spec.name, spec.labels)
            raise
        except BaseException as error:
            await to_the_end(self._discard(spec))
            if not _unanswered(error):
                requested.forget(spec.name, spec.labels)
            raise
        requested.forget(spec.name, spec.labels)
        return container

    async def _discard(self, spec: ContainerSpec) -> None:
        """Remove a container that may or may not have been made. What Docker does not let go is left to the next sweep."""
        none_comes = False
        for pause_s in DISCARD_PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                none_comes = await self.remove(spec.name)
            except EngineFailure as error:  # the caller has a failure to raise already
                none_comes = self.is_local and isinstance(error, EngineUnreachable)  # who is not there makes nothing
                continue
            if none_comes:
                break
        if none_comes:
            requested.forget(spec.name, spec.labels)

    async def _create(self, spec: ContainerSpec) -> DockerContainer:
        request = self._docker.containers.create(spec.body, name=spec.name)
        try:
            return await self.call(f"create {spec.name}", request, keep_status={404})
        except DockerError as error:
            image = spec.body["Image"]
            raise image_missing(image) from error

    async def labelled(self, label: str, value: str | None = None) -> list[ContainerSummary]:
        """Return every container with a label, of a certain value where one is given, running or not (1 ms).

        One that has no name any more is none: Docker takes the names with the container, and where an event of the container
        (its end, the kernel's kill for memory) is worked in just then, 20.10 goes on listing it without, until it starts anew.
        Nothing else knows of it: each request for its id is answered 404.
        """
        filters = json.dumps({"label": [label if value is None else f"{label}={value}"]})
        found = await self.call("list containers", self._docker.containers.list(all=1, filters=filters))
        return [
            ContainerSummary(one.id, str(names[0]).lstrip("/"), state=str(one["State"]), labels=dict(one["Labels"] or {}))
            for one in found
            if (names := one["Names"])
        ]

    async def make_volume(self, spec: VolumeSpec) -> None:
        """Make a volume of a name that no other has (4 ms); others see it once this returns.

        Raises `EngineFailure`: then, and when cancelled, it may be there. Docker goes on when its client has gone, so a
        cancellation waits for the answer, and who removes it by its name afterwards leaves none.
        """
        body = {"Name": spec.name, "Driver": "local", "Labels": spec.labels}
        requested.note(spec.name, spec.labels)
        try:
            await to_the_end(self.call(f"make volume {spec.name}", self.post("volumes/create", body)))
        finally:
            requested.forget(spec.name, spec.labels)  # who hears of a failure removes it by its name

    async def remove_volume(self, name: str) -> bool:
        """Remove a volume that no container has mounted (11 ms); false where there is none. Raises `EngineFailure`."""
        try:
            await self.call(f"remove volume {name}", self._delete(f"volumes/{name}"), keep_status={404})
        except DockerError:
            return False
        return True

    async def _delete(self, path: str) -> None:
        async with self._docker._query(path, method="DELETE"):
            return

    async def labelled_volumes(self, *labels: str) -> list[VolumeSpec]:
        """Return every volume that has all of these labels, each as ``name`` or ``name=value`` (1 ms)."""
        filters = json.dumps({"label": labels})
        found = await self.call("list volumes", self._docker._query_json("volumes", params={"filters": filters}))
        return [
            VolumeSpec(str(one["Name"]), dict(one["Labels"] or {}), _seconds(one.get("CreatedAt")))
            for one in found["Volumes"] or ()
        ]

    async def marks(self, instance: str | None = None) -> list[VolumeSpec]:
        """Return the marks of environments that the runner of ``instance``, or of any, uses or used (`use_mark`)."""
        return await self.labelled_volumes(
            INSTANCE_LABEL if instance is None else f"{INSTANCE_LABEL}={instance}", ENVIRONMENT_LABEL
        )

    async def list(self, instance: str | None = None) -> list[ContainerSummary]:
        """Return every container that carries the label of ``instance``, or of any, running or not."""
        return await self.labelled(INSTANCE_LABEL, instance)

    async def remove(self, container_id: str) -> bool:
        """Kill and remove a container, by id or name; done when Docker no longer has it. Returns whether this call removed it.

        Docker answers 409 while another removal runs: then it is waited for. Raises `EngineFailure` after a minute.
        """
        container = self._docker.containers.container(container_id)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                while True:
                    try:
                        await self.call("remove a container", container.delete(force=True, v=True), keep_status={404, 409})
                    except DockerError as error:
                        if error.status == 404:
                            return False
                    else:
                        return True
                    await asyncio.sleep(REMOVED_LOOK_S)
        except TimeoutError as error:
            raise EngineFailure(
                f"Docker still has container {container_id[:12]} {REQUEST_TIMEOUT_S:.0f} s after its removal"
            ) from error

    async def discard(self, container_id: str, name: str) -> None:
        """Kill and remove a container, trying again for as long as Docker fails. Said in the log once."""
        await self._until_gone(f"container {name}", lambda: self.remove(container_id))

    async def discard_volume(self, name: str) -> None:
        """Remove a volume, as `discard` does a container."""
        await self._until_gone(f"volume {name}", lambda: self.remove_volume(name))

    async def _until_gone(self, what: str, remove: Callable[[], Awaitable[object]]) -> None:
        for tried, pause_s in enumerate(itertools.chain(GONE_PAUSES_S, itertools.repeat(GONE_PAUSES_S[-1]))):
            try:
                await remove()
            except EngineFailure as error:
                if not tried:
                    log.warning("%s can't be removed, which is tried until it can: %s", what, error)
            else:
                if tried:
                    log.info("%s is removed at last", what)
                return
            await asyncio.sleep(pause_s)

    async def image_labels(self, image: str) -> dict[str, str]:
        """Return the labels of an image. Raises `ImageMissing`."""
        return dict((await self._image(image))["Config"].get("Labels") or {})

    async def image_id(self, image: str) -> str:
        """Return the id (``sha256:…``) of the image that a name means now. Raises `ImageMissing`."""
        return str((await self._image(image))["Id"])

    async def _image(self, image: str) -> dict[str, Any]:
        try:
            return await self.call(f"inspect image {image}", self._docker.images.inspect(image), keep_status={404})
        except DockerError as error:
            raise image_missing(image) from error

    async def volume_labels(self, name: str) -> dict[str, str] | None:
        """Return the labels of a volume, or null where there is no such volume."""
        request = self._docker._query_json(f"volumes/{name}")
        try:
            shown = await self.call(f"inspect volume {name}", request, keep_status={404})
        except DockerError:
            return None
        return dict(shown["Labels"] or {})

    async def has_network(self, name: str) -> bool:
        """Return whether there is a network of a name."""
        request = self._docker._query_json(f"networks/{name}")
        try:
            await self.call(f"inspect network {name}", request, keep_status={404})
        except DockerError:
            return False
        return True

    async def volume_places(self, name: str) -> tuple[str, ...]:
        """Return paths on the engine's machine from whose file system a volume is: its own, which is root's, then the engine's.

        Where the engine is another machine's, there are none.
        """
        if not self.address.startswith("unix://"):
            return ()
        shown, info = await asyncio.gather(
            self.call(f"inspect volume {name}", self._docker._query_json(f"volumes/{name}")),
            self.call("say where its files are", self._docker._query_json("info")),
        )
        return str(shown["Mountpoint"]), str(info["DockerRootDir"])


def _unanswered(error: BaseException | None) -> bool:
    """Return whether a request failed for want of an answer alone: Docker may still be at it."""
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__
    return False


def _seconds(moment: object) -> float | None:
    """Return a moment as Docker writes it in seconds since 1970; null where it is none."""
    with suppress(ValueError):
        return datetime.fromisoformat(str(moment)).timestamp()
    return None
