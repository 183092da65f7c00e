"""The reference pages of command line and configuration are those of today's code, and say something about everything."""

import re
from pathlib import Path

import msgspec
import pytest

from cutor.cli.main import COMMANDS, cli
from cutor.cli.reference import PAGES, SECTIONS, configuration_page
from cutor.cli.reference_commands import PURPOSES
from cutor.config import Config, Surroundings
from cutor.errors import DONE, INTERRUPTED, NOT_OK, REFUSED, UNAVAILABLE, WAITED_TOO_LONG
from tests.docs.command_lines import check, of_cutor

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "run `python -m cutor.cli.reference`"


def test_every_command_has_a_section() -> None:
    page = PAGES["cli.md"]()
    assert all(f"\n## cutor {name}\n" in page for name in COMMANDS)


def test_every_command_has_one_purpose() -> None:
    assert sorted(name for names in PURPOSES.values() for name in names) == sorted(COMMANDS)


def test_the_overview_has_every_command_and_leads_to_its_section() -> None:
    head, _, rest = PAGES["cli.md"]().partition("\n## ")
    listed = re.findall(r"^\| \[`([^`]+)`\]\(#([^)]+)\) \| \S", head, re.MULTILINE)
    sections = re.findall(r"^##+ cutor (.*)$", rest, re.MULTILINE)
    assert [name for name, _ in listed] == sections
    assert all(anchor == f"cutor-{name.replace(' ', '-')}" for name, anchor in listed)


def test_the_first_help_has_examples_that_are_commands() -> None:
    shown = str(cli.epilog).partition("Examples:\n")[2].partition("\n\n")[0]
    examples = of_cutor(shown)
    assert len(examples) == len(shown.splitlines()) > 3
    for arguments in examples:
        check(arguments)


def test_every_exit_code_has_a_row() -> None:
    section = PAGES["cli.md"]().partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    rows = {int(code) for code in re.findall(r"^\| (\d+) \| \S", section, re.MULTILINE)}
    assert rows == {DONE, NOT_OK, REFUSED, UNAVAILABLE, WAITED_TOO_LONG, INTERRUPTED}


def test_the_help_of_submit_says_what_every_exit_code_means() -> None:
    section = PAGES["cli.md"]().partition("\n## cutor submit\n")[2].partition("\n## ")[0]
    codes = section.partition("Exit codes: ")[2].partition("\n")[0]
    for code in (DONE, NOT_OK, REFUSED, UNAVAILABLE, WAITED_TOO_LONG, INTERRUPTED):
        assert re.search(rf"\b{code} ", codes), code
    assert "unknown" in codes
    assert "again under the id" in codes


def test_every_key_of_the_configuration_is_documented() -> None:
    page = configuration_page()
    for name, struct in SECTIONS:
        section = page.partition(f"\n## [{name}]\n")[2].partition("\n## ")[0]
        for key in struct.__struct_fields__:
            assert f"| `{key}` |" in section, f"{name}.{key}"
    assert {name for name, _ in SECTIONS} | {"data_directory", "max_leases", "shutdown_grace_s", "tenants", "limits"} == set(
        Config.__struct_fields__
    )


def test_every_variable_of_the_environment_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Spy(dict[str, str]):
        def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
            asked.append(key)
            return super().get(key, default)  # type: ignore[arg-type]

    import os

    monkeypatch.setattr("cutor.config.os.environ", Spy(os.environ))
    Surroundings.read()
    page = configuration_page()
    assert len(asked) == len(msgspec.structs.fields(Surroundings))
    assert all(f"| `{name}` |" in page for name in asked)
