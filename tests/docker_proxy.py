"""A socket before Docker's that holds requests back: what a process asked for that is killed meanwhile comes late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cutor.containers.remedies import DEFAULT_SOCKET

DOCKER = DEFAULT_SOCKET.removeprefix("unix://")
CREATES = (b"/containers/create", b"/volumes/create")


class DockerProxy:
    """Passes on what comes. From `hold` on, what makes something waits for `let_go`, whether its client lives or not."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.held = 0
        """Requests that were held back so far."""
        self._path = path
        self._goes = asyncio.Event()
        self._goes.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen while the block lasts."""
        server = await asyncio.start_unix_server(self._serve, self._path)
        async with server:
            yield
            self.let_go()

    def hold(self) -> None:
        """Hold back what makes something, from now on."""
        self._goes.clear()

    def let_go(self) -> None:
        """Pass on what was held back, and hold nothing more."""
        self._goes.set()

    async def until_held(self, count: int = 1) -> None:
        """Return once so many requests were held back."""
        while self.held < count:
            await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_docker, to_docker = await asyncio.open_unix_connection(DOCKER)
        answers = asyncio.create_task(_passed_on(from_docker, writer))
        try:
            while data := await reader.read(1 << 20):
                if not self._goes.is_set() and any(one in data.partition(b"\r\n")[0] for one in CREATES):
                    self.held += 1
                    await self._goes.wait()
                to_docker.write(data)
                await to_docker.drain()
            with suppress(OSError):
                to_docker.write_eof()
            await answers
        finally:
            answers.cancel()
            for one in (to_docker, writer):
                one.close()


async def _passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on all that comes; where nobody is there any more, it is read all the same."""
    there = True
    while data := await reader.read(1 << 20):
        if there:
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                there = False
    with suppress(OSError):
        writer.write_eof()
