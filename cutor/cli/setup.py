"""``cutor setup``: what a machine needs before its first stack, and its undoing."""

from __future__ import annotations

import signal
import sys

import click

from cutor.cli.options import examples
from cutor.setup import console, steps
from cutor.setup.console import SetupError


@click.command(
    "setup",
    epilog=examples(
        "cutor setup               # the second time takes half a second",
        "cutor setup --yes         # where nobody is there to be asked",
        "cutor setup --refresh     # today's packages of Debian; stop stacks first",
        "cutor setup --purge",
    ),
)
@click.option("--refresh", is_flag=True, help="Take today's packages of Debian, for the child image and for the package set.")
@click.option("--purge", is_flag=True, help="List what set-up made, for every cutor of this machine, and remove it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(*, refresh: bool, purge: bool, yes: bool) -> None:
    """Set this machine up for submissions: Docker, child image, Nix volumes, package set.

    What is there already is left alone. A Docker Engine that answers is used as it is, and no root is needed then. Where none
    answers, Debian's is installed and started; where no C compiler is, one is installed. That takes root, is said before it is
    done, and on a terminal somebody is asked.

    The first time takes a few minutes. It can be interrupted, and called again: it goes on. --purge lists images,
    volumes and downloads, asks, and removes them: what has set-up's label, and not what has its name alone. It refuses while
    a stack runs, this user's or one that has containers on the same engine; it leaves Docker Engine, what was installed with
    apt, and the data directories of stacks.

    Environment: CUTOR_DEBIAN_MIRROR is where packages are fetched from, else the mirror of Debian in this machine's apt
    sources; DOCKER_HOST is the Docker Engine to use, and where that does not answer, none is installed; downloads are kept in
    `cutor/setup` of XDG_CACHE_HOME (else ~/.cache).

    Exit codes: 0 everything is there, or with --purge nothing any more; 2 wrong usage; 3 something failed, or was not agreed
    to: the last line says what; 130 Ctrl-C.
    """
    if purge and refresh:
        raise click.UsageError("--purge removes what --refresh would make anew: give one", click.get_current_context())
    if not yes:
        console.AGREE.set(_ask)
    try:
        if purge:
            steps.undo()
        else:
            steps.set_up(refresh=refresh)
    except SetupError as error:
        console.show_log(error)
        raise


def _ask() -> None:
    """Return where whoever is at the terminal agrees to what was announced. Raises SetupError where not, or nobody is there."""
    if not sys.stdin.isatty():
        raise SetupError("nobody is at a terminal to agree to that: `cutor setup --yes` asks nobody")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the event loop's would wait for the answer
    try:
        agreed = click.confirm("go on?", err=True)
    finally:
        signal.signal(signal.SIGINT, before)
    if not agreed:
        raise SetupError("not agreed to, so it was not done")
