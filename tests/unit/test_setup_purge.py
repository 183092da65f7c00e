"""What `make purge` refuses, decided without an engine."""

from pathlib import Path

import pytest

from cutor.setup import purge
from cutor.setup.console import SetupError
from cutor.setup.purge import refuse_while_stacks_run, remove_directory
from cutor.stack import current
from cutor.stack.current import CurrentStack
from cutor.stack.lock import Lock


def start(file: Path, data: Path) -> Lock:
    """Make a stack that runs, and tell of it."""
    data.mkdir()
    lock = Lock.take(data / "lock")
    current.write(file, CurrentStack(server="nats://cutor:secret@x", data=str(data), instance=data.name))
    return lock


def test_no_stack_is_no_obstacle(tmp_path: Path) -> None:
    refuse_while_stacks_run(tmp_path / "current.json")


def test_every_running_stack_is_named_also_one_that_is_idle_or_not_the_current_one(tmp_path: Path) -> None:
    file = tmp_path / "current.json"
    first, second = (start(file, tmp_path / name) for name in ("one", "two"))
    with pytest.raises(SetupError) as caught:
        refuse_while_stacks_run(file)
    assert f"the stack of {tmp_path / 'one'} and {tmp_path / 'two'} runs: stop it first" in str(caught.value)
    assert "secret" not in str(caught.value)
    second.release(orderly=False)  # killed, and still the current one
    with pytest.raises(SetupError, match=f"the stack of {tmp_path / 'one'} runs"):
        refuse_while_stacks_run(file)
    first.release(orderly=True)
    refuse_while_stacks_run(file)


def test_a_file_that_cannot_be_read_may_stand_for_a_running_stack(tmp_path: Path) -> None:
    (tmp_path / "current.json").write_text("{")
    with pytest.raises(SetupError, match=r"current\.json cannot be read"):
        refuse_while_stacks_run(tmp_path / "current.json")


async def test_nothing_is_removed_before_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> bool:
        raise AssertionError("the engine was asked")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(purge.engine, "answers", asked)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cutor").mkdir()
    lock = start(tmp_path / "cutor" / "current.json", tmp_path / "data")
    with pytest.raises(SetupError, match="nothing is removed"):
        await purge.purge()
    lock.release(orderly=True)
    assert (tmp_path / "cache").is_dir()


def test_a_directory_goes_with_all_in_it_and_one_that_is_not_there_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "setup/downloads").mkdir(parents=True)
    (tmp_path / "setup/downloads/file").write_text("")
    remove_directory(tmp_path / "setup")
    assert not (tmp_path / "setup").exists()
    assert f"removed {tmp_path / 'setup'}" in capsys.readouterr().out
    remove_directory(tmp_path / "setup")
    assert capsys.readouterr().out == ""


def test_what_stays_is_not_said_to_be_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "setup").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="cannot be removed"):
        remove_directory(tmp_path / "setup")
    assert capsys.readouterr().out == ""
    assert (tmp_path / "elsewhere").is_dir()
