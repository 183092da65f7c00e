"""Docker, as far as cutor needs it: start a child container with its pipes attached, change its limits, remove it, sweep.

The only importer of aiodocker. One `Engine` a process, one `Child` a container. Errors: those of
``errors``; everything else is a bug.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
from aiodocker import Docker
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError
from aiodocker.stream import Stream

from cutor.containers.control_group import limit_sockets
from cutor.containers.errors import EngineFailure, EngineRefused, EngineUnreachable, ImageMissing, one_line
from cutor.containers.host_config import ContainerSpec
from cutor.undisturbed import to_the_end

DEFAULT_SOCKET: Final = "unix:///var/run/docker.sock"
REQUEST_TIMEOUT_S: Final = 60.0
DISCARD_PAUSES_S: Final = (0.0, 0.2, 1.0)
"""When to look for a container whose creation Docker never answered: it may still be at it."""
GONE_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses between two tries to remove a container that Docker would not let go; the last one stays."""
STDERR_TAIL_BYTES: Final = 4096
_STDOUT, _STDERR = 1, 2
_CANNOT_CONNECT: Final = 900  # aiodocker's number for "no answer at all"

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContainerState:
    """What Docker says of a container: running or not, and if not, how it ended. ``exists`` is false once it is removed."""

    exists: bool
    running: bool = False
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""

    def describe(self) -> str:
        """Return one line for a fault's message."""
        if not self.exists:
            return "the container is gone"
        if self.running:
            return "the container is running"
        reason = ", killed for want of memory" if self.oom_killed else ""
        return f"the container ended with {self.exit_code}{reason}{': ' + self.error if self.error else ''}"


@dataclass(frozen=True)
class ContainerSummary:
    """One line of a listing, for sweeps: what carries an instance's label on this host."""

    id: str
    name: str
    state: str
    labels: dict[str, str]


class Child:
    """A started container with its stdin, stdout and stderr attached. Made by `Engine.start`.

    One task may read (`receive`) while another writes (`send`). stderr is kept as a bounded tail while stdout is read.
    """

    def __init__(self, engine: Engine, container: DockerContainer, stream: Stream, name: str) -> None:
        self._engine = engine
        self._container = container
        self._stream = stream
        self._stderr = bytearray()
        self._ended = False
        self._removed = False
        self.id: str = container.id
        self.name = name

    @property
    def stderr_tail(self) -> bytes:
        """The last `STDERR_TAIL_BYTES` of what its init wrote to stderr: for fault messages."""
        return bytes(self._stderr)

    async def send(self, data: bytes) -> None:
        """Write to its stdin, waiting while the pipe is full. Raises `EngineFailure` when the connection is gone."""
        transport = self._transport()
        if transport is None or transport.is_closing():
            raise EngineFailure(f"container {self.name}: its standard input is closed")
        try:
            await self._stream.write_in(data)
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            raise EngineFailure(f"container {self.name}: its standard input is closed ({error})") from error

    async def receive(self) -> bytes:
        """Return the next piece of its stdout, as it comes; ``b""`` once it ended or the connection closed."""
        while not self._ended:
            try:
                message = await self._stream.read_out()
            except (OSError, aiohttp.ClientError):
                message = None  # the connection broke: for the reader the same as its end; `state` tells more
            if message is None:
                self._ended = True
            elif message.stream == _STDERR:
                self._keep_stderr(message.data)
            elif message.stream == _STDOUT and message.data:
                return message.data
        return b""

    def _keep_stderr(self, data: bytes) -> None:
        self._stderr += data
        del self._stderr[:-STDERR_TAIL_BYTES]

    async def close_stdin(self) -> None:
        """Send end-of-file to its init, which ends then; reading goes on. Nothing happens if it is closed already."""
        # aiodocker's Stream.close() would close both directions; half of a connection is closed by its transport.
        transport = self._transport()
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def _transport(self) -> asyncio.WriteTransport | None:
        """Return the attached connection's transport, null once the connection is gone; aiodocker has no public way to it."""
        response = self._stream._resp
        connection = None if response is None else response.connection
        return None if connection is None else connection.transport

    async def update(self, *, memory_bytes: int | None = None, processes: int | None = None) -> None:
        """Change its limits while it runs (about 13 ms). Memory includes swap: there is none.

        Raises `EngineFailure`; `EngineRefused` where memory in use can't be pressed below the new limit.
        """
        body: dict[str, int] = {}
        if memory_bytes is not None:
            body |= {"Memory": memory_bytes, "MemorySwap": memory_bytes}
        if processes is not None:
            body["PidsLimit"] = processes
        await self._engine.call(f"update limits of {self.name}", self._engine.post(f"containers/{self.id}/update", body))

    async def kill(self) -> None:
        """Kill every process in it at once. Nothing happens if it ended or is gone."""
        await self._ignoring(self._container.kill(signal="KILL"), "kill", {404, 409})

    async def remove(self) -> None:
        """Kill it if it runs and remove it with its anonymous volumes; safe to call again, and after it died.

        Raises `EngineFailure` if Docker still has it after a minute.
        """
        if not self._removed:
            await self._stream.close()
            await self._engine.remove(self.id)
            self._removed = True

    async def discard(self) -> None:
        """Remove it as `remove` does, trying again for as long as Docker fails: when this returns, it is gone.

        For whoever holds something that must not be given on while the container may still run: its uid, its slot.
        """
        if not self._removed:
            await self._stream.close()
            await self._engine.discard(self.id, self.name)
            self._removed = True

    async def state(self) -> ContainerState:
        """Return what Docker says of it now."""
        try:
            shown = await self._engine.call(f"inspect {self.name}", self._container.show(), keep_status={404})
        except DockerError:
            return ContainerState(exists=False)
        state: dict[str, Any] = shown["State"]
        return ContainerState(
            exists=True,
            running=bool(state["Running"]),
            exit_code=None if state["Running"] else int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            error=one_line(str(state.get("Error", ""))),
        )

    async def _ignoring(self, request: Awaitable[object], what: str, statuses: set[int]) -> None:
        try:
            await self._engine.call(f"{what} {self.name}", request, keep_status=statuses)
        except DockerError:
            return  # one of ``statuses``: what was asked for holds already


class Engine:
    """A connection to one Docker Engine: ``async with Engine.connect() as engine``."""

    def __init__(self, docker: Docker, address: str) -> None:
        self._docker = docker
        self.address = address

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
                return await request
        except TimeoutError as error:
            raise EngineFailure(f"Docker did not answer within {REQUEST_TIMEOUT_S:.0f} s: {what}") from error
        except DockerError as error:
            if keep_status is not None and error.status in keep_status:
                raise
            if error.status == _CANNOT_CONNECT:
                raise self._unreachable(error) from error
            raise EngineRefused(f"Docker could not {what}: {one_line(str(error.message))} (status {error.status})") from error
        except (OSError, aiohttp.ClientError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> EngineUnreachable:
        return EngineUnreachable(
            f"no Docker Engine answers at {self.address} ({_reason(error)}): "
            "start it (make setup does) or configure another address"
        )

    def post(self, path: str, body: dict[str, Any]) -> Awaitable[Any]:
        """Return a POST request that aiodocker has no method for."""
        return self._docker._query_json(path, method="POST", data=body)

    async def version(self) -> dict[str, Any]:
        """Return Docker's version document (``Version``, ``ApiVersion``, ``Arch``, ``KernelVersion`` …)."""
        return await self.call("say its version", self._docker.version())

    async def start(self, spec: ContainerSpec) -> Child:
        """Create the container, attach its pipes, start it: in this order, so that not a byte is lost (about 250 ms).

        Raises `ImageMissing`, `EngineFailure`. Whatever goes wrong, also when cancelled, no container is left: one that was
        made is removed before this ends, however long Docker fails to.
        """
        container = await self._create_or_discard(spec)
        stream = container.attach(stdin=True, stdout=True, stderr=True)
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
        its name alone. Where Docker itself refused, nothing was made.
        """
        try:
            return await to_the_end(self._create(spec))
        except (EngineRefused, ImageMissing):
            raise
        except BaseException:
            await to_the_end(self._discard(spec.name))
            raise

    async def _discard(self, name: str) -> None:
        """Remove a container that may or may not have been made. What Docker does not let go is left to the next sweep."""
        for pause_s in DISCARD_PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                if await self.remove(name):
                    return
            except EngineFailure:
                continue  # the caller has a failure to raise already

    async def _create(self, spec: ContainerSpec) -> DockerContainer:
        request = self._docker.containers.create(spec.body, name=spec.name)
        try:
            return await self.call(f"create {spec.name}", request, keep_status={404})
        except DockerError as error:
            image = spec.body["Image"]
            raise ImageMissing(f"the child image {image!r} is not on this host: build it with make setup") from error

    async def list(self, instance: str | None = None) -> list[ContainerSummary]:
        """Return every container that carries the label of ``instance``, or of any, running or not."""
        filters = '{"label": ["cutor"]}' if instance is None else f'{{"label": ["cutor={instance}"]}}'
        found = await self.call("list containers", self._docker.containers.list(all=1, filters=filters))
        return [
            ContainerSummary(
                id=one.id, name=str(one["Names"][0]).lstrip("/"), state=str(one["State"]), labels=dict(one["Labels"] or {})
            )
            for one in found
        ]

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
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise EngineFailure(
                f"Docker still has container {container_id[:12]} {REQUEST_TIMEOUT_S:.0f} s after its removal"
            ) from error

    async def discard(self, container_id: str, name: str) -> None:
        """Kill and remove a container, trying again for as long as Docker fails. Said in the log once."""
        for tried, pause_s in enumerate(itertools.chain(GONE_PAUSES_S, itertools.repeat(GONE_PAUSES_S[-1]))):
            try:
                await self.remove(container_id)
            except EngineFailure as error:
                if not tried:
                    log.warning("container %s can't be removed, which is tried until it can: %s", name, error)
            else:
                if tried:
                    log.info("container %s is removed at last", name)
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
            raise ImageMissing(f"the child image {image!r} is not on this host: build it with make setup") from error

    async def volume_labels(self, name: str) -> dict[str, str] | None:
        """Return the labels of a volume, or null where there is no such volume."""
        request = self._docker._query_json(f"volumes/{name}")
        try:
            shown = await self.call(f"inspect volume {name}", request, keep_status={404})
        except DockerError:
            return None
        return dict(shown["Labels"] or {})


def _reason(error: BaseException) -> str:
    """Return why there was no connection: the operating system's word, which the client library wraps several times over."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror and "[" not in inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return one_line(str(error))
