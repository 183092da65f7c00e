"""Fifty environments at once: `python -m tests.bench.fifty_environments [COUNT]`, the second half of `make bench-env`.

On a copy of this machine's store and a stack of its own, two builders are given so many generated `shell.nix` files, each by
two submissions at the same time. Then it is looked at, and anything that is not as it must be ends this with exit code 1:

- every program printed exactly what its environment makes it print;
- every environment was built once, both builders built, and who came second found it there;
- nothing is left over: no container, no directory or lock of a build, no half-made roots, every submission is clean;
- `cutor gc` brings the store back to where it began: the same paths, the same bytes; Nix finds nothing wrong with it;
- one of them, handed in once more, is built again, and right.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from cutor.client.client import Client, Receipt
from cutor.client.submission_directory import file_of
from cutor.containers.engine import Engine
from cutor.model.content import decode_text
from cutor.model.events import Leased
from cutor.model.limits import RequestedLimit, RequestedLimits
from cutor.model.request import Request, TestCase
from cutor.model.result import Result
from cutor.model.subjects import Address
from cutor.nix.settings import NixSettings
from tests.bench.generated_shells import Generated, generated
from tests.bench.stacks import Machine, expect, machine, main, within
from tests.stores import copy_store, lent_store_async, run_in_store, write_config

COUNT: Final = 50
TWINS: Final = 2
LIMITS: Final = RequestedLimits(dependencies=RequestedLimit(wall_time_ms=600_000), run=RequestedLimit(wall_time_ms=60_000))
"""Generous: a machine that has much else to do may take long."""
LOOK: Final = """
import json, os, sys
sys.path.insert(0, "/opt/cutor")
from cutor.nix.inside.store import HALF_MADE, ROOTS, is_leftover
store = [entry for entry in os.scandir("/nix/store") if entry.name != ".links"]
left = [entry.path for entry in store if is_leftover(entry) or entry.name.endswith((".lock", ".chroot"))]
left += [entry.path for entry in os.scandir(ROOTS) if entry.name.startswith(HALF_MADE)]
files = {}
for entry in store:
    if entry.path not in left:
        files[os.lstat(entry.path).st_ino] = 0 if entry.is_dir(follow_symlinks=False) else os.lstat(entry.path).st_size
        for place, _, names in os.walk(entry.path):
            files |= {found.st_ino: found.st_size for found in (os.lstat(f"{place}/{name}") for name in names)}
paths = sorted(entry.name for entry in store if entry.path not in left)
print(json.dumps({"size_bytes": sum(files.values()), "paths": paths, "left": left}))
"""
VERIFY: Final = "export NIX_REMOTE=local HOME=/tmp; exec nix-store --verify --check-contents"
"""Says with its exit code whether the store has what the database promises, and every path the content of its hash."""


class Look(msgspec.Struct, frozen=True):
    """What is in a store: the bytes of its files, its paths, and what no store path is and a dead build had left."""

    size_bytes: int
    paths: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.paths)} paths, {self.size_bytes:,} bytes"


class Show:
    """One run of it, on a store and a stack."""

    def __init__(self, there: Machine, store: NixSettings, count: int) -> None:
        self._there = there
        self._store = store
        self._shells = generated(count, secrets.token_hex(3))

    async def run(self) -> None:
        """Do all of it, and say what was found."""
        there = self._there
        there.up("builder", "runner", "projector")
        there.start_role("second", "builder")
        there.cutor("gc", "--all", "--unknown", "--yes")  # what other stacks had put into the store that was copied
        began = await self._look()
        say(f"the store begins with {began}")
        async with there.client() as client:
            await self._build_and_check(client)
            await self._check_leftovers()
            full = await self._look()
            say(f"nothing is left over; the store has {full}")
            say(f"cutor gc --all: {there.cutor('gc', '--all', '--yes').splitlines()[-1]}")
            ended = await self._look()
            expect(ended == began, difference(began, ended))
            say(f"the store has {ended}: the same paths and the same bytes as in the beginning")
            await self._in_store(VERIFY)
            say("nix-store --verify --check-contents finds nothing wrong with it")
            await self._once_more(client)

    async def _build_and_check(self, client: Client) -> None:
        began = time.monotonic()
        handed = [(one, await self._submit(client, one)) for _ in range(TWINS) for one in self._shells]
        results = await asyncio.gather(*(client.result(receipt.id, wait=True) for _, receipt in handed))
        took_s = time.monotonic() - began
        for (one, _), result in zip(handed, results, strict=True):
            check(one, result)
        builders = await self._builders(client, results)
        keys = {result.environment.key for result in results if result.environment is not None}
        expect(len(keys) == len(self._shells), f"{len(keys)} keys")
        listed = {entry["key"]: entry for entry in self._there.json("env", "list")}
        for key in keys:
            entry = listed[key]
            expect((entry["builds"], entry["uses"], entry["hits"]) == (1, TWINS, TWINS - 1), entry)
        expect(len(builders) == 2, builders)
        shares = " and ".join(f"{count} by {worker}" for worker, count in sorted(builders.items()))
        say(
            f"{len(results)} submissions of {len(keys)} environments in {took_s:.0f} s, each correct; built once each, {shares}"
        )

    async def _submit(self, client: Client, one: Generated) -> Receipt:
        files = tuple(file_of(name, content.encode()) for name, content in one.files.items())
        request = Request(files=files, environment_files=one.environment_files, test_cases=(TestCase(),), limits=LIMITS)
        return await client.submit(request, id=f"{one.name}-{secrets.token_hex(3)}")

    async def _builders(self, client: Client, results: list[Result]) -> Counter[str]:
        """Return how many environments each builder built."""
        built: Counter[str] = Counter()
        for result in results:
            if result.environment is None or result.environment.hit:
                continue
            entries = await client.journal.entries(Address(result.tenant, result.id))
            leases = [entry.message.lease for entry in entries if isinstance(entry.message, Leased)]
            built[next(lease.worker for lease in reversed(leases) if lease.role == "builder")] += 1
        return built

    async def _check_leftovers(self) -> None:
        """Wait for the last clean-up, and find nothing behind it."""
        for _ in within("the clean-up of all submissions"):
            unclean = self._there.cutor("query", "SELECT id FROM submissions WHERE cleaned_at IS NULL", "--format", "csv")
            if len(unclean.split()) == 1:  # the heading
                break
            await asyncio.sleep(0.5)
        for _ in within("the removal of all containers"):
            if not (left := await self._there.containers()):
                break
            await asyncio.sleep(0.2)
        expect(not left, left)
        expect(not (look := await self._look()).left, look.left)

    async def _once_more(self, client: Client) -> None:
        one = self._shells[0]
        result = await client.result((await self._submit(client, one)).id, wait=True)
        check(one, result)
        expect(result.environment is not None and not result.environment.hit, result)
        say("one of them, handed in once more, was built again, and is correct")

    async def _look(self) -> Look:
        program = shlex.quote(LOOK)
        return msgspec.json.decode(await self._in_store(f"exec /usr/bin/python3 -S -E -c {program}"), type=Look)

    async def _in_store(self, script: str) -> str:
        async with Engine.connect() as engine:
            return await run_in_store(engine, script, self._store)


def check(one: Generated, result: Result) -> None:
    """Make sure that a program printed exactly what its environment makes it print."""
    expect(result.outcome == "OK", f"{one.name}: {result.outcome}: {result.message}")
    printed = decode_text(result.run[0].stdout.encoding, result.run[0].stdout.data).decode()
    expect(printed == one.printed, f"{one.name} printed {printed!r}, not {one.printed!r}")


def difference(began: Look, ended: Look) -> str:
    """Return in what two stores differ."""
    more, fewer = sorted({*ended.paths} - {*began.paths}), sorted({*began.paths} - {*ended.paths})
    return f"the store is not as it was: {ended.size_bytes - began.size_bytes} bytes, more: {more[:5]}, fewer: {fewer[:5]}"


def say(line: str) -> None:
    """Print a line at once."""
    print(f"- {line}", flush=True)


async def run(directory: Path, count: int) -> None:
    """Show it on a copy of the store that is removed afterwards."""
    async with lent_store_async(copy_store) as store:
        with machine(directory / "stack") as there:
            write_config(there.config, store)
            await Show(there, store, count).run()


if __name__ == "__main__":
    sys.exit(main(run, COUNT))
