"""A static file server on the gateway of a Docker network of the test's own: a binary cache over HTTP, and its faults."""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiodocker import Docker


@dataclass
class Faults:
    """What the server does wrong: of files whose name ends so it sends half, and then nothing until ``go_on``.

    What has ``fails_at`` in its name it does not give: HTTP error 503.
    """

    fails_at: str | None = None
    stalls_at: str | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class CacheServer:
    """A server that runs: its address as containers on ``network`` reach it, and its directory."""

    url: str
    network: str
    directory: Path
    faults: Faults


class _Handler(SimpleHTTPRequestHandler):
    """Serves files and takes them, as a cache over HTTP does."""

    def __init__(self, *args: object, faults: Faults, **kwargs: object) -> None:
        self._faults = faults
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def do_PUT(self) -> None:
        """Take a file."""
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(HTTPStatus.CREATED)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """Send a file; half of it where that is wanted."""
        if self._fails():
            return
        path = Path(self.translate_path(self.path))
        if self._faults.stalls_at is None or not path.name.endswith(self._faults.stalls_at) or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self._faults.stalled.set()
        self._faults.go_on.wait(300)

    def do_HEAD(self) -> None:
        """Say how a file would be sent."""
        if not self._fails():
            super().do_HEAD()

    def _fails(self) -> bool:
        if self._faults.fails_at is None or self._faults.fails_at not in self.path:
            return False
        self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library names it
        """Say nothing."""


@asynccontextmanager
async def docker_network() -> AsyncIterator[tuple[str, str]]:
    """Lend a Docker network of the test's own: its name, and the address of its gateway, which is this machine."""
    name = f"cutor-test-{secrets.token_hex(4)}"
    async with Docker() as docker:
        network = await docker.networks.create({"Name": name, "Driver": "bridge", "CheckDuplicate": True})
        try:
            shown = await network.show()
            yield name, shown["IPAM"]["Config"][0]["Gateway"]
        finally:
            await network.delete()


@asynccontextmanager
async def cache_server(directory: Path) -> AsyncIterator[CacheServer]:
    """Serve a directory while the block lasts."""
    faults = Faults()
    async with docker_network() as (network, gateway):
        server = ThreadingHTTPServer((gateway, 0), partial(_Handler, directory=str(directory), faults=faults))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield CacheServer(f"http://{gateway}:{server.server_port}", network, directory, faults)
        finally:
            faults.go_on.set()
            server.shutdown()
            server.server_close()
            thread.join()
