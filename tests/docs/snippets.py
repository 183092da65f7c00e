"""The snippets of the documents, and how tests run them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
REQUEST = ROOT / "docs" / "reference" / "request.md"
OWN_NATS = ROOT / "docs" / "how-to" / "own-nats.md"
PARKED = ROOT / "docs" / "how-to" / "parked-submissions.md"
CLUSTER = ROOT / "docs" / "how-to" / "cluster.md"
MANY_HOSTS = ROOT / "docs" / "how-to" / "many-hosts.md"
ASK = ROOT / "docs" / "how-to" / "ask.md"
ARCHIVE = ROOT / "docs" / "how-to" / "archive.md"
ENVIRONMENTS = ROOT / "docs" / "how-to" / "environments.md"
REPORT = ROOT / "docs" / "how-to" / "report.md"
REPLAY = ROOT / "docs" / "how-to" / "replay.md"
OBSERVE = ROOT / "docs" / "how-to" / "observe.md"
SNAPSHOTS = ROOT / "docs" / "how-to" / "snapshots.md"
PAGES = [README, REQUEST, *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
FENCE = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    """A fenced block with a language; one without is a picture."""

    kind: str
    text: str


def snippets(page: Path, *kinds: str) -> list[Snippet]:
    """Return the snippets of a page that are to be run."""
    found = [Snippet(one["kind"], one["text"]) for one in FENCE.finditer(page.read_text()) if not one["reason"]]
    return [one for one in found if not kinds or one.kind in kinds]


RUN = {README: {"sh", "python"}, REQUEST: {"json", "toml"}, OWN_NATS: {"sh", "toml"}, PARKED: {"sh", "python"}}
RUN |= {CLUSTER: {"sh", "toml", "text"}, MANY_HOSTS: {"sh", "toml"}, ENVIRONMENTS: {"sh", "toml"}, REPLAY: {"sh"}}
RUN |= {OBSERVE: {"sh", "toml"}, SNAPSHOTS: {"sh", "toml"}}
RUN |= {ARCHIVE: {"sh", "toml"}, REPORT: {"sh"}, ASK: {"sql"}}
"""Kinds of snippets that a test in this directory runs (of ASK: test_ask_page.py); TOML anywhere else is a configuration."""

PATIENCE_S = 500
"""How long a page's commands may take on a busy machine: none of them waits for anything else."""


def run(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run commands as a user of this checkout whose PATH has its environment."""
    path = f"{ROOT / '.venv' / 'bin'}:{environment['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
