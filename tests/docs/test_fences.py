"""Every fenced block of every page says what it is; each that a reader would run is run, or says why not."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from cutor.config import parse
from tests.docs import snippets as module
from tests.docs.command_lines import check, commands, console, of_cutor
from tests.docs.snippets import PAGES, ROOT, RUN, TUTORIALS, fences, snippets

SHELL = ("sh", "console")
TO_RUN = {*SHELL, "python", "sql"}
OTHERS = {"toml", "text", "json", "nix", "ini", "yaml", "mermaid", "dockerfile"}
PROGRAMS = {"cutor", "make", "docker", "nats", "nats-server", "pip", "pipx", "git", "python", "python3"}

ALL = pytest.mark.parametrize(
    "page", [page for page in PAGES if "```" in page.read_text()], ids=lambda page: str(page.relative_to(ROOT))
)


def shell(page: Path, *kinds: str) -> list[str]:
    """Return what is typed in the shell blocks of a page, those that are not run among them."""
    return [console(one.text) if one.kind == "console" else one.text for one in fences(page) if one.kind in (kinds or SHELL)]


def is_command(line: str) -> bool:
    """Whether somebody would type this line; a usage has brackets, a heading of columns wide gaps."""
    program, _, rest = line.partition(" ")
    return program in PROGRAMS and bool(rest) and not any(sign in rest for sign in ("  ", "["))


@ALL
def test_every_fence_says_what_it_holds(page: Path) -> None:
    assert {one.kind for one in fences(page)} <= TO_RUN | OTHERS
    assert page.read_text().count("```") == 2 * len(fences(page)), "a fence is not closed, or has a mark that cannot be read"


@ALL
def test_what_can_be_run_is_run_or_says_why_not(page: Path) -> None:
    if page == ROOT / "docs" / "reference" / "cli.md":
        return  # its examples are held against the commands, below
    assert {one.kind for one in snippets(page)} & TO_RUN <= RUN.get(page, set())


def test_what_is_to_be_run_is_named_by_a_test() -> None:
    """By the name of the page or by its constant in snippets.py; tutorials are found by their directory."""
    files = [file for file in (ROOT / "tests" / "docs").glob("test_*.py") if file != Path(__file__)]
    text = "\n".join(file.read_text() for file in files)
    constants = {value: name for name, value in vars(module).items() if isinstance(value, Path)}
    named = {page for page in RUN if page.name in text or re.search(rf"\b{constants.get(page, '-')}\b", text)}
    assert set(RUN) - named - set(TUTORIALS) == set()


@ALL
def test_a_text_is_no_command(page: Path) -> None:
    if page in TUTORIALS:
        return  # what commands print there is held against what they print, in test_tutorials.py
    for block in fences(page):
        if block.kind == "text":
            assert [line for line in block.text.splitlines() if line.startswith("$ ") or is_command(line)] == []


@ALL
def test_a_reason_names_tests_that_are_there(page: Path) -> None:
    reasons = [one.reason for one in fences(page) if one.reason]
    named = re.findall(r"tests/[\w/.]+\.py", " ".join(reasons))
    assert [name for name in named if not (ROOT / name).exists()] == []


@ALL
def test_what_stands_in_a_shell_block_is_of_the_shell(page: Path) -> None:
    for text in shell(page):
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), text


@ALL
def test_what_stands_in_a_python_block_is_python(page: Path) -> None:
    for block in fences(page):
        if block.kind == "python":
            compile(block.text, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@ALL
def test_every_command_of_cutor_is_one(page: Path) -> None:
    for text in shell(page):
        for args in of_cutor(text):
            try:
                check(args)
            except click.UsageError as error:
                pytest.fail(f"cutor {' '.join(args)}: {error.format_message()}")


@ALL
def test_every_target_and_module_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in (words for text in shell(page) for words in commands(text)):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word and not word.startswith("-")} <= targets, words
        elif re.fullmatch(r".*python3?", words[0]) and words[1:2] == ["-m"]:
            assert importlib.util.find_spec(words[2]), words


LINES_OF_MAKE = sorted(
    {shlex.join(words) for page in PAGES for text in shell(page) for words in commands(text) if words[0] == "make"}
)


@pytest.mark.parametrize("line", LINES_OF_MAKE)
def test_make_knows_what_it_would_do(line: str) -> None:
    """What it would run for this line, with these variables, are modules that are there; nothing is run."""
    done = subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), line
    modules = re.findall(r"python3? -m ([\w.]+)", done.stdout)
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    given = [word.partition("=") for word in shlex.split(line) if "=" in word]
    assert [name for name, _, value in given if value not in done.stdout and not name.startswith("CUTOR_")] == []


def test_the_check_of_commands_finds_what_is_none() -> None:
    for line in ("cutor submitt x", "cutor submit", "cutor submit x --wiat", "cutor status a b", "cutor up --port many"):
        with pytest.raises(click.UsageError):
            [check(args) for args in of_cutor(line)]
    text = "A=1 cutor status x > f | cutor query - --format csv < y; until cutor streams plan; do sleep 1; done # cutor nothing"
    assert of_cutor(text) == [["status", "x"], ["query", "-", "--format", "csv"], ["streams", "plan"]]
    [check(args) for args in of_cutor(text)]


CONFIGURATIONS = [
    (page, one.text)
    for page in PAGES
    for one in snippets(page, "toml")
    if "toml" not in RUN.get(page, set()) or not re.match(r"# .*submission\.toml|\[\[test_cases", one.text)
]


@pytest.mark.parametrize(
    ("page", "text"), CONFIGURATIONS, ids=[f"{page.name}-{n}" for n, (page, _) in enumerate(CONFIGURATIONS)]
)
def test_a_configuration_is_one(page: Path, text: str) -> None:
    parse(text.encode(), page.name)
