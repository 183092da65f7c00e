"""What a life that was killed left on this host is gone after the next start; what another one holds is not touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cutor.projections.views_file import held, open_or_make_anew, remove_leftovers
from cutor.projections.views_paths import beside
from cutor.stack import current
from cutor.stack.data import DataDirectory
from cutor.stack.leftovers import remove_drafts
from cutor.stack.lock import Lock, is_free
from tests.bare_stack import User, one_line
from tests.integration.test_stack import containers, make_container, processes, until
from tests.processes import kill

DRAFTS = (
    ".instance.0123abcd",
    ".config.toml.0123abcd",
    ".images.json.89abcdef",
    "nats/.nats-server.conf.0123abcd",
    "nats/.nats-password.0123abcd",
    "nats/.nats-port.0123abcd",
)
OF_THE_PROJECTOR = ("projections.duckdb.snapshot", "projections.duckdb.snapshot.draft", "projections.duckdb.tmp/spilled-0.tmp")
NOT_OURS = (".instance.backup", ".other.0123abcd", ".config.toml.0123ABCD", "nats/.nats-port", "projections.duckdb.aside")


def plant(data: Path, names: tuple[str, ...]) -> list[Path]:
    """Make files in a data directory, as a kill in the midst of writing them leaves them."""
    made = [data / name for name in names]
    for file in made:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half of")
    return made


def kill_everything(user: User) -> None:
    """SIGKILL every process of a stack at once, the server too."""
    for pid in processes(user):
        kill(pid)
    until(lambda: not processes(user) and is_free(user.stack.data / "lock"))


def test_what_a_dead_life_left_is_gone_after_the_next_start_and_another_stack_is_not_touched(
    user: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = User(tmp_path_factory.mktemp("other"))
    roles = ["builder", "runner", "projector"]
    assert other.up(roles=roles).returncode == 0
    try:
        assert user.up(roles=roles).returncode == 0
        kill_everything(user)
        made = {make_container(user.stack.instance), make_container(user.stack.instance, "runner")}
        left = plant(user.stack.data, DRAFTS + OF_THE_PROJECTOR)
        state = user.home / "XDG_STATE_HOME" / "cutor"
        left += plant(state, (".current.json.0123abcd",))
        kept = plant(user.stack.data, NOT_OURS)
        others = make_container(other.stack.instance)
        kept += plant(other.stack.data, (*DRAFTS, "projections.duckdb.snapshot.draft"))

        assert user.up(roles=roles).returncode == 0
        assert [path for path in left if path.exists()] == []
        assert [path for path in (user.stack.data / "projections.duckdb.tmp",) if path.exists()] == []
        assert not made & set(containers(user.stack.instance))
        log = (user.stack.data / "log" / "supervisor.log").read_text()
        removed = re.search(r"removed (\d+) containers that a former life of this stack left behind", log)
        assert removed is not None
        assert int(removed[1]) >= len(made), "and those that stood ready"
        assert "removed drafts that a former life of this stack left behind: .config.toml.0123abcd" in log

        assert user.down().returncode == 0
        assert [path for path in kept if not path.exists()] == []
        assert others in containers(other.stack.instance)
        assert other.cutor("events").returncode == 0
    finally:
        assert other.down().returncode == 0


def test_a_copy_of_a_living_stacks_data_leaves_the_containers_of_that_stack_alone(
    user: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It has its name; its start, its end and `cutor down` for one that was killed remove what has this name, as a rule."""
    assert user.up(roles=["builder"]).returncode == 0
    name = user.stack.instance
    living = make_container(name)
    copied = User(tmp_path_factory.mktemp("copied"))
    try:
        shutil.copytree(user.stack.data, copied.stack.data)
        assert f"no stack is running in {copied.stack.data}, which is a copy" in copied.down().stdout
        assert copied.up(roles=["builder"]).returncode == 0
        own = copied.stack.instance
        assert own != name
        log = (copied.stack.data / "log" / "supervisor.log").read_text()
        assert f"is a copy of the data directory of the stack {name}" in log
        kill_everything(copied)
        made = make_container(own)
        assert copied.down().returncode == 0
        assert made not in containers(own)
        assert copied.up(roles=["builder"]).returncode == 0
        assert copied.down().returncode == 0
        assert copied.stack.instance == own
        assert living in containers(name)
        assert user.stack.instance == name
    finally:
        remove(living)
        assert copied.down().returncode == 0


def test_down_after_a_kill_of_everything_removes_the_same(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    kill_everything(user)
    made, left = make_container(user.stack.instance), plant(user.stack.data, DRAFTS)
    assert user.down().returncode == 0
    assert made not in containers(user.stack.instance)
    assert [path for path in left if path.exists()] == []


def test_a_life_without_containers_removes_those_of_the_one_before(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    kill_everything(user)
    made = make_container(user.stack.instance)
    assert user.up(roles=["projector"]).returncode == 0
    assert made not in containers(user.stack.instance)
    assert user.down().returncode == 0
    assert "no stack is running" in user.down().stdout


def test_a_start_that_could_not_remove_what_was_left_does_not_pass_for_an_orderly_end(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    kill_everything(user)
    made = make_container(user.stack.instance)
    without = {"DOCKER_HOST": "unix:///no-engine"}
    command = ("up", "--detach", "--data", str(user.stack.data), "--roles")
    assert "no-engine" in one_line(user.cutor(*command, "builder", **without), 3)
    started = user.cutor(*command, "projector", **without)
    assert started.returncode == 0, "without need of Docker it starts"
    assert "may have left containers behind" in (user.stack.data / "log" / "supervisor.log").read_text()
    assert user.down().returncode == 0
    assert made not in containers(user.stack.instance)


def test_doctor_tells_of_containers_of_a_dead_stack_and_removes_none(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    living = make_container(user.stack.instance)
    assert str(user.stack.data) not in leftovers(user)
    kill_everything(user)
    said = leftovers(user)
    assert f"of the stack of {user.stack.data}, which is dead: `cutor down --data {user.stack.data}` removes them" in said
    assert living in containers(user.stack.instance)


def leftovers(user: User) -> str:
    """Return what the doctor says of leftovers; other stacks of this machine may have some."""
    return "\n".join(line for line in user.cutor("doctor").stdout.splitlines() if "  leftovers  " in line)


def test_commands_do_not_find_the_dead_life_while_the_next_one_starts(user: User) -> None:
    """What is in the current-stack file is a dead address until the new life serves, if it ever does."""
    assert user.up().returncode == 0
    kill_everything(user)
    busy = user.home / "c.toml"
    busy.write_text('[docker]\nhost = "unix:///no-engine"\n')
    assert user.up("--config", str(busy), roles=["builder"]).returncode == 3
    assert "no stack is running" in one_line(user.cutor("events"), 3)


def test_a_role_by_itself_removes_what_its_dead_life_left(user: User) -> None:
    assert user.up().returncode == 0
    alone = DataDirectory(user.home / "alone")
    alone.prepare()
    instance = alone.make_instance()
    made, left = make_container(instance, "runner"), plant(alone.path, DRAFTS[:3])
    others = make_container(user.stack.instance, "runner")
    command = [sys.executable, "-m", "cutor", "runner", "--server", user.stack.server, "--data", str(alone.path)]
    role = subprocess.Popen(command, env=user.stack.environment, stderr=subprocess.PIPE, text=True)
    try:
        assert role.stderr is not None
        until(lambda: "is ready" in (role.stderr.readline() if role.stderr else ""))
        assert [path for path in left if path.exists()] == []
        assert made not in containers(instance)
        assert others in containers(user.stack.instance)
        role.send_signal(signal.SIGTERM)
        assert role.wait(180) == 0
    finally:
        if role.poll() is None:
            role.kill()
        role.communicate()
        remove(others)  # the stack has no role with containers: it looks for none at its end


def remove(container: str) -> None:
    subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=True)


def test_nothing_is_removed_under_a_lock_that_another_life_holds(user: User) -> None:
    data = DataDirectory(user.stack.data)
    data.prepare()
    lock = Lock.take(data.lock)
    made, left = make_container(data.make_instance()), plant(data.path, DRAFTS + OF_THE_PROJECTOR)
    try:
        for refused in (
            user.up(roles=["builder", "projector"]),
            user.cutor("builder", "--server", "nats://127.0.0.1:1", "--data", str(data.path)),
        ):
            assert f"pid {os.getpid()}" in one_line(refused, 3)
        assert [path for path in left if not path.exists()] == []
        assert made in containers(data.make_instance())
    finally:
        remove(made)
        lock.release(orderly=True)


def test_drafts_are_known_by_their_names_alone_and_links_are_left(tmp_path: Path) -> None:
    (tmp_path / ".a.0123abcd").symlink_to("/etc/hostname")
    (tmp_path / ".a.00000000").mkdir()
    (tmp_path / ".a.11111111").write_text("")
    (tmp_path / ".b.11111111").write_text("")
    assert remove_drafts(tmp_path, {"a"}) == [".a.11111111"]
    assert remove_drafts(tmp_path / "none", {"a"}) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.00000000", ".a.0123abcd", ".b.11111111"]


def test_entries_of_dead_stacks_leave_the_current_stack_file_when_another_one_is_written(tmp_path: Path) -> None:
    file = tmp_path / "state" / "current.json"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        current.write(file, current.CurrentStack(server="nats://x", data=str(tmp_path / name), instance=name))
    draft = file.with_name(".current.json.0123abcd")
    draft.write_text("")
    current.write(file, current.CurrentStack(server="nats://x", data=str(tmp_path / "two"), instance="three"))
    assert json.loads(file.read_text())["previous"] is None
    assert not draft.exists()


def test_write_ahead_logs_without_their_file_do_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "views.duckdb"
    for end in (".wal", ".wal.checkpoint", ".wal.recovery"):
        path.with_name(path.name + end).write_bytes(b"of another file")
    beside(path, "tmp").mkdir()
    beside(path, "snapshot").write_bytes(b"old")
    with held(path):
        remove_leftovers(path)
        open_or_make_anew(path).close()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["views.duckdb", "views.duckdb.lock"]
