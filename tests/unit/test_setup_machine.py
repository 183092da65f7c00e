"""What set-up says before it installs, and how a failure is shown."""

import pytest

from deploy.setup.console import SetupError, fail, last_line
from deploy.setup.environment import stamp
from deploy.setup.machine import compiles_statically, install_plan


def test_installing_is_announced_with_packages_and_reason() -> None:
    line = install_plan(["docker.io"], "the Docker Engine", root=True)
    assert line == "installing as root, from this machine's apt sources: docker.io (the Docker Engine)"


def test_without_root_the_line_names_the_command() -> None:
    with pytest.raises(SetupError, match=r"apt-get install --no-install-recommends gcc libc6-dev"):
        install_plan(["gcc", "libc6-dev"], "a C compiler", root=False)


def test_the_one_line_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    fail(SetupError("the engine did not start", "first\n\n" + "noise\n" * 40 + "why\n"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "setup: the engine did not start"
    assert lines[-2].strip() == "why"
    assert len(lines) == 21


@pytest.mark.parametrize(("printed", "line"), [("", ""), ("\n \n", ""), ("a\nb\n\n", "b")])
def test_last_line(printed: str, line: str) -> None:
    assert last_line(printed) == line


def test_environment_is_made_anew_when_lock_metadata_or_python_change() -> None:
    stamps = {stamp(b"lock", b"meta", "3.11.2"), stamp(b"Lock", b"meta", "3.11.2"), stamp(b"lock", b"Meta", "3.11.2")}
    assert len(stamps | {stamp(b"lock", b"meta", "3.11.3")}) == 4


async def test_a_machine_without_compiler_is_noticed() -> None:
    assert not await compiles_statically("no-such-compiler")
