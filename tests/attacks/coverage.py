"""What is to be tried, from ``coverage.toml``, and the reference page that is made of it and of the attacks' files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.attacks.attack import Attack
from tests.attacks.judgement import expected

FILE: Final = Path(__file__).with_name("coverage.toml")
ROOT: Final = Path(__file__).parents[2]

INTRODUCTION: Final = """\
# The attacks

Made from the files of `tests/attacks` by `python docs/generate.py`. `make attacks` hands all of them in to a live stack, alone
and beside normal submissions whose outcomes must not change, and looks for leftovers; `ONLY='kernel/*'` takes some. First what
is to be tried and by what, then every attack with what must come of it: the outcome of the submission, or the stage that
decides and its outcome, with `→` between those of several test cases. After OK stands what it must print, which shows that it
was tried. What else it must and must not do (exit codes, words in outputs, times) stands in its file."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something to be tried, and what tries it: names of attacks, and paths of files of tests."""

    what: str
    tried: tuple[str, ...]


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of one kind."""

    title: str
    row: tuple[Row, ...]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    list: tuple[Listing, ...]


def load_coverage() -> tuple[Listing, ...]:
    """Return the lists of the file."""
    return msgspec.toml.decode(FILE.read_bytes(), type=_Document).list


def is_test(name: str) -> bool:
    """Return whether a name of a row is a test's; else it is an attack's."""
    return name.startswith("tests/")


def missing(name: str, attacks: Sequence[Attack]) -> bool:
    """Return whether there is no such attack, or no such file of tests."""
    if is_test(name):
        return not (ROOT / name).is_file()
    return name not in {attack.name for attack in attacks}


def page(attacks: Sequence[Attack]) -> str:
    """Return the reference page."""
    return "\n".join([INTRODUCTION, *_what_is_tried(load_coverage()), *_every_attack(attacks)]) + "\n"


def _what_is_tried(lists: Sequence[Listing]) -> Iterator[str]:
    for listing in lists:
        yield from ("", f"## {listing.title}", "", "| to be tried | by |", "|---|---|")
        for row in listing.row:
            yield f"| {row.what} | {', '.join(map(_link, row.tried))} |"


def _every_attack(attacks: Sequence[Attack]) -> Iterator[str]:
    yield from ("", f"## All {len(attacks)} attacks")
    directory = ""
    for attack in sorted(attacks, key=lambda attack: attack.name):
        if directory != (directory := attack.name.partition("/")[0]):
            yield from ("", f"### {directory}", "", "| attack | what it is | what comes of it |", "|---|---|---|")
        yield f"| {_link(attack.name)} | {attack.what} | {expected(attack).replace('|', ' or ')} |"


def _link(name: str) -> str:
    if is_test(name):
        return f"[{name}](../../{name})"
    return f"[{name}](../../tests/attacks/{name})"
