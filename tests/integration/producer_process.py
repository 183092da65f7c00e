"""A producer in a process of its own: ``python -m tests.integration.producer_process URL``.

Says ``ready`` once it is connected; then reads one JSON document, a list of requests, hands all of them in at once, waits for
the end of each, and prints one JSON document: for each its result, or what was said against it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import msgspec

from cutor import Client, SubmissionConflict

PATIENCE_S = 240.0


async def hand_in(client: Client, request: dict[str, Any]) -> Any:
    """Hand in one request, and return its result, or the conflict as the command line shows it."""
    try:
        receipt = await client.submit(request)
        return msgspec.to_builtins(await client.result(receipt.id, receipt.tenant, wait=True, timeout_s=PATIENCE_S))
    except SubmissionConflict as conflict:
        return {"error": {"message": str(conflict), "exit_code": conflict.exit_code}}


async def main(server: str) -> None:
    """See the module."""
    async with Client(server) as client:
        print("ready", flush=True)
        requests = json.loads(await asyncio.to_thread(sys.stdin.readline))
        print(json.dumps(await asyncio.gather(*(hand_in(client, request) for request in requests))))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
