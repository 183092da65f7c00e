"""Pages that are a session at a terminal: commands in blocks, and below each what it printed.

A block of ``text`` right below one of ``sh`` is what that prints, standard error included. ``make record`` puts there what it
printed; `masked` makes of it what is the same in every run. A block that is to end with another exit code than 0 has
``<!-- exit code N -->`` above it; one whose output is the same to the letter in every run has ``<!-- exact -->``.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Final, NamedTuple

from tests.docs.snippets import PATIENCE_S, ROOT

BLOCK: Final = re.compile(
    r"(?:^<!-- (?:(?P<exact>exact)|exit code (?P<code>\d+)) -->\n)?^```sh\n(?P<commands>.*?)^```$"
    r"(?:\n\n^```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
MARK: Final = "-- end of a block: exit code"
HOME: Final = "/home/you"


class Block(NamedTuple):
    """Commands of a page, what it shows of their output (None: nothing), their exit code, and whether no number differs."""

    commands: str
    shown: str | None
    exit_code: int
    exact: bool = False


class Ran(NamedTuple):
    """What the commands of a block printed, and how the last one ended."""

    output: str
    exit_code: int


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page's text."""
    return [
        Block(one["commands"], one["shown"], int(one["code"] or 0), one["exact"] is not None) for one in BLOCK.finditer(page)
    ]


def play(session: Sequence[Block], environment: Mapping[str, str], end: str = "cutor down > /dev/null 2>&1") -> list[Ran]:
    """Run blocks in one shell of a user of this checkout, one after the other, whatever each comes to; then ``end``."""
    script = f"trap {end!r} EXIT\n" + "".join(f"{block.commands}printf '\\n{MARK} %s\\n' $?\n" for block in session)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    said = done.stdout.replace(environment["XDG_DATA_HOME"], f"{HOME}/.local/share")
    ran = re.findall(rf"(.*?)\n{MARK} (\d+)\n", said, re.DOTALL)
    assert len(ran) == len(session), said
    return [Ran(output, int(code)) for output, code in ran]


def recorded(page: str, ran: Sequence[Ran]) -> str:
    """Return the page's text with what its commands printed this time. A block that shows nothing goes on showing nothing."""
    printed = iter(ran)

    def replace(found: re.Match[str]) -> str:
        output = next(printed).output
        if found["shown"] is None:
            return found[0]
        before, between = found[0][: found.start("shown") - found.start()], found[0][found.end("shown") - found.start() :]
        return before + "".join(f"{line.rstrip()}\n" for line in output.rstrip("\n").split("\n")) + between

    return BLOCK.sub(replace, page)


CHANGES: Final = [
    (re.compile(r"^\[ *[\d.]+ s\]"), "[N s]"),
    (re.compile(r"\S*/cutor-demo-\w+"), "/tmp/cutor-demo"),
    (re.compile(r"/nix/store/[a-z0-9]{32}"), "/nix/store/HASH"),
    (re.compile(r"\b[0-9a-f]{12,}\b"), "HEX"),
    (re.compile(r"\d{4}-\d\d-\d\d(T[\d:.]+Z)?|\b\d\d:\d\d:\d\d[.\d]*"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r'("\w+_ms"|"memory_peak_bytes"): (\d+|null)'), r"\1: N"),
    (re.compile(r"(^|(?<=  )) *(\N{EN DASH}|\d[\d.,]*( (ms|MiB))?)(?= |$)"), "N"),
    (re.compile(r"\b\d[\d.,]* (ms|s|MiB|bytes in all|lines below)\b"), r"N \1"),
    (re.compile(r"[─-]{3,}"), "───"),
]
OUTPUT: Final = re.compile(r"    (?!\d+  \d\d:)[^\s…]")
"""A line of a program's output, as cutor shows it; events begin with numbers and times."""
ENDED: Final = re.compile(r"[a-z-]+: [A-Z_]+")
"""What the demonstration says of an example."""
STEP: Final = re.compile(r"\[N s\] (?!set-up is complete)")
"""What set-up had left to do."""


def masked(output: str) -> str:
    """Return an output without times, sizes, made-up ids and the widths of columns.

    A number stays where a word stands in front of it (``exit 1``, ``run 2``), and so does every line of a program's output.
    Examples of the demonstration end in another order each time: such lines are sorted. What set-up did is left out.
    """
    lines = [line if OUTPUT.match(line) else _masked_line(line) for line in output.rstrip("\n").split("\n")]
    parts = groupby((line for line in lines if not STEP.match(line)), lambda line: bool(ENDED.fullmatch(line)))
    return "\n".join(chain.from_iterable(sorted(some) if ends else some for ends, some in parts))


def _masked_line(line: str) -> str:
    for pattern, instead in CHANGES:
        line = pattern.sub(instead, line)
    return " ".join(line.split())


def differences(session: Sequence[Block], ran: Sequence[Ran]) -> list[str]:
    """Return what is other than the page says, a description each."""
    found = []
    for block, one in zip(session, ran, strict=True):
        if one.exit_code != block.exit_code:
            found.append(f"{block.commands}ended with {one.exit_code}, not {block.exit_code}:\n{one.output}")
        elif block.shown is not None and not same(block, one.output):
            found.append(f"{block.commands}printed\n{one.output}\nand the page shows\n{block.shown}")
    return found


def same(block: Block, output: str) -> bool:
    """Whether an output is what the page shows of this block."""
    shown = block.shown or ""
    return output.split() == shown.split() if block.exact else masked(output) == masked(shown)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")
