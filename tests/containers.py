"""Which containers Docker has, for tests that look at what is there and what is left."""

from __future__ import annotations

import subprocess
from pathlib import Path


def container_ids(*filters: str, full: bool = False) -> list[str]:
    """Return the ids, short or ``full``, of all containers that match every filter (``label=…``), running or not.

    Without those that have no name any more: Docker may go on listing one that it has removed (`Engine.labelled`).
    """
    words = [word for one in filters for word in ("--filter", one)]
    shape = ["--format", "{{.ID}} {{.Names}}", *(["--no-trunc"] if full else [])]
    shown = subprocess.run(["docker", "ps", "-a", *shape, *words], capture_output=True, text=True, check=True).stdout
    return [words[0] for line in shown.splitlines() if len(words := line.split()) > 1]


def left_in(directory: Path) -> list[str]:
    """Return the containers, running or not, of stacks whose data directory is beneath one, as `docker ps` shows them."""
    shape = '{{.Names}}\t{{.Status}}\t{{.Label "cutor.data"}}'
    command = ["docker", "ps", "-a", "--filter", "label=cutor.data", "--format", shape]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = (line.split("\t") for line in shown.splitlines())
    return [f"{name} ({status}) of {data}" for name, status, data in found if name and Path(data).is_relative_to(directory)]
