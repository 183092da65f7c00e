"""What set-up does about the Docker Engine, decided from facts alone."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cutor.setup.console import SetupError
from cutor.setup.engine import PERFORM, Action, Facts, decide, is_stale, process_name, remove_leftovers, tail

NOTHING = Facts(
    answers=False, address=None, root=True, socket=False, running=False, installed=False, systemd=False
)  # a new machine, as root


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        (NOTHING, Action.INSTALL),
        (replace(NOTHING, installed=True), Action.START_BY_HAND),
        (replace(NOTHING, installed=True, systemd=True), Action.START_SERVICE),
        (replace(NOTHING, installed=True, socket=True), Action.START_BY_HAND),  # a killed engine's socket
        (replace(NOTHING, installed=True, running=True), Action.WAIT),
        (replace(NOTHING, installed=True, running=True, systemd=True), Action.WAIT),
        (replace(NOTHING, answers=True), Action.USE),
        (replace(NOTHING, answers=True, root=False), Action.USE),
        (replace(NOTHING, answers=True, address="tcp://10.0.0.1:2375"), Action.USE),
    ],
)
def test_action(facts: Facts, action: Action) -> None:
    assert decide(facts) is action


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (replace(NOTHING, address="tcp://10.0.0.1:2375"), "DOCKER_HOST=tcp://10.0.0.1:2375"),
        (replace(NOTHING, root=False), "run `make setup` as root"),
        (replace(NOTHING, root=False, socket=True), "join group docker"),
        (replace(NOTHING, root=False, running=True), "join group docker"),
    ],
)
def test_what_cannot_be_helped_is_one_line(facts: Facts, message: str) -> None:
    with pytest.raises(SetupError) as caught:
        decide(facts)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_running_engine_is_never_doubled() -> None:
    for installed in (False, True):
        for systemd in (False, True):
            assert decide(replace(NOTHING, running=True, installed=installed, systemd=systemd)) is Action.WAIT


def test_every_action_but_installing_is_performed_by_the_table() -> None:
    assert set(PERFORM) == set(Action) - {Action.INSTALL}


@pytest.mark.parametrize(
    ("text", "processes", "stale"),
    [
        ("3028\n", {3028: "dockerd"}, False),
        ("3028", {}, True),  # killed
        ("3028", {3028: "bash"}, True),  # killed, and the number given to somebody else
        ("", {}, True),
        ("nonsense", {}, True),
    ],
)
def test_stale_pid_file(text: str, processes: dict[int, str], stale: bool) -> None:
    assert is_stale(text, "dockerd", processes.get) is stale


def test_only_what_a_dead_engine_left_is_removed(tmp_path: Path) -> None:
    ours = process_name(os.getpid())
    assert ours is not None
    contents = {"alive": str(os.getpid()), "dead": "4194305", "reused": str(os.getpid()), "empty": ""}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    names = {"alive": ours, "dead": ours, "reused": "dockerd", "empty": ours, "missing": ours}
    remove_leftovers({tmp_path / name: process for name, process in names.items()})
    assert [file.name for file in tmp_path.iterdir()] == ["alive"]


def test_tail_of_a_log_and_of_what_is_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{n}\n" for n in range(100)))
    assert tail(log).splitlines() == [str(n) for n in range(80, 100)]
    assert tail(Path("journalctl -u docker")) == ""
