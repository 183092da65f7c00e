"""``cutor env build``: build an environment ahead of who needs it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import click

from cutor.bus.errors import NotPermitted
from cutor.cli.env_submission import (
    NOTHING,
    EnvironmentSubmission,
    check_source,
    environment_of,
    facts,
    print_facts,
    request_of,
    source_options,
    with_script,
)
from cutor.cli.options import Wanted, examples, json_option, server_option
from cutor.cli.output import exit_code_of_outcome, print_json
from cutor.cli.render import print_result
from cutor.client.client import Client
from cutor.errors import UNAVAILABLE
from cutor.journal.environments import Environments
from cutor.model.environments import EnvironmentBuilt
from cutor.model.result import Result


@click.command(
    "build",
    epilog=examples(
        "cutor env build examples/c-primes",
        "cutor env build contest/shell.nix --environment-file versions.nix --pin",
    ),
)
@source_options
@click.option("--pin", is_flag=True, help="Pin it, too: `cutor gc` leaves it alone. For operators.")
@json_option
@server_option
@click.pass_obj
def build_command(
    wanted: Wanted, path: str, also: tuple[str, ...], tenant: str | None, timeout_s: float | None, pin: bool
) -> int:
    """Build an environment ahead of who needs it.

    Of a shell.nix, or of a directory with one, what decides the environment is handed in as a submission with a script that
    does nothing: the file, the files that --environment-file names, and those that a submission.toml beside it has as
    `environment_files`. Submissions of the directory find it there. A terminal shows what Nix prints meanwhile. Ctrl-C leaves
    it going on.

    Exit codes: 0 it stands, 1 it cannot be built, or its script did not run; otherwise those of `cutor submit --wait`.
    """
    attempt = EnvironmentSubmission("env-build", timeout_s)
    check_source(path)
    try:
        done = asyncio.run(_build(wanted.find_server(), attempt, path, also, tenant, pin=pin))
    except KeyboardInterrupt as interrupt:
        return attempt.interrupted(interrupt)
    _report(wanted, attempt, done.result, done.built, *([("pinned", "yes")] if done.pinned else []))
    if done.not_pinned is not None:
        click.echo(f"cutor: it is not pinned: {done.not_pinned}", err=True)
        return UNAVAILABLE
    return exit_code_of_outcome(done.result)


class _Built(NamedTuple):
    """What became of it, and why it is not pinned where it was to be."""

    result: Result
    built: EnvironmentBuilt | None
    pinned: bool = False
    not_pinned: NotPermitted | None = None


def _report(
    wanted: Wanted, attempt: EnvironmentSubmission, result: Result, built: EnvironmentBuilt | None, *more: tuple[str, str]
) -> None:
    """Print what became of it: the environment, or why there is none."""
    if wanted.json:
        told = {} if result.environment is None else facts(result, built)
        print_json(told | dict(more) | {"result": result})
    elif result.outcome == "OK":
        print_facts(result, built, *more)
    else:
        print_result(result, shown=attempt.shown)


async def _build(
    server: str, attempt: EnvironmentSubmission, path: str, also: tuple[str, ...], tenant: str | None, *, pin: bool
) -> _Built:
    async with Client(server) as client:
        environments = Environments(client.journal.bus)
        if pin:
            await environments.check_written("env-pinned")
        request = await asyncio.to_thread(request_of, path, also, await client.policy())
        result = await attempt.run(client, with_script(request, NOTHING, cache=True), tenant)
        done = _Built(result, await environment_of(client, result))
        if not pin or result.outcome != "OK" or result.environment is None:
            return done
        try:
            await environments.append_pinned(result.environment.key)
        except NotPermitted as error:
            return done._replace(not_pinned=error)
        return done._replace(pinned=True)
