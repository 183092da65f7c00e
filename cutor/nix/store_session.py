"""The host's end of a store container: one job on this host's shared store, nothing left behind."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from cutor.containers.child import Child
from cutor.containers.engine import Engine
from cutor.containers.errors import SessionFault, one_line
from cutor.containers.host_config import ContainerSpec, Identity, Mount, Resources, StoreUser, store_spec
from cutor.containers.labels import collection_labels, release_labels
from cutor.errors import WAITED_TOO_LONG
from cutor.jail.inside.protocol import Frame, ProtocolError, encode
from cutor.model.limits import MIB
from cutor.nix.init_frames import InitFrames, check_image, printed
from cutor.nix.settings import NixSettings
from cutor.nix.store_report import (
    MAX_FRAME_BYTES,
    MAX_KEYS,
    Advanced,
    AsksHeader,
    Begun,
    Collected,
    CollectedHeader,
    FaultHeader,
    Inventory,
    InventoryHeader,
    InventoryReader,
    KeysHeader,
    OwnershipHeader,
    PathsHeader,
    Ready,
    RefusedHeader,
    Released,
    ReleasedHeader,
    RoomHeader,
    RootedHeader,
    StoreFrame,
    Waiting,
    decode_header,
    decode_keys,
)
from cutor.undisturbed import to_the_end

INIT_MODULE: Final = "cutor.nix.inside.store_init"
MEMORY_BYTES: Final = 2048 * MIB
"""A bound, not a need: a store of a million paths takes a third of it."""
PROCESSES: Final = 256
"""Most processes of a container that works at a store."""
SILENCE_S: Final = 600.0
"""How long a job at work may say nothing: reading a huge database, deleting one huge path, copying one."""

OnCount = Callable[[int], None]
"""Is given how many store paths are deleted, or copied, by now."""
Keys = Iterable[str] | Mapping[str, int]
"""Keys of environments; those with the time of their roots (`RootedKey.made_at_s`) are spared where these are newer by now."""
Confirm = Callable[[], Awaitable[Keys]]
"""Returns the keys whose roots may go, once the container of the job is there for others to see."""
Choose = Callable[[Mapping[str, int]], Awaitable[Keys]]
"""Is given the keys that have roots, with their times; returns those whose roots are to go."""

H = TypeVar("H")


class StoreBusy(SessionFault):
    """The store was in use for longer than the caller would wait: nothing was done."""

    exit_code = WAITED_TOO_LONG


class Refused(SessionFault):
    """Nix refused or failed to do the job: the message is its own, in one line."""


class Full(Refused):
    """A volume is full; of a closure that was to be fetched, the store has ``present_bytes``, as archives."""

    def __init__(self, message: str, present_bytes: int) -> None:
        super().__init__(message)
        self.present_bytes = present_bytes


class Away(Refused):
    """The cache that was to be read does not answer: what it has is not known."""


class Gone(SessionFault):
    """What was to be published is not in the store any more."""


class GaveWay(SessionFault):
    """The job ended for somebody who waits to be alone with the store; it may be done again."""


class Room(NamedTuple):
    """How much of the store's volume is free for who is not root there; its size is that and what is used, as df(1) has it."""

    free_bytes: int
    size_bytes: int


class StoreSession:
    """One job in one container: ``async with StoreSession(engine, settings, instance=…, user="command") as store``.

    To be given one job; its methods raise `SessionFault`, or another error of `cutor.containers` where Docker fails. The
    container is removed when the block is left, however it is left, and ends by itself where this process dies. ``user`` is who
    sweeps it: a role, at its next start; a command's is removed, once it has ended, by any role that starts. ``on_wait`` is
    called where others have to be done first, for the time of which ``wait_s`` is the bound.
    """

    def __init__(
        self,
        engine: Engine,
        settings: NixSettings,
        *,
        instance: str,
        user: StoreUser,
        data: PurePath | None = None,
        wait_s: float | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._identity = Identity(instance, secrets.token_hex(6), data=data)
        self._user: StoreUser = user
        self._wait_s = settings.collection_timeout_ms / 1000 if wait_s is None else wait_s
        self._on_wait = on_wait
        self._child: Child | None = None
        self._frames = InitFrames("store container", MAX_FRAME_BYTES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            await to_the_end(self._child.discard())

    async def inventory(self) -> Inventory:
        """Return what the store holds, and what each environment's roots keep."""
        child, reader = await self._begin("inventory"), InventoryReader()
        while True:
            frame, header = await self._frame(child, SILENCE_S)
            try:
                match header:
                    case PathsHeader():
                        reader.paths(frame.body)
                    case RootedHeader():
                        reader.rooted(header, frame.body)
                    case InventoryHeader():
                        return reader.inventory(header)
                    case _:
                        raise self._unexpected(header, child)
            except ProtocolError as error:
                raise self._frames.broken(error) from error

    async def release(self, keys: Keys, *, confirm: Confirm | None = None) -> Released:
        """Remove the roots of some keys, beside builds and runs; what only they kept is deleted by the next collection.

        ``confirm`` is asked which of them may go once the container is there for a collection to see.
        """
        child = await self._start(self._spec(labels=release_labels(self._settings.store_volume)))
        if confirm is not None:
            keys = await confirm()
        if not keys:  # whoever they are kept for may have the lock for long
            return Released(keys=())
        await self._give(child, "release", body=_lines(keys))
        return Released(keys=(await self._result(child, ReleasedHeader)).keys)

    async def trim(self, key: str, paths: Iterable[str], *, confirm: Callable[[], Awaitable[bool]]) -> None:
        """Remove those roots of a key that lead to some paths, as `release` removes all of them, where ``confirm`` says yes."""
        child = await self._start(self._spec(labels=release_labels(self._settings.store_volume)))
        if await confirm():
            await self._give(child, "trim", {"key": key}, "\n".join(paths).encode())
            await self._result(child, ReleasedHeader)

    async def room(self) -> Room:
        """Return how much is free on the store's volume, beside whatever goes on there."""
        header = await self._result(await self._begin("room"), RoomHeader)
        return Room(header.free_bytes, header.size_bytes)

    async def ownership(self, *, adopt: bool = False) -> OwnershipHeader:
        """Return whose the store's two volumes are; with ``adopt``, the empty ones are given to the store's owner before.

        Docker makes those that are missing.
        """
        child = await self._start(self._spec(adopts=adopt))
        await self._give(child, "ownership")
        return await self._result(child, OwnershipHeader)

    async def collect(
        self,
        choose: Choose | None = None,
        on_count: OnCount | None = None,
        *,
        keeps: Iterable[str] = (),
        once_seen: Callable[[], Awaitable[None]] | None = None,
    ) -> Collected:
        """Remove the roots of some keys, or of none, and delete what no root needs, with no build of this store at work.

        Builds that are at work are waited for, `StoreBusy` is raised where they take longer than ``wait_s``; others begin
        between two turns of a minute. ``choose`` is asked then which keys go, with the store held: nobody changes a root before
        it answers, within minutes. What it raises ends the collection with nothing done. It says in the log that environments
        are gone, before it answers.

        Runs go on, and must not lose what they use: ``keeps`` are the rooted keys that stay; a run of any other that begins
        while the container is there waits for its end (`cutor.roles.collections`). Those that had begun before, ``choose``
        looks for. ``once_seen`` is called once the container is there for others to see, before it waits for anybody.
        """
        child = await self._start(self._spec(labels=collection_labels(self._settings.store_volume, keeps)))
        if once_seen is not None:
            await once_seen()
        await self._give(child, "collect")
        rooted = await self._rooted(child)
        keys = () if choose is None else await choose(rooted)
        await child.send(encode({"type": "remove"}, _lines(keys)))
        done = await self._result(child, CollectedHeader, on_count)
        return Collected(keys=done.keys, paths=done.paths, nar_bytes=done.nar_bytes, free_bytes=done.free_bytes)

    async def _rooted(self, child: Child) -> dict[str, int]:
        """Return what has roots, as a collection tells it that is alone with the store."""
        rooted: dict[str, int] = {}
        while True:
            frame, header = await self._frame(child, SILENCE_S)
            match header:
                case KeysHeader() if len(rooted) <= MAX_KEYS:
                    try:
                        rooted |= decode_keys(frame.body)
                    except ProtocolError as error:
                        raise self._frames.broken(error) from error
                case AsksHeader():
                    return rooted
                case _:
                    raise self._unexpected(header, child)

    async def _begin(self, job: str, header: dict[str, Any] | None = None, body: bytes = b"") -> Child:
        """Start the container and give it the job; return once it is at work."""
        child = await self._start(self._spec())
        await self._give(child, job, header, body)
        return child

    async def _start(self, spec: ContainerSpec) -> Child:
        """Start the container; return once it takes a job."""
        assert self._child is None, "a session does one job"
        child = self._child = await self._engine.start(spec)
        _, ready = await self._frame(child, self._settings.start_timeout_ms / 1000)
        if not isinstance(ready, Ready):
            raise self._unexpected(ready, child)
        check_image(ready.protocol, ready.nix_version)
        return child

    async def _give(self, child: Child, job: str, header: dict[str, Any] | None = None, body: bytes = b"") -> None:
        """Give it the job; return once it is at work."""
        await child.send(encode({"type": job} | (header or {}), body))
        await self._until_begun(child)

    def _spec(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        cache: Mount | None = None,
        network: str = "none",
        adopts: bool = False,
    ) -> ContainerSpec:
        settings = self._settings
        return store_spec(
            self._identity,
            image=settings.image,
            module=INIT_MODULE,
            user=self._user,
            resources=Resources(MEMORY_BYTES, PROCESSES, settings.cores),
            store_volume=settings.store_volume,
            var_volume=settings.var_volume,
            cache=cache,
            network=network,
            adopts=adopts,
            labels=labels,
        )

    async def _until_begun(self, child: Child) -> None:
        """Wait until the job is at work; `StoreBusy` where others take too long."""
        try:
            async with asyncio.timeout(self._settings.start_timeout_ms / 1000) as deadline:
                while True:
                    _, header = await self._frame(child, None)
                    if isinstance(header, Begun):
                        return
                    if not isinstance(header, Waiting):
                        raise self._unexpected(header, child)
                    deadline.reschedule(asyncio.get_running_loop().time() + self._wait_s)
                    if self._on_wait is not None:
                        self._on_wait()
        except TimeoutError as error:
            in_use = f"was in use for longer than {self._wait_s:.0f} s" if self._wait_s else "is in use"
            raise StoreBusy(f"the Nix store of this host {in_use} (builds, or another collection): try again later") from error

    async def _result(self, child: Child, kind: type[H], on_count: OnCount | None = None, silence_s: float = SILENCE_S) -> H:
        """Return the header that ends the job; pass on how far it is until then."""
        while True:
            _, header = await self._frame(child, silence_s)
            if isinstance(header, kind):
                return header
            if isinstance(header, RefusedHeader):
                raise _refusal(header)
            if not isinstance(header, Advanced):
                raise self._unexpected(header, child)
            if on_count is not None:
                on_count(header.count)

    async def _frame(self, child: Child, seconds: float | None) -> tuple[Frame, StoreFrame]:
        """Return the next frame. Raises `SessionFault` for none within ``seconds``, and for anything that is none."""
        try:
            async with asyncio.timeout(seconds):
                frame = await self._frames.next(child)
            return frame, decode_header(frame)
        except TimeoutError as error:
            raise SessionFault(f"the store container said nothing for {seconds:.0f} s{printed(child)}") from error
        except ProtocolError as error:
            raise self._frames.broken(error) from error

    def _unexpected(self, header: StoreFrame, child: Child) -> SessionFault:
        if isinstance(header, FaultHeader):
            return SessionFault(f"the store container failed: {header.message}")
        return self._frames.unexpected(header, child)


def _refusal(header: RefusedHeader) -> SessionFault:
    message = one_line(header.message) or "Nix did not say why"
    match header.cause:
        case "nix":
            return Refused(message)
        case "no-room":
            return Full(message, header.present_bytes)
        case "away":
            return Away(message)
        case "gone":
            return Gone(message)
        case "gives-way":
            return GaveWay(message)


def _lines(keys: Keys) -> bytes:
    lines = (
        (f"{key} {known_s}\n" for key, known_s in keys.items()) if isinstance(keys, Mapping) else (f"{key}\n" for key in keys)
    )
    return "".join(lines).encode()
