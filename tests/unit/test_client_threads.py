"""The client in many threads: the first use of a type by several at once must not crash the interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys, threading, time, types, typing
import cutor.client.client
from cutor.bus.reading import Reading
from cutor.config import parse
from cutor.model.codec import decode_policy, encode
from cutor.model.limits import Policy
from cutor.model.request import request_from

request = {"files": [{"name": "a", "content": "x"}] * 50, "test_cases": [{}] * 50, "limits": {"run": {"open_files": 5}}}
policy = encode(Policy())
config = b"[runner]\\nslots = 2\\n[limits.run.default]\\nopen_files = 5\\n"
answer = types.SimpleNamespace(data=b'{"message": {"subject": "s", "seq": 1, "time": "2026-01-01T00:00:00Z"}}')

class Link:
    patience_s = 0.0

    async def ask(self, subject, data, *, until, again_every_s):
        return answer

act = {
    "request": lambda: request_from(request),
    "policy": lambda: decode_policy(policy),
    "config": lambda: parse(config, "config"),
    "message": lambda: asyncio.run(Reading(Link(), None).leader("EVENTS", {"seq": 1})),
}[sys.argv[1]]
evaluate = typing.ForwardRef._evaluate

def slowly(*args, **more):
    time.sleep(0.002)  # others have their turn while msgspec learns the type
    return evaluate(*args, **more)

typing.ForwardRef._evaluate = slowly

def use(number):
    time.sleep(number / 1000)
    act()

threads = [threading.Thread(target=use, args=(number,)) for number in range(200)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("whole")
"""


@pytest.mark.parametrize("what", ["request", "policy", "config", "message"])
def test_threads_may_be_the_first_to_use_a_type(what: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")
