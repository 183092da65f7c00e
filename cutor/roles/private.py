"""Environments that are not to be kept (``cache: false``): made for one submission alone, and removed once that is clean.

Consumes ``cleaned``. A builder appends ``env-removed``, then removes the environment's roots from this host's store, so that
the next collection deletes its paths; a runner that fetched one removes the roots. Doing it twice changes nothing. It may crash
anywhere: of each there is a note, ``<data>/in-hand/private-<role>/<key>``, written before it is made and removed when its roots
are gone; the next life goes on from the notes. Who never starts again leaves roots of environments that the log calls private:
``cutor gc`` finds them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from cutor import notes
from cutor.bus.errors import BusError
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.errors import CutorError
from cutor.journal.environments import Environments
from cutor.journal.journal import Journal
from cutor.logs import about
from cutor.model.environments import EnvironmentRemoved
from cutor.model.errors import InvalidRequest
from cutor.model.events import Role
from cutor.model.subjects import Address, check_address, parse_event_subject
from cutor.model.units import counted
from cutor.nix.key import KEY_CHARACTERS
from cutor.nix.store_session import StoreSession
from cutor.process.context import RoleContext
from cutor.roles.collections import give_up_roots
from cutor.text import escape

log = logging.getLogger(__name__)

CLEANED_SUBJECT: Final = "cutor.ev.*.*.cleaned"
NAME: Final = re.compile(rf"[0-9a-f]{{{KEY_CHARACTERS}}}", re.ASCII)
NOTE_BYTES: Final = 4096
"""Far above what a note has: what is longer is not read."""
LOOK_EVERY_S: Final = 30.0
"""Between two looks at all submissions whose environments are still there: a notice may have been missed."""
RETRY_S: Final = 5.0
"""Before all of them are looked at again where something failed."""
NOTICED_S: Final = 0.2
"""How long a look waits after a notice: what it tells of may not be stored yet, and several can be done in one container."""
SHORT: Final = 12
"""Characters of a key that a log needs."""
LOOKS_SOON: Final = 5
"""Times that what a notice told of is looked for before it is left to the next look at all."""

Release = Callable[[Sequence[str]], Awaitable[Mapping[str, str]]]
"""Removes the roots of some keys from this host's store; returns those whose roots must stay for now, each with why."""


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The submission for which an environment is built."""

    tenant: str
    id: str


@dataclass
class _Private:
    """An environment of a submission's own; ``makers`` are at it at this moment, and it ``may_stand`` in the store."""

    owner: Address
    makers: int = 0
    may_stand: bool = True


class PrivateEnvironments:
    """What one role process made for submissions alone; only who holds the data directory's lock may use its notes.

    ``data`` null: nothing is noted.
    """

    def __init__(self, data: Path | None, role: Role, worker: str, release: Release) -> None:
        self._role = role
        self._worker = worker
        self._release = release
        self._known: dict[str, _Private] = {}
        self._noticed: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._all_at = float("-inf")
        self._path = None if data is None else data / notes.DIRECTORY / f"private-{role}"
        self._directory: int | None = None
        if self._path is not None:
            try:
                self._directory = notes.opened(self._path)
            except OSError as error:
                _complain(error)
            else:
                weakref.finalize(self, os.close, self._directory)

    # -- for who makes them ----------------------------------------------------------------------------------------

    @contextmanager
    def making(self, key: str, owner: Address) -> Iterator[None]:
        """Make an environment while the block lasts: it is noted before, and nothing of it is removed before the block ends."""
        private = self._known.get(key)
        if private is None:
            private = self._known[key] = _Private(owner, may_stand=False)
            self._note(key, owner)
        private.makers += 1
        try:
            yield
        except BaseException:
            private.may_stand = True  # nobody knows how far it came
            raise
        finally:
            private.makers -= 1
            if not private.makers and not private.may_stand:
                self._forget(key)

    def stands(self, key: str) -> None:
        """Say of an environment that is being made that it stands in the store; else it left no roots."""
        self._known[key].may_stand = True

    # -- beside them -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def following(self, journal: Journal) -> AsyncIterator[None]:
        """While the block lasts, remove what belongs to submissions that are clean, those of a former life included."""
        self._known |= dict(self._left())
        async with journal.bus.subscribe(CLEANED_SUBJECT, on_gap=self._look_at_all) as notices:

            async def listen() -> None:
                async for notice in notices:
                    self._heard(notice.subject)

            tasks = [
                asyncio.create_task(listen(), name="cleaned submissions"),
                asyncio.create_task(self._settle(journal), name="private environments"),
            ]
            for task in tasks:
                task.add_done_callback(_say)
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    def _look_at_all(self) -> None:
        self._all_at = float("-inf")
        self._wake.set()

    def _heard(self, subject: str) -> None:
        parsed = parse_event_subject(subject)
        for key, private in self._known.items():
            if parsed is not None and private.owner == parsed.address:
                self._noticed[key] = LOOKS_SOON
                self._wake.set()

    async def _settle(self, journal: Journal) -> None:
        """Look for submissions that are clean: all at first and now and then, and between those that were noticed."""
        while True:
            wanted = await self._next()
            try:
                if clean := await self._clean_ones(journal, wanted):
                    await self._remove(journal, clean)
            except (BusError, CutorError, ContainerError) as error:
                log.warning("environments of submissions that ended are not removed yet: %s", error)
                self._again_soon()
            except Exception:
                log.exception("a bug beside environments of submissions that ended; they are looked at again")

    async def _next(self) -> dict[str, _Private]:
        """Return what is to be looked at next, once it is time for that."""
        now = asyncio.get_running_loop().time
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTICED_S if self._noticed else max(0.0, self._all_at - now())):
                await self._wake.wait()
        self._wake.clear()
        if now() >= self._all_at:
            self._all_at = now() + LOOK_EVERY_S
            return {**self._known}
        await asyncio.sleep(NOTICED_S)
        wanted = {key: self._known[key] for key in self._noticed if key in self._known}
        self._noticed = {key: looks - 1 for key, looks in self._noticed.items() if looks > 1}
        return wanted

    def _again_soon(self) -> None:
        self._all_at = min(self._all_at, asyncio.get_running_loop().time() + RETRY_S)

    async def _clean_ones(self, journal: Journal, wanted: Mapping[str, _Private]) -> dict[str, Address]:
        """Return the owners of those that nothing wants any more, by key. One that can't be read stops no other."""
        clean: dict[str, Address] = {}
        for key, private in wanted.items():
            try:
                if await self._is_clean(journal, private):
                    clean[key] = private.owner
            except (BusError, CutorError) as error:
                with about(private.owner):
                    log.warning("%s: whether its own environment may go cannot be seen: %s", private.owner, error)
                self._again_soon()
        return clean

    @staticmethod
    async def _is_clean(journal: Journal, private: _Private) -> bool:
        """Return whether nothing wants an environment any more. What the stream does not know has ended long ago."""
        if private.makers:
            return False
        state = await journal.state(private.owner)
        return state is None or state.cleaned_ns is not None

    async def _remove(self, journal: Journal, owners: Mapping[str, Address]) -> None:
        if self._role == "builder":
            environments = Environments(journal.bus)
            for key, owner in owners.items():
                event = EnvironmentRemoved(key=key, reason=f"{owner} has ended, for which alone it was built (cache: false)")
                await environments.append_removed(event, self._worker)
        held = await self._release([*owners])
        for key in owners.keys() - held.keys():
            self._forget(key)
        if gone := len(owners) - len(held):
            log.info("%s of submissions that ended removed", counted(gone, "environment"))
        for key, why in held.items():
            with about(owners[key]):
                log.info("environment %s of %s, which ended, stays in the store for now: %s", key[:SHORT], owners[key], why)
            self._again_soon()

    # -- notes -----------------------------------------------------------------------------------------------------

    def _note(self, key: str, owner: Address) -> None:
        if self._directory is None:
            return
        try:
            notes.write_durably(self._directory, key, msgspec.json.encode(Note(**owner._asdict())))
        except OSError as error:
            _complain(error)

    def _forget(self, key: str) -> None:
        self._known.pop(key, None)
        self._noticed.pop(key, None)
        if self._directory is None:
            return
        try:
            with suppress(FileNotFoundError):
                os.unlink(key, dir_fd=self._directory)
        except OSError as error:
            _complain(error)

    def _left(self) -> Iterator[tuple[str, _Private]]:
        """Yield what a former life has noted. What has a note's name and is none is said, and left alone."""
        if self._directory is None:
            return
        for name in sorted(os.listdir(self._directory)):  # noqa: PTH208 - of a descriptor, no path
            if not NAME.fullmatch(name):
                log.warning("%s/%s is no note of an environment; it is left alone", self._path, escape(name))
                continue
            try:
                note = msgspec.json.decode(notes.content(self._directory, name, NOTE_BYTES), type=Note)
                yield name, _Private(check_address(note.tenant, note.id))
            except (OSError, ValueError, InvalidRequest, msgspec.DecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
                log.warning("%s/%s is no note of an environment, left alone: %s", self._path, name, why)


def releasing(engine: Engine, context: RoleContext, role: Role) -> Release:
    """Return what removes roots from this host's store, in a container that does nothing else."""

    async def release(keys: Sequence[str]) -> Mapping[str, str]:
        settings, instance = context.config.nix, context.instance
        async with StoreSession(engine, settings, instance=instance, user=role, data=context.data) as store:
            return await give_up_roots(store, engine, settings.store_volume, keys)

    return release


def _complain(error: OSError) -> None:
    log.warning("environments that are not to be kept cannot be noted: %s; after a crash `cutor gc` removes them", error)


def _say(task: asyncio.Task[None]) -> None:
    """Say what ended a task that should not end; a closed connection ends the role elsewhere."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, BusError):
        log.error("%s ended", task.get_name(), exc_info=error)
