"""Which containers serve a submission. A runner's, made before it is there, have no label of it: its log tells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.files import text_of

DATA, ROLE, SUBMISSION = "cutor.data", "cutor.role", "cutor.submission"


def containers(identity: str, *filters: str) -> list[str]:
    """Return the containers of this host that serve a submission of the tenant `default`, whatever state they are in."""
    return [one["ID"] for one in listed(*filters) if serves(one["Names"], one["Labels"], identity)]


def serves(name: str, labels: Mapping[str, str], identity: str) -> bool:
    """Return whether a container, by its name and labels, serves a submission."""
    if labels.get(ROLE) != "runner":
        return labels.get(SUBMISSION) == f"default/{identity}"
    return DATA in labels and name in named(Path(labels[DATA]), identity)


def named(data: Path, identity: str) -> set[str]:
    """Return the names of the containers in which a submission was, as the log of the runner of a data directory has it."""
    begins = f"default/{identity}: in container "
    return {line.rpartition(begins)[2].strip() for line in said_by_runner(data) if begins in line}


def said_by_runner(data: Path) -> list[str]:
    """Return the lines of a runner's log: that of a stack is in its data directory, that of a role by itself beside it."""
    logs = [*(data / "log").glob("runner.log*"), data.with_name(f"{data.name}.log")]
    return [line for log in logs for line in text_of(log).splitlines()]


def idle(data: Path, *, reused: bool = False) -> set[str]:
    """Return the running containers that a runner has made ahead, in which no submission was, by its data directory.

    With ``reused`` those in which some were, too: then nothing may be served at the moment.
    """
    used = {line.rpartition(" in container ")[2].strip() for line in said_by_runner(data) if ": in container " in line}
    found = listed(f"label={DATA}={data}", f"label={ROLE}=runner", "status=running")
    return {one["ID"] for one in found if reused or one["Names"] not in used}


def listed(*filters: str) -> list[dict[str, Any]]:
    """Return what Docker lists of containers with these filters, labels as a mapping."""
    words = [word for one in ("label=cutor", *filters) for word in ("--filter", one)]
    command = ["docker", "ps", "-a", "--no-trunc", "--format", "{{json .}}", *words]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [one for line in shown.splitlines() if (one := json.loads(line))["Names"]]  # see `container_ids`
    return [one | {"Labels": dict(pair.partition("=")[::2] for pair in one["Labels"].split(","))} for one in found]
