"""The lock file: in step with pyproject.toml, complete with hashes, and free of addresses."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PINNED: dict[str, str] = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", LOCK, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def test_every_dependency_is_pinned() -> None:
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    assert {name_of(requirement) for requirement in wanted} <= set(PINNED), "run `make lock`"


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINNED)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)


def test_no_address_is_written_down() -> None:
    assert not re.search(r"://|--index|--find-links|--trusted-host", LOCK)


def test_every_pin_is_for_the_oldest_python_that_set_up_takes() -> None:
    """Debian 12 has 3.11.2, and who locks has a newer one: a package that leaves the old ones out is found here."""
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    asked = {name: SpecifierSet(metadata(name)["Requires-Python"] or "") for name in PINNED}
    assert {name: str(one) for name, one in asked.items() if oldest not in one} == {}, "bound it in pyproject.toml, `make lock`"
