"""``cutor gc``: what nobody needs goes from this host's store."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from cutor.cli.asking import agreed, check_answerer
from cutor.cli.env_list import KEY_CHARACTERS, since
from cutor.cli.host_store import Store, collecting, store_of, warn_of_another_store
from cutor.cli.interruption import run
from cutor.cli.options import Seconds, Wanted, examples, json_option, server_option
from cutor.cli.output import StatusLine, print_json
from cutor.cli.quantities import Size, Span
from cutor.cli.render import print_table
from cutor.model.collection import Plan, Taken, Wish
from cutor.model.units import about, counted
from cutor.operations.collection import WAIT_S, Done, Planned

HEADINGS: Final = ("key", "frees", "last touched", "why")
NOTHING_DELETED: Final = "nothing is deleted"
LONGEST_WAIT_S: Final = 86_400.0
"""A day. A bound, so that a slip of the keyboard is told."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints: from which store, what was to go, and what came of it; that is null after a dry run, and where
    it was not begun.

    ``whole`` is false where the store has too many references to count them all: then sizes are estimates.
    """

    store: Store
    plan: Plan
    free_bytes: int
    whole: bool
    done: Done | None


class Work:
    """How far a collection has come: what there is to tell when it ends, however it does."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.planned: Planned | None = None
        self.done: Done | None = None

    def report(self) -> Report | None:
        """Return what there is to print as JSON; null before there is a plan."""
        if self.planned is None:
            return None
        plan, inventory = self.planned
        return Report(store=self.store, plan=plan, free_bytes=inventory.free_bytes, whole=inventory.whole, done=self.done)


@click.command(
    "gc",
    epilog=examples(
        "cutor gc --dry-run",
        "cutor gc --older-than 30d",
        "cutor gc --max-size 20GiB --yes",
        "cutor gc --all --yes --json",
    ),
)
@click.option(
    "--older-than",
    "older_than_s",
    type=Span(),
    metavar="TIME",
    help="Environments that nothing touched for so long, such as 30d (s, min, h, d, w).",
)
@click.option(
    "--max-size",
    "max_bytes",
    type=Size(),
    metavar="SIZE",
    help="Environments touched longest ago, until all paths of the store together are no larger (B, KiB, MiB, GiB, TiB).",
)
@click.option("--all", "everything", is_flag=True, help="All environments that are neither in use nor pinned.")
@click.option("--unknown", is_flag=True, help="Those, too, that the log knows nothing of: other stacks' on this store.")
@click.option(
    "--local",
    is_flag=True,
    help="From this host alone: the log is not told, and runners fetch them again from the binary cache (`nix.cache_url`).",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0, LONGEST_WAIT_S),
    default=WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for builds that are at work; others wait meanwhile. 0: not at all.",
)
@json_option
@server_option
@click.pass_obj
def command(
    wanted: Wanted,
    older_than_s: int | None,
    max_bytes: int | None,
    everything: bool,
    unknown: bool,
    local: bool,
    dry_run: bool,
    yes: bool,
    wait_s: float,
) -> None:
    """Delete what nobody needs from the store of this host.

    Without options, that is what no environment needs any more. With them, environments go, too: the plan is shown first, and
    on a terminal somebody is asked. What is in use by a run or a build stays, and what is pinned, and what submissions that
    have not ended were given. A submission that brings the same files as one that went has it built again.

    Builds wait while paths are deleted, runs do not. Ctrl-C at any moment leaves log and store sound; the next collection goes
    on. With --json one document: the plan, and what was done; after an error or Ctrl-C, that as far as it came, beside `error`.
    """
    _check_options(wanted, ask=not (yes or dry_run), everything=everything, by=(older_than_s, max_bytes))
    if local and wanted.loaded_of_stack.config.nix.cache_url is None:
        raise click.UsageError("--local needs a binary cache: none is configured", click.get_current_context())
    wish = Wish(older_than_s=older_than_s, max_bytes=max_bytes, everything=everything, unknown=unknown)
    work = Work(store_of(wanted))
    warn_of_another_store(wanted)
    try:
        planned = run(_plan(wanted, wish, work, wait_s))
        if not wanted.json:
            _print_plan(planned, wish, work.store, wanted.loaded_of_stack.config.nix.min_free_bytes)
        if not dry_run and (yes or _agreed(planned.plan)):
            run(_collect(wanted, wish, work, wait_s, local=local, replan=not yes))
    finally:
        _print_report(wanted, work)


def _check_options(wanted: Wanted, *, ask: bool, everything: bool, by: Sequence[int | None]) -> None:
    """Refuse options that contradict each other, and a question that nobody would answer."""
    context = click.get_current_context()
    if everything and any(wish is not None for wish in by):
        raise click.UsageError("--all takes all that may go, --older-than and --max-size a part of it: give one", context)
    if ask:
        check_answerer(wanted)


async def _plan(wanted: Wanted, wish: Wish, work: Work, wait_s: float) -> Planned:
    with StatusLine() as status:
        status.show("looking at the store")
        async with collecting(wanted, wait_s=wait_s) as collector:
            work.planned = await collector.plan(wish)
            return work.planned


def _agreed(plan: Plan) -> bool:
    """Return whether a plan that was shown is to be done."""
    return bool(plan.take or plan.frees_bytes) and agreed("Delete this?", NOTHING_DELETED)


async def _collect(wanted: Wanted, wish: Wish, work: Work, wait_s: float, *, local: bool, replan: bool) -> None:
    """Do what was planned; after a question, as far as it is still right."""
    assert work.planned is not None, "it was planned"
    planned = work.planned
    with StatusLine() as status:
        async with collecting(wanted, wait_s=wait_s) as collector:
            if replan:
                status.show("looking at the store")
                planned = (await collector.plan(wish)).agreed(planned.plan)
            total = len(planned.plan.take)
            work.done = Done()
            await collector.collect(
                planned,
                work.done,
                local=local,
                on_removed=lambda count: status.show(f"gave up {count} of {counted(total, 'environment')}"),
                on_wait=lambda: status.show("waiting for builds that are at work"),
                on_count=lambda count: status.show(f"deleted {counted(count, 'path')}"),
            )


def _print_report(wanted: Wanted, work: Work) -> None:
    """Print what came of it: also where an error or an interruption follows, and how far it had come by then."""
    if wanted.json:
        report = work.report()
        if sys.exc_info()[0] is not None:  # then the error, or the interruption, is the one document
            wanted.done_so_far = {} if report is None else msgspec.structs.asdict(report)
        elif report is not None:
            print_json(report)
    elif work.done is not None:
        _print_done(work.done)


def _print_plan(planned: Planned, wish: Wish, store: Store, least_bytes: int) -> None:
    plan, inventory = planned
    click.echo(f"store: {store}")
    if plan.take:
        print_table(HEADINGS, _lines(plan.take, datetime.now(UTC)), right=("frees",), fold="why")
    for line in plan_lines(plan, wish):
        click.echo(line)
    click.echo(f"the volume has {about(inventory.free_bytes)} free of {about(inventory.size_bytes)}")
    if (left_bytes := inventory.free_bytes + plan.frees_bytes) < least_bytes:
        click.echo(
            f"builds would still wait: they need {about(least_bytes)} free (nix.min_free_bytes), "
            f"this leaves {about(left_bytes)}"
        )
    if not inventory.whole:
        click.echo("note: the store holds more references than are counted: sizes are estimates", err=True)


def _lines(taken: Iterable[Taken], now: datetime) -> Iterable[Sequence[str]]:
    for one in taken:
        touched = datetime.fromtimestamp(one.touched_s, UTC).replace(tzinfo=None).isoformat()
        yield one.key[:KEY_CHARACTERS], about(one.frees_bytes), since(touched, now), one.because


def plan_lines(plan: Plan, wish: Wish) -> Iterable[str]:
    """Yield a plan in sentences."""
    parts = []
    if plan.take:
        parts.append(f"{about(plan.frees_bytes - plan.garbage_bytes)} of {counted(len(plan.take), 'environment')}")
    if plan.garbage_bytes or not parts:
        parts.append(f"{about(plan.garbage_bytes)} that nothing needs")
    yield f"of the store's {about(plan.store_bytes)}, {about(plan.frees_bytes)} would go: {' and '.join(parts)}"
    if plan.keep:
        counts = Counter(one.because for one in plan.keep)
        why = ", ".join(f"{count} {because}" for because, count in counts.most_common())
        yield f"{counted(len(plan.keep), 'environment')} would stay: {why}"
    if wish.max_bytes is not None and plan.left_bytes > wish.max_bytes:
        yield f"{about(plan.left_bytes)} stay, more than {about(wish.max_bytes)}: what else may go frees nothing"


def _print_done(done: Done) -> None:
    for one in done.spared:
        click.echo(f"{one.key[:KEY_CHARACTERS]} stays: {one.because}")
    if done.collected is None:
        if done.removed:
            click.echo(
                f"{counted(len(done.removed), 'environment')} given up in the log; their paths go with the next collection"
            )
        return
    click.echo(
        f"deleted {counted(done.collected.paths, 'path')}, {about(done.collected.nar_bytes)}; "
        f"the volume has {about(done.collected.free_bytes)} free"
    )
