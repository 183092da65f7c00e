"""The snippets of the documents, and how tests run them.

Every page of the repository counts. A fence says what it holds. What is ``sh``, ``console``, ``python`` or ``sql`` is run by a
test of its page (``RUN``), or says why not in the line before: ``<!-- not run: … -->``. ``text`` is output or a picture;
``toml`` is a configuration, which is read.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import NamedTuple

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
START = ROOT / "docs" / "index.md"
REQUEST = ROOT / "docs" / "reference" / "request.md"
OWN_NATS = ROOT / "docs" / "how-to" / "own-nats.md"
PARKED = ROOT / "docs" / "how-to" / "parked-submissions.md"
CLUSTER = ROOT / "docs" / "how-to" / "cluster.md"
MANY_HOSTS = ROOT / "docs" / "how-to" / "many-hosts.md"
ASK = ROOT / "docs" / "how-to" / "ask.md"
ARCHIVE = ROOT / "docs" / "how-to" / "archive.md"
ENVIRONMENTS = ROOT / "docs" / "how-to" / "environments.md"
REPORT = ROOT / "docs" / "how-to" / "report.md"
DELIVERY = ROOT / "docs" / "explanation" / "delivery.md"
REPLAY = ROOT / "docs" / "how-to" / "replay.md"
OBSERVE = ROOT / "docs" / "how-to" / "observe.md"
SNAPSHOTS = ROOT / "docs" / "how-to" / "snapshots.md"
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in {"build", "dist", "site"} for part in page.relative_to(ROOT).parts)
)
HOW_TO = ROOT / "docs" / "how-to"
TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^>]+?) -->\n)?^(?P<indent> *)```(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Snippet(NamedTuple):
    """A fenced block."""

    kind: str
    """Its language; empty if it has none."""
    text: str
    reason: str | None = None
    """Why it is not run, if it says so."""


def fences(page: Path) -> list[Snippet]:
    """Return all blocks of a page."""
    return [Snippet(one["kind"], textwrap.dedent(one["text"]), one["reason"]) for one in FENCE.finditer(page.read_text())]


def snippets(page: Path, *kinds: str) -> list[Snippet]:
    """Return the snippets of a page that are to be run; ``kinds`` are the languages that are asked for, else all."""
    return [one for one in fences(page) if one.reason is None and (not kinds or one.kind in kinds)]


RUN = {README: {"sh", "python"}, START: {"sh"}, REQUEST: {"json", "toml"}, OWN_NATS: {"sh", "toml"}, PARKED: {"sh", "python"}}
RUN |= {CLUSTER: {"sh", "toml", "text"}, MANY_HOSTS: {"sh", "toml"}, ENVIRONMENTS: {"sh", "toml"}, REPLAY: {"sh"}}
RUN |= {OBSERVE: {"sh", "toml", "yaml"}, SNAPSHOTS: {"sh", "toml", "sql"}}
RUN |= {page: {"sh", "text", "python", "sql"} for page in TUTORIALS}
RUN |= {ARCHIVE: {"sh", "toml", "python"}, REPORT: {"sh"}, ASK: {"sql", "sh"}, DELIVERY: {"python"}}
"""Kinds of snippets of a page that a test runs, in this directory (SQL of ASK: test_ask_page.py)."""

RUN |= {
    HOW_TO / f"{name}.md": {"sh"}
    for name in ("backup", "compose", "install", "limits", "nixpkgs", "own-environment", "set-up", "tenants", "upgrade")
}
RUN |= {HOW_TO / "event-versions.md": {"python"}}
RUN |= {HOW_TO / "follow-events.md": {"sh", "python"}, ROOT / "docs" / "reference" / "python-client.md": {"python"}}

RUN |= {ROOT / "docs" / "explanation" / f"{name}.md": {"sh"} for name in ("faults", "performance", "scale")}

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


def script_of(page: Path, **elsewhere: str) -> str:
    """Return the commands of a page; ``srv="/tmp/x"`` puts what they have in ``/srv/`` there."""
    script = "".join(one.text for one in snippets(page, "sh"))
    for name, directory in elsewhere.items():
        script = script.replace(f"/{name}/", f"{directory}/")
    return script


def on_another_port(script: str, directory: Path) -> str:
    """Have commands use a copy of the configurations of servers, on a free port and with a store of its own."""
    deployed, port = directory / "deployed", str(free_port())
    shutil.copytree(ROOT / "deploy" / "nats", deployed, ignore=shutil.ignore_patterns("secrets", "store"))
    for name in ("single.conf", "users.conf"):
        server = (deployed / name).read_text()
        (deployed / name).write_text(server.replace("4222", port).replace("/var/lib/nats", str(directory / "nats")))
    return script.replace("$PWD/deploy/nats", str(deployed)).replace("deploy/nats", str(deployed)).replace("4222", port)
