"""The thread of a bulk read and who takes from it: neither waits for the other's business."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from cutor.bus.bulk.puller import Puller
from cutor.bus.bulk.wire import Wire

PATIENCE_S = 60.0


def test_who_takes_does_not_wait_for_a_server_that_takes_nothing() -> None:
    """The event loop takes: it would stand still for as long as the server does."""
    ours, server = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 1024)
    ours.settimeout(PATIENCE_S)
    puller = Puller(Wire(ours, "inbox"), "S", "c", lambda: None)
    puller.start()
    try:
        taken = threading.Event()

        def take() -> None:
            while not puller._pulling.pulls:
                puller.has(1, 1, 1)
            puller.take(1, 1)
            taken.set()

        threading.Thread(target=take, daemon=True).start()
        assert taken.wait(PATIENCE_S / 2)
        assert puller._thread.is_alive()
    finally:
        puller.stop()
        server.close()
