"""Command lines in the documents, taken out of the shell's text and held against the commands that there are; none is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from cutor.cli.main import cli

HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1([^\n]*)\n.*?^\s*\2$", re.MULTILINE | re.DOTALL)
ENDS = "\n();<>|&"
"""Characters behind which another command begins, or a file stands that is none of its arguments."""
BEFORE_A_COMMAND = {"until", "while", "if", "then", "do", "else", "exec", "!", "time", "sudo", "{"}


def commands(text: str) -> Iterator[list[str]]:
    """Return the words of every simple command of a shell text, without the variables that are set in front of it."""
    text = HERE_DOCUMENT.sub(r"\3\n", text).replace("\\\n", " ")
    text = text.replace("\n", "\n\n")  # the lexer takes the end of a line for a part of its comment
    lexer = shlex.shlex(text, posix=True, punctuation_chars=ENDS)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "\n"]:
        if not set(word) <= set(ENDS):
            words.append(word)
            continue
        yield from ([rest] if (rest := _without_what_precedes(words)) else [])
        words = []


def _without_what_precedes(words: list[str]) -> list[str]:
    start = 0
    while start < len(words) and (words[start] in BEFORE_A_COMMAND or re.match(r"\w+=", words[start])):
        start += 1
    return words[start:]


def console(text: str) -> str:
    """Return what is typed in a transcript: what stands behind its prompts."""
    return "".join(f"{line.removeprefix('$ ')}\n" for line in text.splitlines() if line.startswith("$ "))


def of_cutor(text: str) -> list[list[str]]:
    """Return the arguments of every call of ``cutor`` in a shell text."""
    return [words[1:] for words in commands(text) if words[0].rpartition("/")[2] == "cutor"]


def check(args: list[str]) -> None:
    """Raise what click says of these arguments; a path need not be there, and nothing is done with what is read."""
    command: click.Command = cli
    context = click.Context(cli, info_name="cutor")
    rest = args
    while isinstance(command, click.Group):
        rest = _read(command, context, rest)
        if not rest:
            return  # a group by itself, or its help
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    rest = _read(command, context, rest)
    if rest:
        raise click.UsageError(f"unexpected: {rest}", context)


def _read(command: click.Command, context: click.Context, args: list[str]) -> list[str]:
    """Read options and arguments of one command; return what is left."""
    if {"--help", "--version"} & set(args):
        return []
    given, rest, _ = command.make_parser(context).parse_args(list(args))
    for parameter in command.params:
        value = given.get(str(parameter.name))
        missing = value is None or value == () or type(value).__name__ == "Sentinel"
        if parameter.required and missing:
            raise click.MissingParameter(ctx=context, param=parameter)
        if not missing and not isinstance(parameter.type, click.Path | click.File) and "$" not in str(value):
            parameter.type_cast_value(context, value)
    return rest
