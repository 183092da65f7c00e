"""Which command reads compose files here, what is said where there is none, and when the image's base is made anew."""

from pathlib import Path

import pytest

from deploy import test_tools
from deploy.compose import base


def program(directory: Path, name: str, status: int) -> None:
    """Put a program on a path of its own that ends with this status."""
    file = directory / name
    file.write_text(f"#!/bin/sh\nexit {status}\n")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_docker_compose_is_taken_before_the_plugin(path: Path) -> None:
    assert test_tools.compose() is None
    program(path, "docker", 1)
    assert test_tools.compose() is None, "a docker without the plugin"
    program(path, "docker", 0)
    assert test_tools.compose() == ["docker", "compose"]
    program(path, "docker-compose", 0)
    assert test_tools.compose() == ["docker-compose"]
    assert test_tools.main() == 0


def test_without_root_it_is_said_what_is_skipped(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(test_tools.machine, "is_root", lambda: False)
    assert test_tools.main() == 0
    printed = "".join(capsys.readouterr())
    assert "apt-get install --no-install-recommends docker-compose" in printed
    assert "tests/docs/test_howto_compose.py" in printed


def test_with_root_it_is_installed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str]] = []

    async def install(names: list[str], why: str) -> None:
        asked.append((names, why))

    monkeypatch.setattr(test_tools.machine, "is_root", lambda: True)
    monkeypatch.setattr(test_tools.machine, "install", install)
    assert test_tools.main() == 0
    assert [names for names, _ in asked] == [["docker-compose"]]


def test_the_base_is_made_anew_where_other_cas_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = set()
    for trusted in (b"one", b"another"):
        (tmp_path / "bundle").write_bytes(trusted)
        monkeypatch.setattr(base, "CERTIFICATES", tmp_path / "bundle")
        tags |= {base.tag(), base.tag()}
    assert len(tags) == 2
    assert all(tag.startswith("cutor-compose-base:") for tag in tags)
