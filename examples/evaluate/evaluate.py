"""Evaluates candidate programs: `evaluate.py CANDIDATES.jsonl` hands in each line of the file once, and waits for all."""

import asyncio
import json
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import cutor

AT_ONCE = 16
PROBLEMS = json.loads(Path(__file__).with_name("problems.json").read_text())
SHELL = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3 ]; }"


def request(candidate: dict) -> dict:
    model, problem, sample, program = (candidate[key] for key in ("model", "problem", "sample", "program"))
    return {
        "id": f"{model}-{problem}-{sample}-{sha256(program.encode()).hexdigest()[:8]}",
        "files": [
            {"name": "shell.nix", "content": SHELL},
            {"name": "cutor-run.sh", "content": "exec python3 program.py"},
            {"name": "program.py", "content": program},
        ],
        "test_cases": PROBLEMS[problem],
        "labels": {"evaluation": "first", "model": model, "problem": problem, "sample": str(sample)},
    }


async def evaluate(client: cutor.Client, places: asyncio.Semaphore, candidate: dict) -> cutor.Result:
    async with places:
        receipt = await client.submit(request(candidate))
        return await client.result(receipt.id, wait=True)


async def main(candidates: list[dict]) -> None:
    began, places = time.monotonic(), asyncio.Semaphore(AT_ONCE)
    async with cutor.Client() as client:
        results = await asyncio.gather(*(evaluate(client, places, one) for one in candidates))
    outcomes = sorted(Counter(str(result.outcome) for result in results).items())
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes)
    print(f"{len(results)} programs in {time.monotonic() - began:.1f} s: {told}")


asyncio.run(main([json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]))
