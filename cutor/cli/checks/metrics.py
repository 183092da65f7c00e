"""What ``cutor doctor`` says of the endpoints on which the roles of this host's stack tell their metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cutor.cli.checks.findings import Finding, ok, warn
from cutor.metrics.settings import MetricsSettings
from cutor.process.exposing import addresses

ASK_S: Final = 2.0
"""How long an endpoint on this host may take: it answers in milliseconds, and `doctor` asks several. A choice."""
_QUESTION: Final = b"GET /healthz HTTP/1.1\r\nHost: cutor\r\n\r\n"
_SERVES: Final = b"HTTP/1.1 200 "


async def check_metrics(settings: MetricsSettings, data: Path) -> Finding:
    """Ask each endpoint of a running stack, by the files in its data directory, whether its role serves."""
    if not settings.enabled:
        return ok("metrics", "`metrics.enabled` is false: no role tells any")
    found = addresses(data)
    serve = dict(zip(found, await asyncio.gather(*(_serves(address) for address in found.values())), strict=True))
    return judge(found, serve)


def judge(found: Mapping[str, str], serve: Mapping[str, bool]) -> Finding:
    """Return what the addresses of endpoints mean, by role; ``serve``: whether each answers that its role serves."""
    told = ", ".join(f"{role} http://{address}/metrics" for role, address in found.items())
    silent = [role for role, serves in serve.items() if not serves]
    if silent:
        return warn("metrics", f"{told}; not serving: {', '.join(silent)}", "the log of the role says why")
    return ok("metrics", told or "no role of this stack tells any: a role that cannot listen says so in its log")


async def _serves(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(_QUESTION)
                return (await reader.readexactly(len(_SERVES))) == _SERVES
            finally:
                writer.close()
    except (OSError, ValueError, EOFError, TimeoutError):
        return False
