"""A Docker Engine that has nothing: who would remove everything of it finds no image, no volume and no container."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}


class Nothing(BaseHTTPRequestHandler):
    """Answers lists with an empty one, and whatever has a name with 404."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = re.sub(r"^/v[\d.]+", "", self.path.partition("?")[0])
        if path == "/version":
            self.tell(200, VERSION)
        elif path in ("/containers/json", "/images/json"):
            self.tell(200, [])
        else:
            self.tell(404, {"message": "no such thing"})

    def tell(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def empty_engine(socket: Path) -> Iterator[str]:
    """Serve it at a socket in the block, whose path is short enough for one. Yields the address, for DOCKER_HOST."""
    with Server(str(socket), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"unix://{socket}"
        finally:
            server.shutdown()
