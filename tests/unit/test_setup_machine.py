"""What set-up says before it installs, and how a failure is shown."""

import pytest

from cutor.setup.console import AGREE, SetupError, last_line, show_log
from cutor.setup.machine import compiles_statically, install, install_plan
from deploy.environment import stamp


def test_installing_is_announced_with_packages_and_reason() -> None:
    line = install_plan(["docker.io"], "the Docker Engine", root=True)
    assert line == "installing as root, from this machine's apt sources: docker.io (the Docker Engine)"


def test_without_root_the_line_names_the_command() -> None:
    with pytest.raises(SetupError, match=r"apt-get install --no-install-recommends gcc libc6-dev"):
        install_plan(["gcc", "libc6-dev"], "a C compiler", root=False)


def test_the_end_of_a_log_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_log(SetupError("the engine did not start", "first\n\n" + "noise\n" * 40 + "why\n"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].strip() == "why"
    assert len(lines) == 20
    show_log(SetupError("nothing was run"))
    assert not capsys.readouterr().err


async def test_nothing_is_installed_where_somebody_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """It has been said by then; an objection comes before the first program is run."""

    def object_to_it() -> None:
        raise SetupError("not agreed to")

    token = AGREE.set(object_to_it)
    try:
        with pytest.raises(SetupError, match="not agreed to"):
            await install(["cutor-no-such-package"], "a test")
    finally:
        AGREE.reset(token)
    assert "as root" in capsys.readouterr().out


@pytest.mark.parametrize(("printed", "line"), [("", ""), ("\n \n", ""), ("a\nb\n\n", "b")])
def test_last_line(printed: str, line: str) -> None:
    assert last_line(printed) == line


def test_environment_is_made_anew_when_lock_metadata_or_python_change() -> None:
    stamps = {stamp(b"lock", b"meta", "3.11.2"), stamp(b"Lock", b"meta", "3.11.2"), stamp(b"lock", b"Meta", "3.11.2")}
    assert len(stamps | {stamp(b"lock", b"meta", "3.11.3")}) == 4


async def test_a_machine_without_compiler_is_noticed() -> None:
    assert not await compiles_statically("no-such-compiler")
