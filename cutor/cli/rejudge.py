"""``cutor rejudge``: submissions that were judged before, handed in again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import click

from cutor.cli import interruption
from cutor.cli.options import Seconds, Wanted, examples, json_option, named_submission, parse_labels, server_option
from cutor.cli.output import StatusLine
from cutor.cli.rejudge_report import document, goes_on, report
from cutor.client.client import Client
from cutor.errors import DONE, INTERRUPTED, REFUSED, WaitedTooLong
from cutor.model.rejudgement import Rejudged, check_name, name_of_now
from cutor.model.subjects import Address, check_address
from cutor.operations.rejudging import Rejudging


@click.command(
    "rejudge",
    epilog=examples(
        "cutor rejudge 6f1c2a 77ab01",
        "cutor rejudge --where \"outcome = 'RUN_ERROR' and submitted_at > now() - interval 1 day\"",
        "cutor rejudge --label course=introduction --name new-tests --yes --wait",
    ),
)
@click.argument("ids", metavar="[TENANT/]ID...", nargs=-1)
@click.option("--where", metavar="SQL", help="Those for which this condition over the view `submissions` holds.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", callback=parse_labels, help="Those with this label.")
@click.option("--tenant", metavar="NAME", help="Those of this tenant; with ID: the tenant of each that does not say it.")
@click.option("--yes", is_flag=True, help="Hand them in. Without it, what would be done is only said.")
@click.option("--name", metavar="NAME", help="Name of the re-judging.  [default: made of the time]")
@click.option("--wait", is_flag=True, help="With --yes: wait until all have ended, and compare.")
@click.option("--timeout", "timeout_s", type=Seconds(min=0), metavar="SECONDS", help="With --wait: exit with 4 after so long.")
@json_option
@server_option
@click.pass_obj
def command(
    wanted: Wanted,
    ids: tuple[str, ...],
    where: str | None,
    labels: dict[str, str],
    tenant: str | None,
    *,
    yes: bool,
    name: str | None,
    wait: bool,
    timeout_s: float | None,
) -> int:
    """Submit requests that were judged before anew.

    Which ones: by their ids, or all for which each of --where, --label and --tenant holds, as far as the projector has come.
    What has not ended yet is left out, and so is what commands of `cutor env` handed in, which judges nothing: an ID or
    `--label cutor=env-build` takes it. Without --yes nothing is handed in: it is only said what would be, and what today's
    limits would refuse.

    Each new submission has the same request, the old id in `caused_by`, the old labels and the label `rejudge=NAME`. Its id is
    ID-rejudge-NAME (where that is too long, ID is cut and marked), so the same command with the same --name goes on where it
    was interrupted, and judges nothing twice. The views `rejudgements` and `rejudged_stages` compare old and new.

    Exit codes: 0 done, whatever the outcomes; 2 wrong usage, or an ID that was named was refused; 3 a service cannot be reached
    or failed; 4 --timeout is over; 130 Ctrl-C. What is handed in by then goes on.
    """
    _check_usage(ids, where, labels, tenant, yes=yes, wait=wait, timeout_s=timeout_s)
    name = name_of_now(time.time_ns()) if name is None else check_name(name)
    addresses = list(dict.fromkeys(named_submission(one, tenant) for one in ids))
    session = _Session(wanted, name, submit=yes)
    try:
        interruption.run(session.run(addresses, where, labels, tenant, timeout_s=timeout_s, wait=wait))
    except KeyboardInterrupt:
        session.interrupted()
        return INTERRUPTED
    return REFUSED if ids and any(one.action == "refused" for one in session.done) else DONE


def _check_usage(
    ids: Sequence[str],
    where: str | None,
    labels: dict[str, str],
    tenant: str | None,
    *,
    yes: bool,
    wait: bool,
    timeout_s: float | None,
) -> None:
    """Raise `UsageError` for options that do not go together, `InvalidRequest` for a tenant that can be none."""
    context = click.get_current_context()
    if ids and (where is not None or labels):
        raise click.UsageError("name IDs, or choose by --where and --label: not both", context)
    if not ids and where is None and not labels and tenant is None:
        raise click.UsageError("which? name an ID or more, or choose by --where, --label or --tenant", context)
    if wait and not yes:
        raise click.UsageError("--wait waits for what --yes hands in: give both", context)
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout is how long --wait waits: give both", context)
    if tenant is not None:
        check_address(tenant, "any")


class _Session:
    """One re-judging by this command, and how far it has come."""

    def __init__(self, wanted: Wanted, name: str, *, submit: bool) -> None:
        self.done: list[Rejudged] = []
        self._wanted = wanted
        self._server = wanted.find_server()
        self._name = name
        self._submit = submit
        self._total = 0
        self._waiting = False
        self._line = StatusLine()

    async def run(
        self,
        addresses: Sequence[Address],
        where: str | None,
        labels: dict[str, str],
        tenant: str | None,
        *,
        wait: bool,
        timeout_s: float | None,
    ) -> None:
        """Choose, hand in or only look, wait if wanted, and print."""
        async with Client(self._server, archive=self._wanted.archive_directory) as client:
            rejudging = Rejudging(client.journal, self._name)
            with self._line:
                self._line.show("asking which there are")
                chosen = addresses or await rejudging.select(where, labels, tenant)
                self._total = len(chosen)
                await self._each(rejudging, chosen)
                if wait:
                    await self._wait(rejudging, timeout_s)
        report(self._wanted, self._name, self.done, dry_run=not self._submit, waited=wait)

    async def _each(self, rejudging: Rejudging, chosen: Sequence[Address]) -> None:
        """Raises what `Rejudging.submit` does; what was done before is in the document of the error."""
        work = rejudging.submit if self._submit else rejudging.plan
        try:
            await work(chosen, self._tell)
        except Exception:
            self._leave_half_done()
            raise

    def _tell(self, one: Rejudged) -> None:
        self.done.append(one)
        doing = "handing in" if self._submit else "looking at"
        self._line.show(f"{doing}: {len(self.done):,} of {self._total:,}")

    async def _wait(self, rejudging: Rejudging, timeout_s: float | None) -> None:
        """Put the new outcomes beside the old ones. Raises `WaitedTooLong`, after printing what is known."""
        places = {(one.tenant, one.id): place for place, one in enumerate(self.done)}
        ended, to_end = 0, sum(one.submission is not None for one in self.done)
        self._waiting = True

        def tell(one: Rejudged) -> None:
            nonlocal ended
            ended += 1
            self.done[places[one.tenant, one.id]] = one
            self._line.show(f"waiting: {ended:,} of {to_end:,} have ended")

        self._line.show(f"waiting for {to_end:,}")
        try:
            async with asyncio.timeout(timeout_s):
                await rejudging.wait(self.done, tell)
        except TimeoutError as error:
            self._leave_half_done()
            later = goes_on(self._name, waiting=True)
            raise WaitedTooLong(
                f"{to_end - ended} of {to_end} have not ended within {timeout_s:g} s; they go on: {later}"
            ) from error

    def _leave_half_done(self) -> None:
        """Say what is done before an error is."""
        if self._wanted.json:
            self._wanted.done_so_far = document(self._name, self.done, dry_run=not self._submit)
        elif self._submit and self.done:
            self._say_how_far()

    def _say_how_far(self) -> None:
        handed_in = sum(one.action in ("submitted", "before") for one in self.done)
        click.echo(
            f"cutor: {handed_in} of {self._total or 'those chosen'} are handed in, as the re-judging {self._name}: "
            f"{goes_on(self._name, waiting=self._waiting)}",
            err=True,
        )

    def interrupted(self) -> None:
        """Say how far it has come, and how it goes on."""
        if self._wanted.json:
            self._wanted.done_so_far = document(self._name, self.done, dry_run=not self._submit)
            raise KeyboardInterrupt
        if self._submit:
            self._say_how_far()
        click.echo("cutor: interrupted", err=True)
