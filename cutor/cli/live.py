"""What a terminal shows of a submission while somebody waits for it: where it stands, for how long, and what Nix prints."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self

from cutor.cli.nix_log import Once
from cutor.cli.output import StatusLine
from cutor.client.client import Client, Update
from cutor.model.build_progress import BuildProgress, Lines
from cutor.text import cut, escape, uncoloured

TICK_S: Final = 1.0
"""The line shows whole seconds."""
DIM: Final = "2"
TOLD_CHARACTERS: Final = 200
"""Of the line that an error repeats."""
WAITING: Final = "waiting: "
"""How lines begin by which a builder says, again and again, what it waits for."""
_STORE: Final = re.compile(r"/nix/store/[0-9a-z]{32}-")


class Live:
    """``async with Live("ID", whole=…) as live``: a line on stderr, where that is a terminal.

    ``whole``: every line of what Nix prints is shown, above it; else the newest one stands in it.
    """

    def __init__(self, name: str, *, whole: bool = False) -> None:
        self._name = name
        self._whole = whole
        self._line = StatusLine()
        self._lines = Lines()
        self._once = Once()
        self._doing = "submitted"
        self._printed = ""
        self._waits = ""
        self._newest = ""
        self._since_s = time.monotonic()
        self._ticks: asyncio.Task[None] | None = None

    @property
    def shown(self) -> Collection[str]:
        """The lines that stay on the terminal, the newest of them, without colours and the space around them."""
        return self._once.seen if self._whole else ()

    @property
    def told(self) -> str:
        """The newest line that was heard, as errors repeat it: nothing, where there was none."""
        return cut(escape(self._newest), TOLD_CHARACTERS)

    async def __aenter__(self) -> Self:
        self._line.__enter__()
        self._show()
        if self._line.terminal:
            self._ticks = asyncio.create_task(self._tick(), name="status line")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticks is not None:
            self._ticks.cancel()
        self._line.__exit__(kind, error, trace)

    async def follow(
        self, client: Client, submission_id: str, tenant: str, seen: Callable[[Update], None] | None = None
    ) -> None:
        """Show a submission until its terminal event; ``seen`` is given every event, and may print."""
        async with aclosing(client.follow(submission_id, tenant)) as news:
            async for one in news:
                if isinstance(one, BuildProgress):
                    self._piece(one)
                    continue
                if seen is not None:
                    with self._line.aside():
                        seen(one)
                self._update(one)

    def _update(self, update: Update) -> None:
        if update.summary != self._doing:
            self._doing, self._printed, self._since_s = update.summary, "", time.monotonic()
        self._show()

    def _piece(self, piece: BuildProgress) -> None:
        lines = [line for line in self._once.new(map(uncoloured, self._lines.add(piece))) if line.strip()]
        if not lines:
            return
        fresh = [line for line in lines if self._is_news(line)]
        self._newest = lines[-1].strip()
        if self._whole:
            self._line.above((f"    {line.expandtabs()}" for line in fresh), DIM)
        self._printed = self._waits.removeprefix(WAITING) if self._whole else _STORE.sub("", self._newest)
        self._show()

    def _is_news(self, line: str) -> bool:
        """Return whether a line does not only say once more what is waited for."""
        repeated = line == self._waits
        self._waits = line if line.startswith(WAITING) else ""
        return not repeated

    def _show(self) -> None:
        """Show the line; for how long it has been so, from the second second on."""
        waited_s = int(time.monotonic() - self._since_s)
        waited = f", {waited_s} s" if waited_s > 1 else ""
        self._line.show(f"{self._name}: {self._doing}{waited}" + (f": {self._printed}" if self._printed else ""))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._show()
