"""A stack of real processes: it starts as a whole or not at all, keeps running what dies, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiodocker import Docker

from cutor.containers.engine import Engine
from cutor.stack.data import DataDirectory
from cutor.stack.lock import is_free, read_holder
from cutor.stack.logs import last_lines
from cutor.stack.restarts import QUICK_DEATHS
from tests.bare_stack import User, one_line, request
from tests.child_image import IMAGE
from tests.live_stack import EXAMPLES
from tests.ports import free_port
from tests.processes import naming, outermost, state_of


def until(true: Callable[[], bool], timeout_s: float = 180.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def processes(user: User) -> dict[int, str]:
    """Return pid and command line of every process that works in this user's data directory."""
    return naming(user.stack.data)


def pid_of(user: User, word: str) -> int:
    """Return the pid of the one process whose command line holds a word."""
    (pid,) = outermost([pid for pid, command in processes(user).items() if word in command])
    return pid


def supervisor(user: User) -> int:
    holder = read_holder(user.stack.data / "lock")
    assert holder is not None
    return holder.pid


def current_file(user: User) -> Path:
    return user.home / "XDG_STATE_HOME" / "cutor" / "current.json"


def check_nothing_left(user: User) -> None:
    until(lambda: not processes(user) and is_free(user.stack.data / "lock"))
    assert not current_file(user).exists()


@contextmanager
def foreground(user: User, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run `cutor up` in the foreground until it is ready; it is gone at the end, whatever the test did."""
    command = [sys.executable, "-m", "cutor", "up", "--data", str(user.stack.data), *args]
    process = subprocess.Popen(
        command, env=user.stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("cutor is ready at nats://127.0.0.1:"), process.stderr
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_detached_up_returns_when_ready_and_down_leaves_only_data(user: User) -> None:
    started = user.up()
    assert started.returncode == 0, started.stderr
    assert started.stdout.startswith("cutor is ready at nats://127.0.0.1:")
    assert started.stdout.endswith(f"; `cutor down --data {user.stack.data}` stops it\n")
    assert "password" not in started.stdout
    assert current_file(user).stat().st_mode & 0o777 == 0o600
    assert user.cutor("submit", "-", "--id", "kept", stdin=request()).returncode == 0
    ended = user.down()
    assert (ended.returncode, ended.stderr) == (0, "")
    check_nothing_left(user)
    assert user.up().returncode == 0
    assert json.loads(user.cutor("status", "kept", "--json").stdout)["status"] == "SUBMITTED"


def test_the_default_directory_needs_no_name(user: User) -> None:
    started = user.cutor("up", "--detach", "--roles", "")
    try:
        assert started.stdout.endswith("; `cutor down` stops it\n")
    finally:
        assert user.cutor("down").returncode == 0


def test_down_without_a_directory_stops_the_current_stack(user: User) -> None:
    assert user.up().returncode == 0
    ended = user.cutor("down")
    assert str(user.stack.data) in ended.stdout
    check_nothing_left(user)


def test_down_twice_says_that_nothing_runs(user: User) -> None:
    assert user.up().returncode == 0
    assert user.down().returncode == 0
    again = user.down()
    assert (again.returncode, again.stdout) == (0, f"no stack is running in {user.stack.data}\n")


def test_a_second_up_on_the_same_data_names_the_pid(user: User) -> None:
    assert user.up().returncode == 0
    before = processes(user)
    line = one_line(user.up(), 3)
    assert f"pid {supervisor(user)}" in line
    assert processes(user) == before
    assert user.cutor("events").returncode == 0


def test_two_stacks_do_not_disturb_each_other(user: User, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = User(tmp_path_factory.mktemp("other"))
    assert user.up().returncode == 0
    assert other.up().returncode == 0
    try:
        assert user.stack.server != other.stack.server
        assert user.cutor("submit", "-", "--id", "mine", stdin=request()).returncode == 0
        assert one_line(other.cutor("status", "mine"), 2)
    finally:
        assert other.down().returncode == 0
    assert user.cutor("status", "mine").returncode == 0


def test_a_demanded_port_that_is_busy_starts_nothing(user: User) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert f"port {port}" in one_line(user.up("--port", str(port)), 3)
        check_nothing_left(user)


def test_a_demanded_port_is_taken(user: User) -> None:
    port = free_port()
    assert f"127.0.0.1:{port}," in user.up("--port", str(port)).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_stack_in_the_foreground(user: User, number: signal.Signals) -> None:
    with foreground(user, "--roles", "builder") as process:
        process.send_signal(number)
        assert process.wait(180) == 0
        check_nothing_left(user)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_waits_for_docker_is_stopped_by_one_signal(user: User, number: signal.Signals) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(user.home / "d.sock"))
        silent.listen()  # it takes connections, and never answers
        command = [sys.executable, "-m", "cutor", "up", "--data", str(user.stack.data)]
        environment = user.stack.environment | {"DOCKER_HOST": f"unix://{user.home / 'd.sock'}"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            silent.accept()
            process.send_signal(number)
            _, said = process.communicate(timeout=180)
        assert (process.returncode, said.endswith("stopped before it was ready\n")) == (0, True), said
    check_nothing_left(user)


def test_a_third_interrupt_ends_it_at_once(user: User) -> None:
    with foreground(user, "--roles", "builder") as process:
        role = pid_of(user, " builder --data")
        os.kill(role, signal.SIGSTOP)  # it can't obey SIGTERM any more
        process.send_signal(signal.SIGINT)
        until(lambda: state_of(role) == "T")
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)  # it can't hurry either
        log = user.stack.data / "log" / "supervisor.log"
        until(lambda: "stopping now" in log.read_text())
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(180)
        assert "killing" in log.read_text()
        check_nothing_left(user)


def test_a_killed_role_comes_back_by_itself(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    first = pid_of(user, " builder --data")
    os.kill(first, signal.SIGKILL)
    until(lambda: any(" builder --data" in command and pid != first for pid, command in processes(user).items()))
    log = user.stack.data / "log" / "builder.log"
    until(lambda: log.read_bytes().count(b"is ready") == 2)


def test_a_role_that_cannot_come_back_leaves_the_others_running_until_it_can(user: User) -> None:
    """Its configuration is broken after the stack was ready, as Docker or a disk may be: longer than a start would bear."""
    assert user.up(roles=["builder", "projector"]).returncode == 0
    held, server = user.stack.data / "config.toml", pid_of(user, "nats-server.conf")
    before, projector = held.read_bytes(), pid_of(user, " projector --data")
    held.write_text("no toml at all")
    os.kill(pid_of(user, " builder --data"), signal.SIGKILL)
    log = user.stack.data / "log" / "supervisor.log"
    until(lambda: f"({QUICK_DEATHS + 1} quick deaths in a row)" in log.read_text())
    assert (pid_of(user, "nats-server.conf"), pid_of(user, " projector --data")) == (server, projector)
    assert user.cutor("events").returncode == 0
    lines = [line for line in log.read_text().splitlines() if "it is started again in" in line]
    assert re.match(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d the builder ended with exit code 2: cutor: .*config.toml: not valid", lines[-1]
    )
    held.write_bytes(before)
    ready = user.stack.data / "log" / "builder.log"
    until(lambda: ready.read_bytes().count(b"is ready") == 2)


def test_a_role_that_cannot_start_at_all_ends_the_start(user: User) -> None:
    (user.stack.data / "projections.duckdb").mkdir(parents=True)
    assert "the projector died 5 times in a row" in one_line(user.up(roles=["projector"]), 3)
    check_nothing_left(user)


def test_a_killed_server_comes_back_at_the_same_address(user: User) -> None:
    assert user.up().returncode == 0
    assert user.cutor("submit", "-", "--id", "kept", stdin=request()).returncode == 0
    first = pid_of(user, "nats-server.conf")
    os.kill(first, signal.SIGKILL)

    def answers() -> bool:
        return user.cutor("status", "kept").returncode == 0

    until(answers)
    assert pid_of(user, "nats-server.conf") != first


def attempt(act: Callable[[], None]) -> bool:
    """Whether something could be done."""
    try:
        act()
    except OSError:
        return False
    return True


def kill_server_and_take_its_port(user: User) -> socket.socket:
    """Kill the server, and listen on its port before the supervisor starts it again."""
    boss, server, port = supervisor(user), pid_of(user, "nats-server.conf"), int(user.stack.server.rpartition(":")[2])
    os.kill(boss, signal.SIGSTOP)
    try:
        os.kill(server, signal.SIGKILL)
        taken: list[socket.socket] = []
        until(lambda: attempt(lambda: taken.append(socket.create_server(("127.0.0.1", port)))))
        return taken[0]
    finally:
        os.kill(boss, signal.SIGCONT)


def test_a_server_whose_port_was_lost_comes_back_at_another_one_with_the_roles(user: User) -> None:
    (user.stack.data / "nats").mkdir(parents=True)
    (user.stack.data / "nats" / "nats-port").write_text(f"{free_port()}\n")  # not 4222, which a stack of somebody else may take
    assert user.up(roles=["builder", "projector"]).returncode == 0
    assert user.cutor("submit", "-", "--id", "kept", stdin=request()).returncode == 0
    old = user.stack.server
    with kill_server_and_take_its_port(user):
        until(lambda: user.stack.server != old)
        assert user.cutor("status", "kept").returncode == 0
        for role in ("builder", "projector"):
            log = user.stack.data / "log" / f"{role}.log"
            until(lambda log=log: log.read_bytes().count(b"is ready") == 2)
            environment = Path(f"/proc/{pid_of(user, f' {role} --data')}/environ").read_bytes()
            assert f"CUTOR_SERVER={user.stack.server}".encode() in environment.split(b"\0")
        assert user.down().returncode == 0
    check_nothing_left(user)


def test_a_demanded_port_that_was_lost_ends_the_stack_with_a_line(user: User) -> None:
    port = free_port()
    assert user.up("--port", str(port), roles=["projector"]).returncode == 0
    with kill_server_and_take_its_port(user):
        until(lambda: is_free(user.stack.data / "lock"))
    assert (
        f"port {port} of 127.0.0.1 is in use: choose another one"
        in last_lines(user.stack.data / "log" / "supervisor.log", 1)[0]
    )
    check_nothing_left(user)


def test_a_killed_supervisor_takes_all_processes_with_it_and_down_cleans_up(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    instance = user.stack.instance
    os.kill(supervisor(user), signal.SIGKILL)
    until(lambda: not processes(user) and is_free(user.stack.data / "lock"))
    container = make_container(instance)
    ended = user.down()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "had died" in ended.stdout
    assert "(1 container)" in ended.stdout
    assert container not in containers(instance)
    check_nothing_left(user)
    assert "no stack is running" in user.down().stdout


def test_up_after_a_killed_supervisor_removes_what_it_left(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    os.kill(supervisor(user), signal.SIGKILL)
    until(lambda: is_free(user.stack.data / "lock"))
    container = make_container(user.stack.instance)
    assert user.up(roles=["builder"]).returncode == 0
    assert container not in containers(user.stack.instance)


def test_down_leaves_no_container(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    make_container(user.stack.instance)
    assert user.down().returncode == 0
    assert containers(user.stack.instance) == []


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGINT, 130, "cutor: interrupted"), (signal.SIGTERM, 128 + signal.SIGTERM, "")]
)
def test_interrupting_a_detached_start_leaves_nothing(user: User, number: signal.Signals, code: int, line: str) -> None:
    command = [sys.executable, "-m", "cutor", "up", "--detach", "--data", str(user.stack.data), "--roles", "builder"]
    starting = subprocess.Popen(command, env=user.stack.environment, stderr=subprocess.PIPE, text=True)
    until((user.stack.data / "lock").exists)
    starting.send_signal(number)
    _, said = starting.communicate(timeout=180)
    assert starting.returncode == code
    assert said.strip() == line  # behind the ^C that a terminal shows
    check_nothing_left(user)


def test_no_process_shows_the_credential(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    password = user.stack.server.partition("cutor:")[2].partition("@")[0]
    assert len(password) > 20
    assert all(password not in command for command in processes(user).values())
    logs = [path.read_text() for path in (user.stack.data / "log").iterdir()]
    assert all(password not in text for text in logs)


def test_the_roles_get_the_configuration_that_the_stack_was_started_with(user: User) -> None:
    config = user.home / "c.toml"
    config.write_text("max_leases = 7\n")
    assert user.up("--config", str(config)).returncode == 0
    config.write_text("no toml at all")
    assert DataDirectory(user.stack.data).config_file.read_text() == "max_leases = 7\n"


def test_a_database_outside_of_the_data_directory_is_its_owners_alone(user: User) -> None:
    config, database = user.home / "c.toml", user.home / "elsewhere" / "views.duckdb"
    database.parent.mkdir()
    config.write_text(f'[projector]\ndatabase = "{database}"\n')
    assert user.up("--config", str(config), roles=["projector"]).returncode == 0
    assert {path.stat().st_mode & 0o077 for path in database.parent.iterdir()} == {0}
    assert database.is_file()


def test_the_supervisors_log_has_a_time_in_every_line(user: User) -> None:
    assert user.up().returncode == 0
    assert user.down().returncode == 0
    lines = (user.stack.data / "log" / "supervisor.log").read_text().splitlines()
    assert [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line)] == []
    assert any("cutor is ready at nats://127.0.0.1:" in line for line in lines)
    assert lines[-1].endswith("the stack has ended")


def test_a_role_by_itself_serves_against_any_server(user: User) -> None:
    assert user.up().returncode == 0
    alone = user.home / "alone"
    command = [sys.executable, "-m", "cutor", "builder", "--server", user.stack.server, "--data", str(alone)]
    role = subprocess.Popen(command, env=user.stack.environment, stderr=subprocess.PIPE, text=True)
    try:
        assert role.stderr is not None
        assert any("the builder is ready" in line for line in role.stderr), "others' leftovers may be told of before"
        again = user.cutor("builder", "--server", user.stack.server, "--data", str(alone))
        assert f"pid {role.pid}" in one_line(again, 3)
        role.send_signal(signal.SIGTERM)
        assert role.wait(180) == 0
    finally:
        if role.poll() is None:
            role.kill()
        role.communicate()
    assert (alone / "instance").read_text().strip() != user.stack.instance
    assert is_free(alone / "lock")


def test_a_role_without_its_server_is_one_line(user: User) -> None:
    done = user.cutor("builder", "--server", "nats://127.0.0.1:1", "--data", str(user.home / "alone"))
    assert "cannot reach NATS" in one_line(done, 3)


def test_a_bad_worker_name_is_refused(user: User) -> None:
    done = user.cutor("builder", "--server", "nats://127.0.0.1:1", "--worker", "a b")
    assert "worker 'a b'" in one_line(done, 2)


def test_streams_are_made_by_up_and_published_limits_are_the_configured(user: User) -> None:
    config = user.home / "c.toml"
    config.write_text("[limits.run.maximum]\nwall_time_ms = 1234\n[tenants]\ndefault = 1\nbatch = 2\n")
    assert user.up("--config", str(config)).returncode == 0
    plan = user.cutor("streams", "plan", "--config", str(config))
    assert plan.stdout == "the server has streams and consumers as wanted\n"
    too_long = request(limits={"run": {"wall_time_ms": 1235}})
    assert "more than the maximum of 1234" in one_line(user.cutor("submit", "-", stdin=too_long), 2)
    assert user.cutor("submit", "-", "--tenant", "batch", stdin=request()).returncode == 0


def test_streams_apply_makes_what_is_missing(user: User) -> None:
    assert user.up().returncode == 0
    config = user.home / "c.toml"
    config.write_text("[tenants]\nnew = 1\n")
    planned = json.loads(user.cutor("streams", "plan", "--json", "--config", str(config)).stdout)
    made = [("create", "builder-new"), ("create", "runner-new")]
    assert [(one["change"], one["consumer"]) for one in planned] == [*made, ("publish", None)]
    applied = user.cutor("streams", "apply", "--config", str(config))
    assert applied.stdout.count("create consumer") == 2
    assert user.cutor("submit", "-", "--tenant", "new", stdin=request()).returncode == 0
    assert "nothing" not in user.cutor("streams", "apply", "--config", str(config)).stderr


def containers(instance: str) -> list[str]:
    async def find() -> list[str]:
        async with Engine.connect() as engine:
            return [container.id for container in await engine.list(instance)]

    return asyncio.run(find())


def make_container(instance: str, role: str = "builder") -> str:
    """Make a container such as a role of this instance would leave behind; return its id."""

    async def create() -> str:
        async with Docker() as docker:
            container = await docker.containers.create({"Image": IMAGE, "Labels": {"cutor": instance, "cutor.role": role}})
            return str(container.id)

    return asyncio.run(create())


@pytest.fixture
def image_name() -> Iterator[str]:
    """A name of the child image that this test may give to another one; it is gone at the end."""
    repository, tag = "cutor-test", secrets.token_hex(6)
    give_name(IMAGE, repository, tag)
    yield f"{repository}:{tag}"

    async def remove() -> None:
        async with Docker() as docker:
            await docker.images.delete(f"{repository}:{tag}")

    asyncio.run(remove())


def give_name(image: str, repository: str, tag: str) -> None:
    async def give() -> None:
        async with Docker() as docker:
            await docker.images.tag(image, repository, tag=tag)

    asyncio.run(give())


def base_of_the_child_image() -> str:
    async def find() -> str:
        async with Engine.connect() as engine:
            return (await engine.image_labels(IMAGE))["cutor.base"]

    return asyncio.run(find())


def test_a_running_stack_keeps_its_image_when_the_name_goes_to_another_one(user: User, image_name: str) -> None:
    config = user.home / "c.toml"
    config.write_text(f'[docker]\nimage = "{image_name}"\n')
    assert user.up("--config", str(config), roles=["builder", "runner"]).returncode == 0
    give_name(base_of_the_child_image(), *image_name.split(":"))  # an image in which nothing of cutor's is
    for role in ("builder", "runner"):  # also those that come back
        first = pid_of(user, f" {role} --data")
        os.kill(first, signal.SIGKILL)
        log = user.stack.data / "log" / f"{role}.log"
        until(lambda log=log: log.read_bytes().count(b"is ready") == 2)
    done = user.cutor("submit", str(EXAMPLES / "shell-hook"), "--wait", "--json")
    assert json.loads(done.stdout)["outcome"] == "OK", done.stderr
    assert user.down().returncode == 0
    line = one_line(user.up("--config", str(config), roles=["builder"]), 3)
    assert f"'{image_name}' speaks version none of the stage protocol" in line


def running_image(user: User) -> list[tuple[str, str]]:
    """Return verdict and detail of what `cutor doctor` says of the images of the running stack."""
    findings = json.loads(user.cutor("doctor", "--json").stdout)
    return [(found["verdict"], found["detail"]) for found in findings if found["what"] == "running image"]


def test_doctor_sees_that_the_image_of_the_running_stack_is_gone(user: User) -> None:
    assert user.up(roles=["builder"]).returncode == 0
    assert running_image(user) == [("ok", "the running stack has the image that it was started with")]
    kept, gone = user.stack.data / "images.json", f"sha256:{'0' * 64}"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"builder": gone}))
    assert running_image(user) == [("fail", f"the image of the running stack is gone ({gone})")]
    assert "is gone" in (shown := user.cutor("doctor").stdout)
    assert ": start the stack again\n" in shown
    assert user.down().returncode == 0
    assert running_image(user) == []
    assert user.up().returncode == 0
    assert running_image(user) == [], "this life starts no containers"


def test_the_server_listens_on_the_loopback_alone(user: User) -> None:
    assert user.up().returncode == 0
    port = int(user.stack.server.rpartition(":")[2])
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    listening = [local for _, local, _, state, *_ in lines if state == "0A" and local.endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]


def test_up_says_when_commands_will_talk_to_another_server(user: User) -> None:
    done = user.cutor(
        "up", "--detach", "--data", str(user.stack.data), "--roles", "", CUTOR_SERVER="nats://nats.example.org:4222"
    )
    assert done.returncode == 0
    assert "commands talk to that one" in done.stderr
    assert user.cutor("status", "x").returncode == 2


def test_nobody_reading_its_terminal_does_not_stop_it(user: User) -> None:
    with foreground(user, "--roles", "builder") as process:
        assert process.stderr is not None
        process.stderr.close()  # nobody reads what it shows any more
        first = pid_of(user, " builder --data")
        os.kill(first, signal.SIGKILL)
        until(lambda: any(" builder --data" in command and pid != first for pid, command in processes(user).items()))
        log = user.stack.data / "log" / "builder.log"
        until(lambda: log.read_bytes().count(b"is ready") == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0
        check_nothing_left(user)


def test_nothing_is_imported_from_where_the_stack_is_started(user: User, tmp_path: Path) -> None:
    """A package of the same name in the current directory, as a submission's author may have made one, is not run."""
    planted = tmp_path / "cutor"
    planted.mkdir()
    (planted / "__init__.py").write_text(f"open({str(tmp_path / 'hijacked')!r}, 'w')\n")
    (planted / "__main__.py").write_text("")
    command = [str(Path(sys.executable).parent / "cutor"), "up", "--detach", "--data", str(user.stack.data)]
    started = subprocess.run(
        [*command, "--roles", "projector"],
        cwd=tmp_path,
        env=user.stack.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    assert user.stack.cutor("down").returncode == 0
    assert not (tmp_path / "hijacked").exists()
