"""Requests that are good for sure, under a policy of small bounds. The same `Random`, the same request."""

from __future__ import annotations

import base64
from random import Random
from typing import Any, Final

from cutor.model.limits import STAGE_KINDS, UNITS, Bounds, Policy

Document = dict[str, Any]

BOUNDS: Final = Bounds(
    request_bytes=4000,
    files=6,
    file_name_bytes=60,
    test_cases=4,
    test_case_name_bytes=16,
    args=4,
    arg_bytes=48,
    labels=3,
    label_bytes=24,
)
POLICY: Final = Policy(bounds=BOUNDS, tenants={"default": 1, "batch": 2, "interactive": 3})

TEXTS: Final = ("", "x", "print(1)\n", "é\0\x1b[2J", "日本語 \U0001f600", '"\\/', "a\tb\r\n")
NAMES: Final = ("main.py", "src/a.c", "src/b.c", "ü/é.txt", "lib/nix/x.nix", "cutor-compile.sh", "odd name\n'\"")
LABELS: Final = (("a", ""), ("ключ", "é"), ("\x1b[1m", "x\ny"), ("k", "v" * 20))


def good_request(random: Random) -> Document:
    """Return a request that `POLICY` accepts: any of the fields, in any order."""
    names = ["shell.nix", "cutor-run.sh", *random.sample(NAMES, random.randrange(4))]
    request: Document = {
        "files": [{"name": name, **_content(random)} for name in random.sample(names, len(names))],
        "test_cases": [_case(random) for _ in range(random.randint(1, 3))],
    }
    optional: Document = {
        "id": random.choice([None, "a", "A-b_9" * 12]),
        "tenant": random.choice(sorted(POLICY.tenants)),
        "environment_files": random.sample(names, random.randrange(2)),
        "cache": random.random() < 0.5,
        "limits": {kind: _limit(random, kind) for kind in STAGE_KINDS if random.random() < 0.6},
        "compare": random.choice(["exact", "trailing_whitespace"]),
        "stop_on_failure": random.random() < 0.5,
        "labels": dict(random.sample(LABELS, random.randrange(3))),
    }
    request |= {key: value for key, value in optional.items() if random.random() < 0.5}
    return {key: request[key] for key in random.sample(list(request), len(request))}


def _content(random: Random) -> dict[str, str]:
    """Return a content and its encoding, as fields of a file."""
    data = random.randbytes(random.randrange(12))
    return random.choice(
        [
            {"content": random.choice(TEXTS)},
            {"content": random.choice(TEXTS), "encoding": "utf8"},
            {"content": base64.b64encode(data).decode(), "encoding": "base64"},
            {"content": data.hex(), "encoding": "hex"},
        ]
    )


def _case(random: Random) -> Document:
    text = _content(random)
    optional: Document = {
        "name": random.choice([None, "", "first", "é\x1b"]),
        "input": random.choice([None, text["content"]]),
        "expected_output": random.choice([None, text["content"]]),
        "args": random.sample(["", "-v", "ünï", "a b", "\n"], random.randrange(3)),
    }
    case: Document = {"encoding": text["encoding"]} if "encoding" in text else {}
    return case | {key: value for key, value in optional.items() if random.random() < 0.6}


def _limit(random: Random, kind: str) -> Document:
    policy = getattr(POLICY.limits, kind)
    return {
        name: random.choice([None, 1, getattr(policy.default, name), getattr(policy.maximum, name)])
        for name in random.sample(list(UNITS), random.randrange(4))
    }
