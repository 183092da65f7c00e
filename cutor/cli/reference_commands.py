"""The reference page of the command line, made from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import click

from cutor.cli.main import COMMANDS, cli

MADE_BY: Final = "Made by `python -m cutor.cli.reference`; a test checks that it is current."

PURPOSES: Final[Mapping[str, tuple[str, ...]]] = {
    "Set up, start, stop, look": ("setup", "up", "down", "doctor", "top", "completion"),
    "Hand in, and follow": ("submit", "status", "watch", "cancel", "events"),
    "Ask": ("query", "projections", "report"),
    "Judge again, and repair": ("replay", "rejudge", "parked", "dead-letters"),
    "Look after environments": ("env", "gc"),
    "Look after the log": ("streams", "archive"),
    "Run a role by itself": ("builder", "runner", "projector", "archiver"),
}
"""Every command under what it is for; a test knows of those that are left out."""

ERRORS: Final = """\
Errors are one plain line on standard error. With `--json`, an error is a document on standard output, too:
`{"error": {"message": …, "exit_code": …}}`, and beside it what `gc` and `env remove` had done before it.
"""


def cli_page() -> str:
    """Return the page of the command line."""
    context = click.Context(cli, info_name="cutor")
    lines = ["# Command line", "", MADE_BY, "", "```text", "cutor [OPTIONS] COMMAND [ARGS]...", "```", ""]
    lines += ["| command | what it does |", "|---|---|"]
    for purpose, names in PURPOSES.items():
        lines.append(f"| **{purpose}** | |")
        lines += [row for name in names for row in _overview(_of(name, context))]
    lines += ["", "## Options of every command", "", *_table(_options(cli, context))]
    lines += ["", "## Exit codes", "", "| code | meaning |", "|--:|---|", *_exit_codes(), "", *ERRORS.splitlines()]
    for names in PURPOSES.values():
        for name in names:
            lines += _section(_of(name, context), level=2)
    return "\n".join(lines) + "\n"


def _of(name: str, parent: click.Context) -> click.Context:
    """Return a command beneath another, as the context of its call."""
    assert isinstance(parent.command, click.Group)
    command = parent.command.get_command(parent, name)
    assert command is not None, name
    return click.Context(command, info_name=name, parent=parent)


def _beneath(context: click.Context) -> list[click.Context]:
    """Return the commands of a group, none of a command."""
    names = list(context.command.commands) if isinstance(context.command, click.Group) else []
    return [_of(name, context) for name in names]


def _overview(context: click.Context) -> Iterator[str]:
    """Yield a command's rows of the overview: its own, and those of the commands beneath it."""
    path = context.command_path
    name = path.removeprefix("cutor ")
    text = COMMANDS[name].summary if name in COMMANDS else str(context.command.help).partition("\n\n")[0]
    yield f"| [`{name}`](#{path.replace(' ', '-')}) | {' '.join(text.split())} |"
    for inner in _beneath(context):
        yield from _overview(inner)


def _exit_codes() -> Iterator[str]:
    """Yield the rows of the exit codes, from what the command's own help says of them."""
    [text] = re.findall(r"^Exit codes: (.+)\.$", str(cli.epilog), re.MULTILINE)
    for one in str(text).split("; "):
        code, _, meaning = one.partition(" ")
        yield f"| {int(code)} | {meaning} |"


def _section(context: click.Context, level: int) -> Iterator[str]:
    """Yield the section of a command, and of those beneath it."""
    command, path = context.command, context.command_path
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("", f"{'#' * level} {path}", "", "```text", f"{path} {usage}", "```", "")
    for paragraph in str(command.help).split("\n\n"):
        yield from (" ".join(paragraph.split()), "")
    yield from _own_options(context)
    examples = [line.strip() for line in str(command.epilog).splitlines() if line.startswith("  ")]
    yield from ("```console", *(f"$ {line}" for line in examples), "```")
    for inner in _beneath(context):
        yield from _section(inner, level + 1)


def _own_options(context: click.Context) -> Iterator[str]:
    """Yield the table of a command's options, and the names of those that it takes as every command does."""
    everywhere = _options(cli, context.find_root())
    options = _options(context.command, context)
    own = {name: text for name, text in options.items() if everywhere.get(name) != text}
    shared = [f"`{name.split()[0]}`" for name in options if name not in own]
    if own:
        yield from (*_table(own), "")
    if shared:
        yield from (f"{'And' if own else 'Takes'} {' and '.join(shared)}, [as every command](#options-of-every-command).", "")


def _options(command: click.Command, context: click.Context) -> dict[str, str]:
    """Return a command's options as its help shows them: how each is written, and what it says."""
    shown = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            name, text = (" ".join(part.split()).replace("|", "\\|") for part in record)
            shown[name] = text
    return shown


def _table(options: Mapping[str, str]) -> list[str]:
    """Return a table of options."""
    return ["| option | what it does |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in options.items())]
