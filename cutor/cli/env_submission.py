"""A submission that is handed in for its environment's sake: what `cutor env build`, `test` and `refresh` have in common.

They work from anywhere, and need neither Docker nor Nix: builders do it, as they do it for everybody.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from typing import Any, Final

import click
import msgspec

from cutor.bus.errors import NotPermitted
from cutor.cli.live import Live
from cutor.cli.options import Decorated, Seconds
from cutor.cli.render import console
from cutor.client.client import Client, path_of
from cutor.client.submission_directory import file_of, read_environment, shown_path
from cutor.client.waiting import keeping_in_sight, waiting_for, watch_command
from cutor.errors import INTERRUPTED
from cutor.journal.environments import Environments
from cutor.journal.errors import SubmissionUnknown
from cutor.model.catalogue import LABEL
from cutor.model.environments import EnvironmentBuilt
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Policy, RequestedLimits
from cutor.model.request import RUN_SCRIPT, Request, TestCase
from cutor.model.result import Result
from cutor.model.subjects import Address
from cutor.model.units import about, counted
from cutor.text import escape

NOTHING: Final = "exit 0\n"
"""A script for who wants the environment alone."""


def source_options(command: Decorated) -> Decorated:
    """Add what says of which files an environment is made, and for how long it is waited for."""
    options = [
        click.argument("path", metavar="SHELL.NIX|DIR", type=click.Path(readable=False)),
        click.option(
            "--environment-file",
            "also",
            multiple=True,
            metavar="NAME",
            help="A file beneath the directory of shell.nix that it imports; repeatable.",
        ),
        click.option("--tenant", metavar="NAME", help="Tenant that hands it in, else that of submission.toml, else default."),
        timeout_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def timeout_option(command: Decorated, then: str = "it goes on") -> Decorated:
    """Add ``--timeout``; ``then`` is what becomes of the submission."""
    return click.option(
        "--timeout", "timeout_s", type=Seconds(min=0), metavar="SECONDS", help=f"Exit with 4 after so long; {then}."
    )(command)


def request_of(path: str, also: tuple[str, ...], policy: Policy) -> Request:
    """Return a request of a shell.nix, or a directory with one, and of what it imports. Raises `InvalidRequest`.

    Of its labels the last is left out where they are as many as there may be: one more is that of the command.
    """
    request = read_environment(path_of(path), policy.bounds, also)
    return msgspec.structs.replace(request, labels=dict([*request.labels.items()][: policy.bounds.labels - 1]))


def check_source(path: str) -> None:
    """Say of a path where nothing is that it is so, before any stack is looked for. Raises `InvalidRequest`.

    Whatever else is wrong with it, `request_of` finds, which needs the bounds of a stack.
    """
    if not os.path.lexists(path_of(path)):
        raise InvalidRequest(f"{shown_path(path_of(path))}: no such file or directory")


def with_script(request: Request, script: str, *, cache: bool, limits: RequestedLimits | None = None) -> Request:
    """Return a request that runs a script of cutor's in its environment, once; what is not kept is of nobody's course."""
    script_file = file_of(RUN_SCRIPT, script.encode())
    return msgspec.structs.replace(
        request,
        files=(*request.files, script_file),
        test_cases=(TestCase(),),
        cache=cache,
        labels=request.labels if cache else {},
        limits=request.limits if limits is None else limits,
    )


class EnvironmentSubmission:
    """One such submission by this command; ``purpose`` is its label, and the beginning of its id."""

    def __init__(self, purpose: str, timeout_s: float | None) -> None:
        self._purpose = purpose
        self._timeout_s = timeout_s
        self._sending: Address | None = None
        self._stored = False
        self.shown: Collection[str] = ()
        """What a terminal has of Nix's lines."""

    async def run(self, client: Client, request: Request, tenant: str | None) -> Result:
        """Hand it in and return its result; a terminal shows meanwhile what Nix prints.

        Raises `InvalidRequest`, `WaitedTooLong`, `OutOfSight`, and what `Client.submit` does.
        """
        address = Address(request.tenant if tenant is None else tenant, f"{self._purpose}-{secrets.token_hex(6)}")
        self._sending = address
        await client.submit(request, id=address.id, tenant=address.tenant, labels={LABEL: self._purpose})
        self._stored = True
        live = Live(address.id, whole=True)
        async with keeping_in_sight(address), waiting_for(address, self._timeout_s, lambda: live.told):
            async with live:
                await live.follow(client, address.id, address.tenant)
                self.shown = live.shown
            return await client.result(address.id, address.tenant)

    async def cancel(self, client: Client, reason: str) -> str:
        """Cancel it, where it was handed in; return what became of it, for a person."""
        if self._sending is None:
            return "nothing was handed in"
        try:
            cancelled = await client.cancel(self._sending.id, self._sending.tenant, reason=reason)
        except SubmissionUnknown:
            return f"{self._sending.id} is not known to have been handed in"
        return f"{self._sending.id} {'is cancelled' if cancelled else 'has ended'}"

    def interrupted(self, interrupt: KeyboardInterrupt) -> int:
        """Say after Ctrl-C what goes on, and return the exit code; raise it again where nothing was handed in."""
        if self._sending is None:
            raise interrupt
        goes_on = "goes on" if self._stored else "may have been handed in"
        command = watch_command(self._sending.id, self._sending.tenant)
        click.echo(f"cutor: {self._sending.id} {goes_on}: `{command}` follows it", err=True)
        return INTERRUPTED


async def environment_of(client: Client, result: Result) -> EnvironmentBuilt | None:
    """Return what is known of a result's environment; None where it is gone, or where this user may not read it."""
    if result.environment is None:
        return None
    try:
        known = await Environments(client.journal.bus).find(result.environment.key)
    except NotPermitted:
        return None
    return None if known is None else known.built


def facts(result: Result, built: EnvironmentBuilt | None) -> dict[str, Any]:
    """Return what there is to say of an environment that a submission was given, as JSON has it."""
    assert result.environment is not None
    assert result.dependencies is not None
    return {
        "key": result.environment.key,
        "derivation": result.environment.derivation,
        "hit": result.environment.hit,
        "wall_time_ms": result.dependencies.wall_time_ms,
        "closure_bytes": None if built is None else built.closure_bytes,
        "closure_paths": None if built is None else len(built.closure),
        "id": result.id,
        "tenant": result.tenant,
        "outcome": result.outcome,
    }


def print_facts(result: Result, built: EnvironmentBuilt | None, *more: tuple[str, str], kept: bool = True) -> None:
    """Print the same for people; what was built and is not ``kept`` has a key that no other submission will have."""
    assert result.environment is not None
    assert result.dependencies is not None
    took = result.dependencies.wall_time_ms
    took_s = "" if took is None else f" in {took / 1000:.1f} s"
    how = result.dependencies.message or "it was there already"
    lines = [
        ("environment", result.environment.key + ("" if kept or result.environment.hit else " (of this try alone)")),
        ("derivation", result.environment.derivation),
        ("size", "" if built is None else f"{about(built.closure_bytes)} in {counted(len(built.closure), 'store path')}"),
        ("built", f"no, {how}" if result.environment.hit else f"yes{took_s}"),
        ("submission", f"{result.tenant}/{result.id}"),
        *more,
    ]
    out = console()
    for name, value in lines:
        if value:
            out.print(f"{name:<12}{escape(value)}", soft_wrap=True)
