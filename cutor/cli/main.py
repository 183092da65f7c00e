"""The entry point: finds the command, and turns whatever goes wrong into one line on stderr and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Final, NamedTuple

import click
import msgspec

from cutor.bus.lean import import_without_websockets
from cutor.cli.failures import bug_line, exit_code_of, line_of
from cutor.cli.interruption import CommandInterrupted
from cutor.cli.options import Wanted, server_option, traceback_option, with_examples
from cutor.errors import DONE, INTERRUPTED, UNAVAILABLE, CutorError
from cutor.logs import last_words
from cutor.release import RELEASE


class Entry(NamedTuple):
    """A command: the module whose ``command`` it is, and its line in the overview."""

    module: str
    summary: str


COMMANDS: Final = {
    "setup": Entry("setup", "Set this machine up for submissions: Docker, child image, Nix volumes, package set."),
    "up": Entry("up", "Start a stack on this machine: server, builder, runner, projector."),
    "down": Entry("down", "Stop a stack, and remove what a dead one left behind."),
    "submit": Entry("submit", "Submit a directory or a JSON request."),
    "status": Entry("status", "Show what is known of a submission."),
    "watch": Entry("watch", "Follow a submission to its end."),
    "cancel": Entry("cancel", "Stop a submission."),
    "events": Entry("events", "List the events of a submission, or the newest of all."),
    "parked": Entry("parked", "List, show, retry or drop submissions that are parked."),
    "query": Entry("query", "Ask the views in SQL."),
    "projections": Entry("projections", "Look after the views that queries ask."),
    "rejudge": Entry("rejudge", "Submit requests that were judged before anew."),
    "replay": Entry("replay", "Read a range of the log again."),
    "report": Entry("report", "Write what a stack did, with plots, as one page of HTML."),
    "env": Entry("env", "List, show, build, try, refresh, pin or remove environments."),
    "gc": Entry("gc", "Delete what nobody needs from the store of this host."),
    "dead-letters": Entry("dead_letters", "List or show messages that are no events."),
    "streams": Entry("streams", "Compare the server's streams with streams.yaml, make them so, back them up, restore them."),
    "archive": Entry("archive", "Seal streams in Parquet files, and verify what is sealed."),
    "doctor": Entry("doctor", "Check whether this machine and its stack have what they need."),
    "top": Entry("top", "Watch queues, workers, rates and times, live."),
    "builder": Entry("builder", "Run a builder by itself, against any NATS server."),
    "runner": Entry("runner", "Run a runner by itself, against any NATS server."),
    "projector": Entry("projector", "Run a projector by itself, against any NATS server."),
    "archiver": Entry("archiver", "Run an archiver by itself, against any NATS server."),
    "completion": Entry("completion", "Print the script that completes cutor in a shell."),
}
"""Every command, in the order of the overview."""


class Commands(click.Group):
    """The group of `COMMANDS`; a command's module is imported when it is called, the overview imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click names it
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click names it
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        import_without_websockets()
        command: click.Command = import_module(f"cutor.cli.{entry.module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click names it
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=with_examples(
        "cutor up --detach",
        "cutor submit DIR --wait",
        'cutor query "SELECT id, outcome FROM submissions"',
        "cutor down",
        end="Exit codes: 0 done and OK; 1 the submission's outcome is not OK; 2 bad usage, invalid request, unknown id, or "
        "REJECTED; 3 a service cannot be reached or failed; 4 waited too long; 130 ended by Ctrl-C.\n\n"
        "`cutor COMMAND --help` has more of each, with examples.",
    ),
)
@click.version_option(RELEASE, prog_name="cutor", message="%(prog)s %(version)s")
@server_option
@traceback_option
def cli() -> None:
    """Run programs that others wrote: isolated, limited, and with every step in a log that can be replayed."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Errors are one line on stderr."""
    wanted = Wanted()
    logging.getLogger("cutor").addHandler(logging.NullHandler())  # a command says what it has to say; roles have handlers
    try:
        code = cli.main(arguments, prog_name="cutor", standalone_mode=False, obj=wanted)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return DONE
    except (click.Abort, KeyboardInterrupt) as interruption:
        return _interrupted(interruption.__cause__ or interruption, wanted)
    except SystemExit as left:
        if left.code != 1:
            raise
        code = DONE  # click's and rich's own answer to a reader that has closed our output (``| head``): it is no error
    except BrokenPipeError:
        code = DONE
    except Exception as error:
        code = _fail(error, wanted)
    _flush_stdout()
    return code if isinstance(code, int) else DONE


def _fail(error: Exception, wanted: Wanted) -> int:
    """Report an error; with ``--json`` there is a document for it, too."""
    code = exit_code_of(error)
    line = bug_line(error) if code is None else line_of(error)
    code = UNAVAILABLE if code is None else code
    if wanted.traceback:
        traceback.print_exception(error)
    _print_error(wanted, line, code, error.details if isinstance(error, CutorError) else {})
    click.echo(last_words(f"cutor: {line}"), err=True)
    return code


def _interrupted(error: BaseException, wanted: Wanted) -> int:
    """Say that a command was interrupted, and how things stand now."""
    said = isinstance(error, CommandInterrupted) and str(error)
    line = f"interrupted: {said}" if said else "interrupted"
    if wanted.done_so_far is not None or isinstance(error, CommandInterrupted):  # any other has printed what it had to say
        _print_error(wanted, line, INTERRUPTED)
    click.echo(f"cutor: {line}", err=True)
    return INTERRUPTED


def _print_error(wanted: Wanted, message: str, code: int, details: Mapping[str, str] | None = None) -> None:
    """With ``--json`` print the document of an error, with what was done before it."""
    if wanted.json:
        error = {"message": message, "exit_code": code, **(details or {})}
        with suppress(OSError):  # where stdout itself is what failed
            click.echo(msgspec.json.encode({"error": error} | (wanted.done_so_far or {})))


def _flush_stdout() -> None:
    """Write what is left of stdout, or throw it away: else the interpreter complains when it flushes at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
