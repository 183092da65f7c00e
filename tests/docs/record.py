"""Runs the tutorials and the demonstration, and writes what they print into their pages: ``make record``.

Each runs as a new user of this machine would run it: with directories of its own, and a stack of its own. A page is not written
where a command did not end as it says.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import cutor
from tests.docs.snippets import ROOT, TUTORIALS
from tests.docs.transcripts import blocks, play, recorded, text_of
from tests.live_stack import surroundings

RUNS: Final = ROOT / "docs" / "tutorial" / "recorded.md"
MEASURED: Final = re.compile(r"(?<=<!-- measured -->\n).*(?=<!-- /measured -->)", re.DOTALL)


def main() -> int:
    """Record every page, or those that are named. Exit code 1: a command did not end as its page says."""
    named = [Path(name).resolve() for name in sys.argv[1:]]
    took_s: dict[Path, float] = {}
    for page in named or [page for page in TUTORIALS if blocks(text_of(page))]:
        began = time.monotonic()
        if (wrong := record(page)) is not None:
            print(f"{page.relative_to(ROOT)}: {wrong}", file=sys.stderr)
            return 1
        took_s[page] = time.monotonic() - began
        print(f"{page.relative_to(ROOT)}: {took_s[page]:.0f} s", flush=True)
    if not named:
        RUNS.write_text(MEASURED.sub(lambda _: measured(took_s), text_of(RUNS)), encoding="utf-8")
    return 0


def record(page: Path) -> str | None:
    """Write what the page's commands print into it; or return which one ended otherwise than the page says."""
    text = text_of(page)
    session = blocks(text)
    with tempfile.TemporaryDirectory(prefix="cutor-record-") as home:
        ran = play(session, user(Path(home)))
    for block, one in zip(session, ran, strict=True):
        if block.exit_code != one.exit_code:
            return f"exit code {one.exit_code} of\n{block.commands}{one.output}"
    page.write_text(recorded(text, ran), encoding="utf-8")
    return None


def user(home: Path) -> dict[str, str]:
    """Return the environment of somebody whose directories are all beneath one, and whose shell no make has started."""
    rest = {name: value for name, value in surroundings(home).items() if not name.startswith("MAKE")}
    return rest | {"HOME": str(home)}


def measured(took_s: Mapping[Path, float]) -> str:
    """Return where and when it was, and how long each page took."""
    pages = [f"| [{title(page)}]({page.name}) | {len(blocks(text_of(page)))} | {took_s[page]:.0f} s |" for page in took_s]
    kernel = ".".join(platform.release().split(".")[:2])
    lines = [
        f"Recorded on {datetime.now(UTC):%Y-%m-%d} with cutor {cutor.__version__} on {os.cpu_count()} CPUs, Linux {kernel},",
        "with environments in Nix's store that earlier runs had built.",
        "",
        "| page | blocks of commands | took |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *pages, ""])


def title(page: Path) -> str:
    return text_of(page).partition("\n")[0].removeprefix("# ")


if __name__ == "__main__":
    sys.exit(main())
