"""Commands, options and settings that prose and messages name exist: blocks are run, and a sentence is read as easily."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from cutor.cli.main import cli
from cutor.config import Config
from tests.docs.command_lines import check, of_cutor
from tests.docs.snippets import FENCE, PAGES, ROOT

IN_TEXT = re.compile(r"(?<!`)`([^`]+)`(?!`)")
OF_OTHERS = {
    "--fail-on-warning",  # Sphinx
    "--network host",  # Docker
    "--privileged",  # Docker
    "--seed",  # tests.fault.soak
}
"""Options that pages name, of other programs."""
POINTS = ROOT / "docs" / "reference" / "faults.md"
"""Its points are called as settings might be."""
DECISIONS = ROOT / "docs" / "decisions"
"""They name settings, too, that were thought of and not made."""
FILE = re.compile(r"\w+\.(py|io|toml)")
"""What is no setting, either: a module, a package of Debian, a file."""


def named(text: str) -> list[str]:
    """Return what stands between backticks, one line each."""
    return [" ".join(code.split()) for code in IN_TEXT.findall(text)]


def commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    """Yield a command and all beneath it."""
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (found := command.get_command(context, name)) is not None:
                yield from commands(found, click.Context(found, info_name=name, parent=context))


def settings(section: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Yield every section and key of the configuration."""
    for field in msgspec.structs.fields(section):
        yield f"{prefix}{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from settings(field.type, f"{prefix}{field.name}.")


OPTIONS = {"--help"} | {
    name for command in commands(cli, click.Context(cli)) for option in command.params for name in option.opts if name[0] == "-"
}
SETTINGS = set(settings(Config))
SECTIONS = {name for name in SETTINGS if any(other.startswith(f"{name}.") for other in SETTINGS)}


def no_commands(text: str) -> list[str]:
    """Return the calls of cutor that it does not know; a sentence may leave out arguments and values."""
    wrong = []
    for args in (args for code in named(text) if code.startswith("cutor ") and "…" not in code for args in of_cutor(code)):
        try:
            check(args)
        except click.NoSuchOption as error:
            wrong.append(f"cutor {' '.join(args)}: {error.format_message()}")
        except click.BadParameter:
            pass  # left out, or a placeholder
        except click.UsageError as error:
            if not isinstance(error, click.BadOptionUsage):
                wrong.append(f"cutor {' '.join(args)}: {error.format_message()}")
    return wrong


def no_options(text: str) -> list[str]:
    return [
        code for code in named(text) if re.fullmatch(r"--[a-z-]+([ =]\S+)?", code) and re.split("[ =]", code)[0] not in OPTIONS
    ]


def no_settings(text: str) -> list[str]:
    """Return what begins with a section of the configuration and is no key of it."""
    keys = [code.partition(" = ")[0] for code in named(text) if re.match(r"[a-z_]+\.[a-z_.]+( = |$)", code)]
    return [key for key in keys if key.partition(".")[0] in SECTIONS and key not in SETTINGS and not FILE.fullmatch(key)]


def prose(page: Path) -> str:
    """Return what stands between the blocks of a page."""
    return FENCE.sub("", page.read_text())


def test_pages_name_commands_that_are_there() -> None:
    assert {page: found for page in PAGES if (found := no_commands(prose(page)))} == {}


def test_pages_name_options_that_are_there() -> None:
    assert {page: found for page in PAGES if (found := set(no_options(prose(page))) - OF_OTHERS)} == {}


def test_pages_name_settings_that_are_there() -> None:
    pages = [page for page in PAGES if page != POINTS and page.parent != DECISIONS]
    assert {page: found for page in pages if (found := no_settings(prose(page)))} == {}


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module, docstrings among them; for what is put into one stands a word."""
    tree = ast.parse(path.read_text())
    within = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "status" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
            yield node.value


def test_messages_name_commands_and_settings_that_are_there() -> None:
    found = [(path, text) for path in (ROOT / "cutor").rglob("*.py") for text in texts(path)]
    assert [(path, wrong) for path, text in found if (wrong := no_commands(text) + no_settings(text))] == []


def test_what_is_not_there_is_found() -> None:
    assert (
        len(no_commands("`cutor submitt`, `cutor submit --wiat`, `cutor parked lst`, `cutor env show`, `cutor gc --yes x`"))
        == 4
    )
    assert no_options("`--wait`, `--wiat`, `--tenant NAME`, `--tennant NAME`, `--timeout=5`") == ["--wiat", "--tennant NAME"]
    assert no_settings("`bounds.files`, `bounds.fils`, `runner.slots = 4`, `runner.slot = 4`, `runner.py`, `x.y`") == [
        "bounds.fils",
        "runner.slot",
    ]
