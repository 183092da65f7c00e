"""The client of NATS without its websockets."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

_OF_WEBSOCKETS: Final = "aiohttp"


def import_without_websockets() -> None:
    """Import the client of NATS, and not what it needs for websockets alone: half of the time in which a command starts.

    An address of cutor's cannot name a websocket. To be called where the process is cutor's own, before anything else
    imports the client: in a process of others it would take websockets from them. What it left out can still be imported.
    """
    if _OF_WEBSOCKETS in sys.modules:
        return
    sys.modules[_OF_WEBSOCKETS] = None  # type: ignore[assignment] # so that its import fails, which the client provides for
    try:
        import_module("nats")
    finally:
        del sys.modules[_OF_WEBSOCKETS]
