"""What Docker has of a submission at the moment when its ``cleaned`` is read.

Who appends that by itself or after a sweep says that the container is gone: `Engine.remove` is done when Docker has it no more.
A takeover claims nothing about what another worker left. Asked over Docker's socket: a second's delay would be missed by less.
"""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from typing import Any, Final

from tests.fault.invariants import Entry
from tests.served import serves

SOCKET: Final = "/var/run/docker.sock"
CLAIM_IT: Final = ("worker", "sweep")


class AtCleaned:
    """Looks once for each submission that was cleaned; `left` says what was found since it was asked last."""

    def __init__(self) -> None:
        self._looks: dict[str, asyncio.Task[list[str]]] = {}
        self.looked = 0

    def look(self, identity: str, entry: Entry) -> None:
        """Begin to look for containers of a submission that serve the worker who says that they are gone."""
        by, worker = entry.body.get("by"), str(entry.body.get("worker"))
        if by in CLAIM_IT and identity not in self._looks:
            instance = worker.rpartition("-")[2]  # `worker_name`
            self._looks[identity] = asyncio.create_task(_containers(instance, identity))

    async def left(self) -> dict[str, list[str]]:
        """Return the containers that were there when they had been said to be gone, by submission."""
        looks, self._looks = self._looks, {}
        self.looked += len(looks)
        found = {identity: await look for identity, look in looks.items()}
        return {identity: containers for identity, containers in found.items() if containers}


async def _containers(instance: str, identity: str) -> list[str]:
    wanted = urllib.parse.quote(json.dumps({"label": [f"cutor={instance}"]}))
    found = await _ask(f"/containers/json?all=1&filters={wanted}")
    named = [(one, one["Names"][0].lstrip("/")) for one in found if one["Names"]]  # without: `Engine.labelled`
    return [str(one["Id"])[:12] for one, name in named if serves(name, one["Labels"], identity)]


async def _ask(path: str) -> Any:
    reader, writer = await asyncio.open_unix_connection(SOCKET)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    assert b" 200 " in head.partition(b"\r\n")[0], head
    return json.loads(body)
