"""`cutor down` waits for the end of all, and asks once, however often it is called."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cutor.bus.embedded import wait_unused
from cutor.bus.errors import ServerFailed
from cutor.config import Config
from cutor.containers.errors import ContainerError
from cutor.errors import WaitedTooLong
from cutor.stack import current, stopping
from cutor.stack.data import DataDirectory
from cutor.stack.holding import holders, holds, leader
from cutor.stack.keeper import Orders
from cutor.stack.lock import ENDED, AlreadyRunning, Holder, Lock, is_free, read_holder
from cutor.stack.stop_times import StopTimes
from cutor.stack.stopping import HolderUnseen, Stopped, stop_stack
from cutor.stack.supervisor import StackSettings, Supervisor
from tests.bare_stack import User, one_line
from tests.integration.test_stack import check_nothing_left, containers, make_container, pid_of, supervisor, until

PATIENCE_S = 180.0
HOLDER = """
import os, pathlib, signal, sys, time
from cutor.stack.lock import Lock
lock = Lock.take(pathlib.Path(sys.argv[1]))
asked = []
signal.signal(signal.SIGHUP, lambda *_: asked.append("HUP"))
signal.signal(signal.SIGQUIT, lambda *_: asked.append("QUIT"))
print("held", flush=True)
while not asked:
    time.sleep(0.01)
lock.release(orderly=True)
time.sleep(float(sys.argv[2]))
print(*asked, flush=True)
"""


@contextmanager
def holder(data: DataDirectory, lingers_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock as a supervisor does, and lives on for a while after it gave it back."""
    data.prepare()
    command = [sys.executable, "-c", HOLDER, str(data.lock), str(lingers_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_stopping_waits_until_the_supervisor_has_ended_not_only_until_it_let_go(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with holder(data, lingers_s=0.5) as process:
        assert stop_stack(data, tmp_path / "current.json", None, PATIENCE_S).was_running
        assert process.poll() == 0


@pytest.mark.parametrize(("now", "said"), [(False, "HUP\n"), (True, "QUIT\n")])
def test_only_now_is_more_than_a_request(tmp_path: Path, now: bool, said: str) -> None:
    data = DataDirectory(tmp_path)
    with holder(data, lingers_s=0.0) as process:
        assert stop_stack(data, tmp_path / "current.json", None, PATIENCE_S, now=now).was_running
        assert process.stdout is not None
        assert process.stdout.read() == said


def test_the_time_to_wait_is_one_for_all_that_is_waited_for(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with holder(data, lingers_s=600.0) as process:
        with pytest.raises(WaitedTooLong, match=r"within 0\.3 s.*`cutor down --now --data "):
            stop_stack(data, tmp_path / "current.json", None, 0.3)
        assert process.poll() is None, "far less than it lingers"


def test_a_second_down_waits_with_the_first_and_hurries_nothing(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    role, mine = pid_of(user, " builder --data"), supervisor(user)
    os.kill(role, signal.SIGSTOP)  # it can't end now
    first = subprocess.Popen(
        [sys.executable, "-m", "cutor", "down"], env=user.stack.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        until(lambda: "stopping" in (user.stack.data / "log" / "supervisor.log").read_text())
        for _ in range(2):
            assert "has not ended within 1 s" in one_line(user.cutor("down", "--timeout", "1"), 4)
        assert Path(f"/proc/{role}").exists()
        assert (held := read_holder(user.stack.data / "lock")) is not None
        assert held.pid == mine
        os.kill(role, signal.SIGCONT)
        said, _ = first.communicate(timeout=180)
        assert (first.returncode, said) == (0, f"the stack of {user.stack.data} is stopped\n")
    finally:
        first.kill()
        first.communicate()
    check_nothing_left(user)


def test_a_stack_that_lost_its_lock_file_is_neither_harmed_by_a_start_nor_out_of_reach(user: User) -> None:
    """Somebody removed the file. A start made a new one, and removed the containers of the living stack."""
    assert user.up(roles=["builder"]).returncode == 0
    mine, container = supervisor(user), make_container(user.stack.instance)
    (user.stack.data / "lock").unlink()
    for started in (
        user.up(roles=["builder"]),
        user.cutor("builder", "--server", "nats://127.0.0.1:1", "--data", str(user.stack.data)),
    ):
        assert f"is in use by a process with pid {mine};" in one_line(started, 3)
    assert container in containers(user.stack.instance)
    assert user.cutor("events").returncode == 0, "commands find it all the same"
    ended = user.down()
    assert (ended.returncode, ended.stdout) == (0, f"the stack of {user.stack.data} is stopped\n")
    check_nothing_left(user)


def test_a_role_starts_in_no_other_directory_than_the_one_that_its_stack_has_locked(user: User) -> None:
    """Somebody moved the stack's data away, and another stack's data is in its place."""
    locked, ready = os.open(user.home, os.O_RDONLY), os.pipe()
    options = ["--parent", str(os.getpid()), "--ready-fd", str(ready[1]), "--lock-fd", str(locked)]
    command = [sys.executable, "-m", "cutor", "projector", "--server", "nats://127.0.0.1:1", "--data", str(user.stack.data)]
    try:
        done = subprocess.run(
            [*command, *options],
            check=False,
            env=user.stack.environment,
            pass_fds=[locked, ready[1]],
            capture_output=True,
            text=True,
        )
    finally:
        for descriptor in (locked, *ready):
            os.close(descriptor)
    assert "is not the directory any more that its stack has locked" in one_line(done, 2)
    assert not user.stack.data.exists()


def test_a_role_starts_where_its_stack_has_locked_the_file_alone(tmp_path: Path) -> None:
    """A stack of an older cutor runs, and the code that its roles are started with is newer."""
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    joining = "import sys; from pathlib import Path; from cutor.stack.role_process import Supervision, _join; " + (
        "_join(Supervision(int(sys.argv[1]), int(sys.argv[2]), (int(sys.argv[3]),)), Path(sys.argv[4])); print('joined')"
    )
    ready = os.pipe()
    for name, said in (("lock", "joined\n"), ("another", "")):
        locked = os.open(data.path / name, os.O_RDWR | os.O_CREAT)
        done = subprocess.run(
            [sys.executable, "-c", joining, str(os.getpid()), str(ready[1]), str(locked), str(data.path)],
            check=False,
            pass_fds=[locked, ready[1]],
            capture_output=True,
            text=True,
        )
        os.close(locked)
        assert done.stdout == said
        assert ("is not the directory any more that its stack has locked" in done.stderr) == (not said)
    for descriptor in ready:
        os.close(descriptor)


def test_who_holds_the_lock_unseen_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of other users, say: whom should it stop?"""
    data = DataDirectory(tmp_path)
    data.prepare()
    data.make_instance()
    lock = Lock.take(data.lock)
    data.lock.unlink()
    monkeypatch.setattr("cutor.stack.holding.PROC", tmp_path / "log")
    with pytest.raises(HolderUnseen, match=r"in use by a process that this user cannot see.*end it yourself"):
        stop_stack(data, tmp_path / "current.json", None, PATIENCE_S)
    lock.release(orderly=True)


@pytest.mark.parametrize("said", ["ended\n", "", None])
def test_who_locks_the_directory_and_is_no_stack_is_not_signalled(tmp_path: Path, said: str | None) -> None:
    """A backup, say, that may run only while no stack does."""
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    data.make_instance()
    if said is not None:
        data.lock.write_text(said)
    command = ["flock", "--no-fork", str(data.path), "sh", "-c", "echo locked; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as backup:
        try:
            assert backup.stdout is not None
            assert backup.stdout.readline() == "locked\n"
            for now in (False, True):
                with pytest.raises(HolderUnseen, match=rf"process with pid {backup.pid}, and nothing says .* end it yourself"):
                    stop_stack(data, tmp_path / "current.json", None, PATIENCE_S, now=now)
            with pytest.raises(AlreadyRunning, match=rf"process with pid {backup.pid}, and nothing says .* end it yourself"):
                Lock.take(data.lock)
            assert backup.poll() is None
        finally:
            backup.kill()


def test_a_copy_that_somebody_has_locked_does_not_stop_its_original(tmp_path: Path) -> None:
    """The lock file that came along names the living stack, which holds another directory."""
    data, copied = DataDirectory(tmp_path / "data"), DataDirectory(tmp_path / "copied")
    with holder(data, lingers_s=0.0) as original:
        data.make_instance()
        shutil.copytree(data.path, copied.path)
        command = ["flock", "--no-fork", str(copied.path), "sh", "-c", "echo locked; exec sleep 600"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as backup:
            try:
                assert backup.stdout is not None
                assert backup.stdout.readline() == "locked\n"
                with pytest.raises(HolderUnseen, match=rf"process with pid {backup.pid}, and nothing says .* end it yourself"):
                    stop_stack(copied, tmp_path / "current.json", None, PATIENCE_S)
                with pytest.raises(
                    AlreadyRunning, match=rf"process with pid {backup.pid}, and nothing says .* end it yourself"
                ):
                    Lock.take(copied.lock)
            finally:
                backup.kill()
        assert original.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the files of another user's processes, and mounts")
def test_a_directory_that_is_only_called_the_same_is_held_by_nobody(tmp_path: Path) -> None:
    """In a mount namespace of his own anybody makes another directory of that name, and locks it."""
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    pretending = (
        f"mount -t tmpfs none {tmp_path} && mkdir {data.path} && : >{data.lock}"
        f" && exec flock --no-fork {data.path} flock --no-fork {data.lock} sh -c 'echo locked; exec sleep 600'"
    )
    with subprocess.Popen(["unshare", "-m", "sh", "-c", pretending], stdout=subprocess.PIPE, text=True) as pretender:
        try:
            assert pretender.stdout is not None
            assert pretender.stdout.readline() == "locked\n"
            assert not holds(pretender.pid, data.path)
            assert pretender.pid not in holders(data.path)
            assert leader(data.path) is None
        finally:
            pretender.kill()


def test_a_stack_that_begins_has_a_moment_to_say_so(tmp_path: Path) -> None:
    """It has the lock, and the file still says that the life before it ended."""
    data = DataDirectory(tmp_path)
    with holder(data, lingers_s=0.0):
        named = data.lock.read_bytes()
        data.lock.write_bytes(ENDED)
        saying = threading.Timer(0.3, data.lock.write_bytes, (named,))
        saying.start()
        assert stop_stack(data, tmp_path / "current.json", None, PATIENCE_S).was_running
        saying.join()


def test_nothing_is_removed_while_a_server_uses_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a stack of an older cutor which lost its lock file."""
    data, current_file = DataDirectory(tmp_path / "data"), tmp_path / "current.json"
    data.prepare()
    data.server.mkdir()
    draft = data.path / ".config.toml.0123abcd"
    draft.touch()
    container = make_container(instance := data.make_instance())
    living = current.CurrentStack(server="nats://x", data=str(data.path), instance=instance)
    current.write(current_file, living)
    busy = os.open(data.server / "nats-server.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(busy, fcntl.LOCK_EX)
    monkeypatch.setattr("cutor.stack.supervisor.wait_unused", partial(wait_unused, timeout_s=0.1))
    settings = StackSettings(data, Config(), b"", current_file, roles=["builder"])
    try:
        with pytest.raises(ServerFailed, match="another nats-server still uses"):
            asyncio.run(Supervisor(settings, Orders(), lambda *_: None).run(lambda _: None))
        assert draft.exists()
        assert container in containers(instance)
        assert current.read(current_file) == living
    finally:
        os.close(busy)
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=True)


def test_down_now_waits_for_no_role(user: User, tmp_path: Path) -> None:
    """Which has more time to end than any test."""
    config = tmp_path / "patient.toml"
    config.write_text("shutdown_grace_s = 3600\n")
    assert user.up("--config", str(config), roles=["builder"]).returncode == 0
    os.kill(pid_of(user, " builder --data"), signal.SIGSTOP)
    ended = user.cutor("down", "--now")
    assert (ended.returncode, ended.stdout) == (0, f"the stack of {user.stack.data} is stopped\n")
    check_nothing_left(user)


@pytest.fixture
def died(tmp_path: Path) -> DataDirectory:
    """A data directory whose supervisor was killed; it is in the current-stack file."""
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    with holder(data, lingers_s=0.0) as process:
        process.kill()
    stack = current.CurrentStack(server="nats://x", data=str(data.path), instance=data.make_instance())
    current.write(tmp_path / "current.json", stack)
    return data


@pytest.mark.parametrize("lives", [True, False])
def test_a_stack_that_starts_while_the_dead_one_is_found_is_not_touched(
    died: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    found: list[Holder | None] = []
    new: list[Lock] = []

    def read_then_start(path: Path) -> Holder | None:
        found.append(read_holder(path))
        if len(found) == 1:
            new.append(Lock.take(path))
            if not lives:
                new.pop().release(orderly=False)
        return found[-1]

    monkeypatch.setattr(stopping, "read_holder", read_then_start)
    file = tmp_path / "current.json"
    assert stop_stack(died, file, "unix:///no-engine", PATIENCE_S) == Stopped(
        was_running=False, was_dead=True, containers_removed=0, new_life=True
    )
    assert current.read(file) is not None
    assert (held := read_holder(died.lock)) is not None
    assert (held.pid, held != found[-1]) == (os.getpid(), True)
    for lock in new:
        assert not is_free(died.lock)
        lock.release(orderly=True)


def test_a_new_life_is_not_waited_for(died: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = Lock.take_over(died.lock, read_holder(died.lock) or Holder(pid=0, started_ticks=0))
    assert orphan is not None
    new: list[Lock] = []

    def pause(_: float) -> None:
        if not new:
            orphan.release(orderly=False)
            new.append(Lock.take(died.lock))

    monkeypatch.setattr("cutor.stack.stopping.time.sleep", pause)
    stopped = stop_stack(died, tmp_path / "current.json", "unix:///no-engine", 20)
    assert stopped == Stopped(was_running=False, was_dead=True, containers_removed=0, new_life=True)
    new[0].release(orderly=True)


@pytest.mark.parametrize("fails", [False, True])
def test_a_new_life_waits_until_the_dead_one_is_cleaned_up(
    died: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    name = read_holder(died.lock)

    async def remove(instance: str, _data: Path, _host: str | None) -> int:
        assert instance == died.instance()
        assert not is_free(died.lock)
        assert read_holder(died.lock) == name, "who waits for the lock sees that its holder died"
        if fails:
            raise ContainerError("the engine went away")
        return 3

    monkeypatch.setattr(stopping, "_remove_containers", remove)
    file = tmp_path / "current.json"
    if fails:
        with pytest.raises(ContainerError):
            stop_stack(died, file, None, PATIENCE_S)
    else:
        assert stop_stack(died, file, None, PATIENCE_S) == Stopped(was_running=False, was_dead=True, containers_removed=3)
    assert is_free(died.lock)
    assert read_holder(died.lock) == (name if fails else None)
    assert (current.read(file) is None) is not fails


def test_down_without_a_directory_and_without_a_stack_is_no_error(user: User) -> None:
    for _ in range(2):
        ended = user.cutor("down")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "no stack is running\n", "")
    assert "not the data directory of a stack" in one_line(user.cutor("down", "--data", str(user.home / "none")), 2)


ROLE = """
import asyncio, os, signal, sys
from cutor.stack.role_process import Stop
from cutor.stack.stop_times import StopTimes
async def main():
    stop = Stop(StopTimes(3600.0))
    stop.serves = True
    stop.listen()
    for name in sys.argv[1:]:
        os.kill(os.getpid(), signal.Signals[name])
        await asyncio.sleep(0.1)
    print("stop" if stop.stop.is_set() else "", "hurry" if stop.hurry.is_set() else "", flush=True)
    print(*(seconds > 20 for seconds in signal.getitimer(signal.ITIMER_REAL)[:1]), flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("signals", "told", "has_its_grace"),
    [
        ("SIGTERM", "stop ", True),
        ("SIGINT", "stop ", True),
        ("SIGHUP SIGHUP SIGHUP", "stop ", True),
        ("SIGHUP SIGTERM SIGHUP SIGINT", "stop ", True),
        ("SIGTERM SIGTERM", "stop hurry", False),
        ("SIGINT SIGINT", "stop hurry", False),
        ("SIGTERM SIGTERM SIGTERM SIGTERM", "stop hurry", False),
        ("SIGUSR1", "stop hurry", False),
        ("SIGTERM SIGUSR1 SIGUSR1", "stop hurry", False),
    ],
)
def test_how_often_a_role_is_told_decides_whether_it_hurries(signals: str, told: str, has_its_grace: bool) -> None:
    """`cutor down` may ask as often as it likes; only a second SIGTERM or Ctrl-C, or a supervisor's death, is impatience."""
    done = subprocess.run(
        [sys.executable, "-c", ROLE, *signals.split()], capture_output=True, text=True, check=False, timeout=180
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{told}\n{has_its_grace}\n", "")


def test_a_third_interrupt_ends_a_role_as_any_other_process() -> None:
    command = [sys.executable, "-c", ROLE, *("SIGINT",) * 3]
    assert subprocess.run(command, capture_output=True, check=False, timeout=180).returncode == -signal.SIGINT
    command = [sys.executable, "-c", ROLE, "SIGQUIT"]
    assert subprocess.run(command, capture_output=True, check=False, timeout=180).returncode == 128 + signal.SIGQUIT


def test_each_part_of_a_stop_ends_before_who_waits_for_it() -> None:
    for grace_s in (0.0, 5.0, 3600.0):
        times = StopTimes(grace_s)
        assert grace_s < times.role_s < times.kept_role_s < times.stack_s
