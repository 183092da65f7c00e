"""Whether a service of compose.yaml works, for its health check: `health.py node PORT`, `health.py role PORT`.

A node says so by its greeting and its certificate, both to whoever connects; a role by `/healthz` at its metrics. Anything else
is an exception, and with it exit code 1. Standard library alone: it runs in the image with Python of the system.
"""

import socket
import ssl
import sys
import urllib.request

HOST = "127.0.0.1"
PATIENCE_S = 3
GREETING_BYTES = 65536


def node(port: int) -> None:
    """Connect to a nats-server as its clients do, up to the credential. Its directory is the current one."""
    trusted = ssl.create_default_context(cafile="secrets/ca.pem")
    with socket.create_connection((HOST, port), PATIENCE_S) as connection:
        if not connection.recv(GREETING_BYTES).startswith(b"INFO "):
            raise ConnectionError("no nats-server answers")
        trusted.wrap_socket(connection, server_hostname=HOST).close()


def role(port: int) -> None:
    """Ask a role whether it serves; it answers 503 while it does not."""
    urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=PATIENCE_S).close()


if __name__ == "__main__":
    {"node": node, "role": role}[sys.argv[1]](int(sys.argv[2]))
