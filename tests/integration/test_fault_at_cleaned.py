"""A container that is there when `cleaned` says that it is gone is seen by the fault harness, whatever state it is in."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child_image import IMAGE
from tests.fault.at_cleaned import AtCleaned
from tests.fault.invariants import Entry

INSTANCE = secrets.token_hex(8)


@pytest.fixture(params=["builder", "runner"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A builder's container says what it serves; of a runner's its log does."""
    labels = [f"cutor={INSTANCE}", f"cutor.role={request.param}", f"cutor.data={tmp_path / 'data'}"]
    if request.param == "builder":
        labels.append("cutor.submission=default/one")
    words = [word for label in labels for word in ("--label", label)]
    name = f"test-{secrets.token_hex(8)}"
    (tmp_path / "data" / "log").mkdir(parents=True)
    (tmp_path / "data" / "log" / "runner.log").write_text(f"INFO cutor.roles.runner: default/one: in container {name}\n")
    command = ["docker", "create", "--network", "none", "--name", name, *words, IMAGE]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()[:12]
    yield made
    subprocess.run(["docker", "rm", "-f", made], capture_output=True, check=True)


def cleaned(by: str, instance: str = INSTANCE) -> Entry:
    return Entry(9, "cleaned", "", {"worker": f"runner-{instance}", "by": by})


@pytest.mark.parametrize("by", ["worker", "sweep"])
async def test_what_is_still_there_is_found(container: str, by: str) -> None:
    looks = AtCleaned()
    looks.look("one", cleaned(by))
    assert await looks.left() == {"one": [container]}
    assert await looks.left() == {}


async def test_what_nobody_said_to_be_gone_is_no_finding(container: str) -> None:
    looks = AtCleaned()
    looks.look("one", cleaned("takeover"))  # it claims nothing
    looks.look("other", cleaned("worker"))
    assert await looks.left() == {}
    looks.look("one", cleaned("worker", instance="0" * 16))  # of another host, perhaps
    assert await looks.left() == {}
