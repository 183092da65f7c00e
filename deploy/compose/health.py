"""Whether a service of compose.yaml works, for its health check: `health.py node FILE`, `health.py role NAME`.

A node says so by its greeting and its certificate, both to whoever connects; a role by `/healthz` at its metrics. The port is
in the service's configuration. Anything else is an exception, and with it exit code 1. Standard library alone: it runs in the
image with Python of the system.
"""

import os
import re
import socket
import ssl
import sys
import tomllib
import urllib.request
from pathlib import Path

PATIENCE_S = 3
GREETING_BYTES = 65536
CLIENTS = re.compile(r'^client_address: "(?P<host>[^"]+):(?P<port>\d+)"$', re.MULTILINE)


def node(file: str) -> None:
    """Connect to the nats-server of this configuration as its clients do, up to the credential. Beside it is `secrets`."""
    found = CLIENTS.search(Path(file).read_text())
    if found is None:
        raise ValueError(f"{file} has no client_address")
    trusted = ssl.create_default_context(cafile="secrets/ca.pem")
    with socket.create_connection((found["host"], int(found["port"])), PATIENCE_S) as connection:
        if not connection.recv(GREETING_BYTES).startswith(b"INFO "):
            raise ConnectionError("no nats-server answers")
        trusted.wrap_socket(connection, server_hostname=found["host"]).close()


def role(name: str) -> None:
    """Ask a role whether it serves; it answers 503 while it does not."""
    port = tomllib.loads(Path(os.environ["CUTOR_CONFIG"]).read_text())["metrics"][f"{name}_port"]
    urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE_S).close()


if __name__ == "__main__":
    {"node": node, "role": role}[sys.argv[1]](sys.argv[2])
