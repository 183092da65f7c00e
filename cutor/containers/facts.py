"""What an engine has said of images and volumes, kept for as long as it says that nothing happened to them.

Every submission needs to know that the child image is there, and what image and package set are: 1.5 ms for each question, 1 of
them this process's own. They change with ``cutor setup`` alone. So Docker is asked once, and then its notices of images and of
volumes are listened to: what was said of a volume is forgotten with the first notice of it, all that was said with any other.
Others' volumes come and go: each submission may have one (`cutor.roles.uses`).

What makes that wrong, and what comes of it:

    a change while nobody listens      nothing is kept then: each question is asked, as if this module were not there
    a change before anybody listens    notices begin with those that Docker still has, so what was kept before is forgotten
    a change while a question is out   its answer is given to who asked, and not kept
    a notice on its way (1 ms)         who asks just then is told what was true when the change began, as who asked before it
    a connection that died unheard     what was said counts for `LASTS_S` at the most; of a socket on this host, it cannot

An image that is believed to be there costs a lease that is counted, and whose step is tried again; a package set that has just
been replaced gives the key of the one before, as for a submission that came a moment earlier.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError

log = logging.getLogger(__name__)

NOTICES: Final = {
    "type": ["image", "volume"],
    "event": ["create", "destroy", "delete", "tag", "untag", "prune", "pull", "load", "import"],
}
"""Not those of mounts: each container has some."""
OF_VOLUME: Final = "labels of volume"
LASTS_S: Final = 30.0
"""How long an answer counts, whatever is heard."""
PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Before Docker is listened to again; the last one stays."""

T = TypeVar("T")


class _Kept(NamedTuple):
    """An answer, and until when it counts, by the monotonic clock."""

    answer: Any
    until_s: float


class Facts:
    """Images and volumes of one engine, as `Engine` tells of them; errors are its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: dict[tuple[str, str], _Kept] = {}
        self.listening = False
        """Whether Docker is listened to, so that what it says may be kept."""
        self.changes = 0
        """How often what was kept was forgotten."""

    @classmethod
    @asynccontextmanager
    async def of(cls, engine: Engine) -> AsyncIterator[Facts]:
        """Lend what is known of an engine; it is listened to while the block lasts."""
        facts = cls(engine)
        listening = asyncio.create_task(facts._listen(), name="images and volumes")
        try:
            yield facts
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    @property
    def hears_its_end(self) -> bool:
        """Whether the end of Docker's process would have been heard by now (1 ms). One that stands still is not."""
        return self.listening and self._engine.is_local

    async def image_id(self, image: str) -> str:
        """As `Engine.image_id`."""
        return await self._known("image", image, self._engine.image_id)

    async def image_labels(self, image: str) -> dict[str, str]:
        """As `Engine.image_labels`."""
        return await self._known("labels of image", image, self._engine.image_labels)

    async def volume_labels(self, name: str) -> dict[str, str] | None:
        """As `Engine.volume_labels`."""
        return await self._known(OF_VOLUME, name, self._engine.volume_labels)

    async def _known(self, what: str, name: str, ask: Callable[[str], Awaitable[T]]) -> T:
        kept = self._kept.get((what, name))
        if kept is not None and time.monotonic() < kept.until_s:
            known: T = kept.answer
            return known
        changes, asked_s = self.changes, time.monotonic()
        answer = await ask(name)
        if self.listening and changes == self.changes:
            self._kept[what, name] = _Kept(answer, asked_s + LASTS_S)
        return answer

    def _noticed(self, notice: bytes) -> None:
        """Forget what a notice, a line of JSON, may be about."""
        try:
            event = json.loads(notice)
            kind, name = event["Type"], event["Actor"]["ID"]
        except (ValueError, KeyError, TypeError):
            kind, name = "", ""
        if kind == "volume" and name:
            self._kept.pop((OF_VOLUME, name), None)
            self.changes += 1
        else:
            self._changed(listening=True)

    def _changed(self, *, listening: bool) -> None:
        self._kept.clear()
        self.changes += 1
        self.listening = listening

    async def _listen(self) -> None:
        """Forget what was said at each notice. Whatever ends the listening, it is begun again."""
        for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
            try:
                async with aclosing(self._engine.notices(NOTICES)) as notices:
                    async for said in notices:
                        *whole, part = said.split(b"\n")
                        for notice in whole:
                            self._noticed(notice)
                        if part or not said:
                            self._changed(listening=True)
            except ContainerError as error:
                log.debug("images and volumes are not listened to: %s", error)
            except Exception:
                log.exception("a bug in listening to Docker; it is asked each time")
            self._changed(listening=False)
            await asyncio.sleep(pause_s)
