"""What an environment costs: `python -m tests.bench.environments [ROUNDS]`, or `make bench-env`.

Each round begins with an empty store and a new stack with two builders. Printed are medians over the rounds:

- a cold build: a shell with python3, of which the store holds nothing, the compression of its packages included;
- hits in the builder that built it and in another one, told apart by the lease in the log, and the first one after the whole
  stack, server included, was stopped and started;
- a build of one more derivation on what is known, published to a signed binary cache, and the run of it on a host that has it
  and on another host that has to fetch it, all of it, into an empty store;
- for comparison, a plain `nix-shell --pure --run true` of the cold build's shell, in the same container, with everything built.

Times are those of the stream between two events, but for the stages' own.
"""

from __future__ import annotations

import secrets
import statistics
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from cutor.client.client import Client
from cutor.client.submission_directory import read_directory
from cutor.containers.engine import Engine
from cutor.jail.inside.protocol import FrameReader
from cutor.model.events import CacheBuilt, Leased
from cutor.model.subjects import Address
from cutor.nix.session import encode_job
from cutor.nix.settings import NixSettings
from tests.bench.stacks import Machine, expect, machine, main, submission, within
from tests.nix_builds import LIMIT, new_key
from tests.stores import builder_container, lent_store_async, write_config

ROUNDS: Final = 5
HITS: Final = 5
"""Of each builder and round."""
SHELL: Final = "{ pkgs ? import <nixpkgs> { } }:\npkgs.mkShell { packages = [ pkgs.python3 ]; }\n"
ONE_MORE: Final = """
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell { packages = [ pkgs.python3 (pkgs.runCommand "one-more-@" { } "mkdir -p $out/bin; echo @ > $out/bin/one-more") ]; }
"""
REST: Final = {
    "cutor-run.sh": "python3 -c 'print(6 * 7)'\n",
    "submission.toml": "[limits.dependencies]\nwall_time_ms = 600000\n",  # a machine that has much else to do may take long
}
NIX_SHELL: Final = """
import os, sys
sys.path[0] = "/opt/cutor"
from cutor.jail.inside.cgroup import Cgroup
from cutor.jail.inside.channel import Program, pack_variables
from cutor.jail.inside.host_link import HostLink
from cutor.jail.inside.nsjail_args import nsjail_command
from cutor.jail.inside.stage import run_stage
from cutor.nix.inside import build_init, daemon, jails, namespace, store
from cutor.nix.inside.job import decode_job

def measure():
    link, cgroup, lock = HostLink(), Cgroup(), store.hold_lock(lambda: None)
    job = decode_job(link.next())
    build_init.Build(job, link, cgroup, lock)._prepare()
    running = daemon.start(job.daemon_configuration, job.limits.file_size_bytes, job.limits.open_files)
    command = ["/usr/bin/nix-shell", "--pure", "/box/shell.nix", *job.options, "--run", "true"]
    given = daemon.CLIENT_VARIABLES | {"HOME": "/tmp", "NIX_PATH": job.nix_path, "NIX_CONFIG": f"cores = {job.cores}"}
    program = Program([word.encode() for word in command], pack_variables({n.encode(): v.encode() for n, v in given.items()}))
    jail = nsjail_command(jails.evaluation_jail(job.policy, network=False))
    for _ in range(6):
        result = run_stage(jail, program, job.limits, b"", host=link, cgroup=cgroup, run_as=build_init.JAILED)
        link.send({"type": "nix-shell", "report": result.header()}, result.body())
    running.stop()
    return 0

if "CUTOR_IN_NAMESPACE" in os.environ:
    sys.exit(measure())
os.environ["CUTOR_IN_NAMESPACE"] = "1"
sys.exit(namespace.run_in_namespace(lambda: os.execv(sys.executable, sys.orig_argv)))
"""
"""The build init's own pieces around a real nix-shell: what it costs where cutor would have it run."""


class Timed(NamedTuple):
    """One submission: who built, whether it was a hit, and milliseconds: its stage, up to ``cache-built``, from there on."""

    builder: str
    hit: bool
    stage_ms: float
    built_ms: float
    ran_ms: float


class Row(NamedTuple):
    """A line of the table; None where there is nothing of the kind."""

    stage_ms: float | None
    built_ms: float | None
    ran_ms: float | None


async def timed(client: Client, source: Path) -> Timed:
    """Submit, wait for the end, and read the times out of the stream."""
    request = read_directory(source, (await client.policy()).bounds)
    receipt = await client.submit(request, id=f"bench-{secrets.token_hex(8)}")
    result = await client.result(receipt.id, wait=True)
    expect(result.outcome == "OK", f"{result.outcome}: {result.message}")
    entries = await client.journal.entries(Address(receipt.tenant, receipt.id))
    at_ms = {type(entry.message).__name__: entry.stored.time_ns / 1e6 for entry in entries}
    messages = [entry.message for entry in entries]
    leases = [message.lease for message in messages if isinstance(message, Leased)]
    [builder] = [lease.worker for lease in leases if lease.role == "builder"]
    [built] = [message for message in messages if isinstance(message, CacheBuilt)]
    built_ms, ended_ms = at_ms["CacheBuilt"] - at_ms["Submitted"], at_ms["Finished"] - at_ms["CacheBuilt"]
    return Timed(builder, built.environment.hit, float(built.stage.wall_time_ms or 0), built_ms, ended_ms)


class Bench:
    """All rounds; `rows` has what was measured, by what it was."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.rows: dict[str, list[Row]] = {}

    async def round(self, number: int) -> None:
        """Measure everything once."""
        directory = self._directory / f"round-{number}"
        source = submission(directory / "python", {"shell.nix": SHELL} | REST)
        async with lent_store_async() as store:
            with machine(directory) as there:
                write_config(there.config, store)
                await self._built_and_hit(there, source)
                there.down()
                await self._after_restart(there, source)
                there.down()
                await self._fetched(there, store, directory)
            for milliseconds in await nix_shell(store):
                self._add("a plain nix-shell --run true, all built", Row(milliseconds, None, None))

    async def _built_and_hit(self, there: Machine, source: Path) -> None:
        there.up("builder", "runner", "projector")
        there.start_role("second", "builder")
        async with there.client() as client:
            cold = await timed(client, source)
            expect(not cold.hit, cold)
            self._add("cold build, of an empty store", of(cold))
            hits: dict[bool, list[Timed]] = {True: [], False: []}
            for _ in within("hits of each builder"):
                hit = await timed(client, source)
                expect(hit.hit, hit)
                hits[hit.builder == cold.builder].append(hit)
                if min(map(len, hits.values())) > HITS:
                    break
            for same, what in ((True, "warm hit, in the builder that built it"), (False, "hit in another builder")):
                for hit in hits[same][1 : HITS + 1]:  # the first of each builder opens its ways
                    self._add(what, of(hit))

    async def _after_restart(self, there: Machine, source: Path) -> None:
        there.up("builder", "runner", "projector")
        async with there.client() as client:
            hit = await timed(client, source)
            expect(hit.hit, hit)
            self._add("the first hit after a restart of everything", of(hit))

    async def _fetched(self, there: Machine, store: NixSettings, directory: Path) -> None:
        """Build one more derivation, publish it, and have it run on this host and on another."""
        token = secrets.token_hex(4)
        source = submission(directory / "more", {"shell.nix": ONE_MORE.replace("@", token)} | REST)
        cache = directory / "cache"
        cache.mkdir()
        cache.chmod(0o777)  # containers write as the store's owner
        public = there.cutor("env", "cache-key", "bench-1", str(directory / "key")).strip()
        here = {"cache_url": f"file://{cache}", "cache_secret_key_file": str(directory / "key")}
        write_config(there.config, store, **here)
        async with lent_store_async() as other, AsyncExitStack() as stack:
            elsewhere = write_config(directory / "other.toml", other, cache_url=f"file://{cache}", cache_public_keys=[public])
            there.up("builder", "projector")
            client = await stack.enter_async_context(there.client())
            there.start_role("here", "runner")
            built = await timed(client, source)
            expect(not built.hit, built)
            self._add("one more derivation, published to the cache", of(built)._replace(ran_ms=None))
            for _ in range(HITS):
                self._add("a run on a host that has it", Row(None, None, (await timed(client, source)).ran_ms))
            there.end_role("here")
            stack.callback(there.end_role, "elsewhere")
            there.start_role("elsewhere", "runner", elsewhere)
            for number in range(HITS + 1):
                ran = await timed(client, source)
                what = "a run elsewhere, fetched into an empty store" if not number else "a run elsewhere, once it was fetched"
                self._add(what, Row(None, None, ran.ran_ms))

    def _add(self, what: str, row: Row) -> None:
        self.rows.setdefault(what, []).append(row)


def of(timed_submission: Timed) -> Row:
    """Return the line of one submission."""
    return Row(timed_submission.stage_ms, timed_submission.built_ms, timed_submission.ran_ms)


async def nix_shell(store: NixSettings) -> list[float]:
    """Return what each of a few calls of nix-shell takes in a build container, after the first."""
    found: list[float] = []
    async with Engine.connect() as engine:
        child = await engine.start(builder_container(["/usr/bin/python3", "-S", "-E", "-c", NIX_SHELL], store))
        try:
            await child.send(encode_job(store, new_key(), {"shell.nix": SHELL.encode()}, LIMIT))
            reader = FrameReader()
            while data := await child.receive():
                for frame in reader.feed(data):
                    report = msgspec.json.decode(frame.header)["report"]
                    expect(report["exit_code"] == 0, (report, frame.body[-2000:]))
                    found.append(float(report["wall_time_ms"]))
        finally:
            await child.remove()
    expect(len(found) > 1, "nix-shell did not run")
    return found[1:]


def table(rows: dict[str, list[Row]]) -> str:
    """Return medians as a table."""
    lines = ["| | dependencies stage | submitted to cache-built | cache-built to finished | of |", "|---|--:|--:|--:|--:|"]
    for what, measured in rows.items():
        cells = [cell([getattr(row, name) for row in measured]) for name in Row._fields]
        lines.append(f"| {what} | {' | '.join(cells)} | {len(measured)} |")
    return "\n".join(lines)


def cell(values: list[float | None]) -> str:
    """Return a median in milliseconds, or nothing."""
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):,.0f} ms" if known else ""


async def run(directory: Path, rounds: int) -> None:
    """Measure and print."""
    bench = Bench(directory)
    for number in range(rounds):
        await bench.round(number)
        print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
    print(table(bench.rows))


if __name__ == "__main__":
    sys.exit(main(run, ROUNDS))
