"""The lock file: in step with pyproject.toml, complete with hashes, and free of addresses."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PINNED: dict[str, str] = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", LOCK, re.MULTILINE))


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def test_every_dependency_is_pinned() -> None:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *metadata["project"]["dependencies"],
        *metadata["project"]["optional-dependencies"]["dev"],
        *metadata["build-system"]["requires"],
    ]
    assert {name_of(requirement) for requirement in wanted} <= set(PINNED), "run `make lock`"


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINNED)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)


def test_no_address_is_written_down() -> None:
    assert not re.search(r"://|--index|--find-links|--trusted-host", LOCK)
