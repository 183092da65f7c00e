"""What the tests of a NATS that is away share: requests, and what becomes of the way to the server."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final

from tests.fault.proxy import Proxy

TERMINAL: Final = frozenset({"finished", "cancelled", "rejected", "parked"})
PATIENCE_S: Final = 240.0


def request(run: str = "true", *, large_bytes: int = 0, **more: Any) -> bytes:
    """The JSON of a request; its input is as large as wanted, and like no other."""
    files = [{"name": "shell.nix", "content": "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"}]
    files += [{"name": "cutor-run.sh", "content": run}]
    given = secrets.token_hex(large_bytes // 2)
    return json.dumps(
        {"files": files, "test_cases": [{"input": given}], "labels": {"unique": secrets.token_hex(8)}} | more
    ).encode()


def nobody(proxy: Proxy) -> None:
    """No server answers: connections are reset."""
    proxy.cut()


def frozen(proxy: Proxy) -> None:
    """Nothing goes through, and nothing is closed."""
    proxy.freeze()
