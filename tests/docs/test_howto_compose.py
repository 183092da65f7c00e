"""The page on compose, followed in a copy of the checkout: image, cluster and roles, and what they may do.

All this runs beside other stacks of the machine: ports, project, image and store are its own.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from cutor.containers.host_config import INSTANCE_LABEL
from cutor.nix.settings import NixSettings
from deploy.test_tools import compose
from tests import commands
from tests.child_image import IMAGE
from tests.containers import container_ids
from tests.docs.snippets import HOW_TO, run, snippets
from tests.live_stack import EXAMPLES, surroundings
from tests.ports import free_port
from tests.stores import section

START, USE, STOP = (one.text for one in snippets(HOW_TO / "compose.md", "sh"))
ROOT: Final = Path(__file__).parents[2]
COPIED: Final = (
    "cutor",
    "deploy",
    "examples",
    *("pyproject.toml", "requirements.lock", "streams.yaml"),
    *("README.md", "LICENSE"),
)
COPIED_HIDDEN: Final = (".dockerignore",)
NODES: Final = ("n1", "n2", "n3")
ROLES: Final = ("builder", "runner", "projector")
PATIENCE_S: Final = 180
NO_CAPABILITY: Final = "CapEff:\t0000000000000000"


@dataclass(frozen=True)
class Composed:
    """The services of a copy of the checkout."""

    directory: Path
    """deploy/compose of the copy"""
    project: str
    environment: dict[str, str]
    tool: tuple[str, ...]

    def compose(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run docker-compose from the top of the copy, as the how-to does."""
        done = subprocess.run(
            [*self.tool, "-f", "deploy/compose/compose.yaml", *args],
            cwd=self.directory.parents[1],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert not check or done.returncode == 0, (args, done.stdout, done.stderr)
        return done

    def follow(self, script: str) -> str:
        """Run a block of the page at the top of the copy, and return what it prints; set-up has been run for this checkout."""
        tools = "make() { case $1 in compose-base) python -m deploy.compose.base ;; esac; }\n"
        if self.tool != ("docker-compose",):
            tools += f'docker-compose() {{ {" ".join(self.tool)} "$@"; }}\n'
        done = run(f"cd '{self.directory.parents[1]}'\n{tools}{script}", self.environment)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def container(self, service: str) -> str:
        """The id of a service's container."""
        [found] = container_ids(
            f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}"
        )
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container."""
        shown = subprocess.run(["docker", "inspect", self.container(service)], capture_output=True, check=True)
        [found] = json.loads(shown.stdout)
        return found

    def inside(self, service: str, script: str, *, check: bool = True) -> str:
        """Run a script of the shell in a service's container, and return what it prints."""
        command = ["docker", "exec", self.container(service), "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60).stdout

    def wait(self, *services: str) -> None:
        """Wait until services are healthy."""
        deadline = time.monotonic() + PATIENCE_S
        while seen := {name: health for name in services if (health := self._health(name)) != "healthy"}:
            assert time.monotonic() < deadline, (seen, self.compose("logs", "--tail", "20", check=False).stdout)
            time.sleep(0.3)

    def _health(self, service: str) -> str:
        state = self.inspect(service)["State"]
        return str(state["Health"]["Status"]) if state["Status"] == "running" else str(state["Status"])

    def cutor(self, user: str, *args: str) -> subprocess.CompletedProcess[bytes]:
        """Run cutor on the host with the credential of a user."""
        own = self.directory / "made" / "secrets"
        server = {"CUTOR_SERVER": (own / f"{user}.url").read_text().strip(), "CUTOR_TLS_CA": str(own / "ca.pem")}
        configuration = {"CUTOR_CONFIG": str(self.directory / "made" / "cutor" / "cutor.toml")}
        return commands.run(args, self.environment | server | configuration, timeout_s=PATIENCE_S)

    def submit(self, submission_id: str) -> dict[str, Any]:
        """Hand in an example, and return its result."""
        words = ("submit", str(EXAMPLES / "python-three-tests"), "--id", submission_id, "--wait", "--json")
        done = self.cutor("producer", *words)
        assert done.returncode == 0, (done.stdout, done.stderr)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def left(self) -> dict[str, str]:
        """What Docker has of the project, by kind."""
        project = ["--filter", f"label=com.docker.compose.project={self.project}", "--quiet"]
        kinds = {kind: ["docker", kind, "ls", *project] for kind in ("volume", "network")}
        kinds["container"] = ["docker", "container", "ls", "--all", *project]
        return {kind: subprocess.run(words, capture_output=True, text=True, check=True).stdout for kind, words in kinds.items()}


def first_of(count: int) -> int:
    """Return the first of so many free ports that follow each other."""
    while True:
        ports = [free_port() for _ in range(count)]
        if ports == list(range(ports[0], ports[0] + count)):
            return ports[0]


def copied(directory: Path) -> Path:
    """Copy what a checkout has, but for what was made in it."""
    for name in (*COPIED, *COPIED_HIDDEN):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, directory / name, ignore=shutil.ignore_patterns("secrets", "store", "made", ".env", "__pycache__")
            )
        else:
            shutil.copy(ROOT / name, directory / name)
    return directory / "deploy" / "compose"


@pytest.fixture(scope="module")
def unprepared(tmp_path_factory: pytest.TempPathFactory, nix_set_up: None) -> Composed:
    """A copy of the checkout, and the tool; without one a visible skip on a laptop and a failure in CI."""
    if not (tool := compose()):
        missing = "neither docker-compose nor docker compose is there: run make test-tools"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("composed")
    project = f"cutor-test-compose-{secrets.token_hex(4)}"
    own = {"COMPOSE_PROJECT_NAME": project, "CUTOR_ROLES_IMAGE": f"{project}:local"}
    return Composed(copied(directory), project, surroundings(directory) | own, tuple(tool))


@pytest.fixture(scope="module")
def composed(unprepared: Composed, nix_settings: NixSettings) -> Iterator[Composed]:
    """The services, started; in the end nothing of them is left, whatever happened."""
    one = unprepared
    with (one.directory / "cutor.toml").open("a") as configuration:
        configuration.write(section(nix_settings))
    ports = " ".join(f"--{kind}-port={first_of(count)}" for kind, count in (("client", 3), ("route", 3), ("metrics", 4)))
    try:
        one.follow(START.replace("./prepare.py", f"./prepare.py {IMAGE} {ports}"))
        one.wait(*NODES, *ROLES)
        yield one
    finally:
        one.compose("down", "-v", "--timeout", "30", check=False)
        subprocess.run(["docker", "image", "rm", f"{one.project}:local"], capture_output=True, check=False)


def test_who_did_not_prepare_is_told(unprepared: Composed) -> None:
    if (unprepared.directory / ".env").exists():
        pytest.fail("this test comes before those that prepare")
    done = unprepared.compose("config", check=False)
    assert done.returncode != 0
    assert "run ./prepare.py first" in done.stderr


def test_services_are_healthy_and_streams_have_three_copies(composed: Composed) -> None:
    assert composed.inspect("streams")["State"]["ExitCode"] == 0
    doctor = composed.cutor("admin", "doctor").stdout.decode()
    assert "3 of every stream, all current" in doctor, doctor
    assert "FAIL" not in doctor, doctor
    assert "warn  answers" not in doctor, "who answers questions is shut in"


@pytest.mark.parametrize("service", [*NODES, *ROLES])
def test_a_service_can_do_no_more_than_it_has_to(composed: Composed, service: str) -> None:
    known = composed.inspect(service)
    assert known["HostConfig"]["ReadonlyRootfs"]
    assert known["HostConfig"]["Memory"] > 0
    assert known["HostConfig"]["PidsLimit"] > 0
    status = composed.inside(service, "for process in $(cat /proc/1/task/1/children); do cat /proc/$process/status; done")
    assert NO_CAPABILITY in status, status
    assert "NoNewPrivs:\t1" in status, status
    user = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
    assert user == ("0" if service == "runner" else "10001")


@pytest.mark.parametrize("service", [*NODES, *ROLES])
def test_a_service_writes_into_its_volume_and_nowhere_else(composed: Composed, service: str) -> None:
    outside = {"/var/run/docker.sock", "/sys/fs/cgroup"}
    mounts = [mount for mount in composed.inspect(service)["Mounts"] if mount["RW"] and mount["Destination"] not in outside]
    assert {mount["Type"] for mount in mounts} == {"volume"}
    assert len(mounts) == 1
    refused = "for place in / /etc /opt/cutor /var/lib /srv; do touch $place/x 2> /dev/null && echo $place; done; true"
    assert composed.inside(service, refused) == ""
    composed.inside(service, f"touch {mounts[0]['Destination']}/x && rm {mounts[0]['Destination']}/x && touch /tmp/x")


@pytest.mark.parametrize("node", NODES)
def test_a_node_has_its_own_key_alone(composed: Composed, node: str) -> None:
    assert composed.inside(node, "cd /etc/nats/secrets && echo *").split() == [
        "ca.pem",
        f"{node}.key",
        f"{node}.pem",
        "passwords.conf",
    ]


def test_a_submission_is_judged_to_its_end(composed: Composed) -> None:
    result = composed.submit("first")
    assert result["outcome"] == "OK"
    assert [run["memory_peak_bytes"] is not None for run in result["run"]] == [True] * 3, "the runner writes control groups"
    until(lambda: b"first" in composed.cutor("analyst", "query", "SELECT id FROM submissions", "--format", "csv").stdout)


def test_a_killed_node_is_survived(composed: Composed) -> None:
    printed = composed.follow(USE)
    assert ("default/before OK" in printed, "default/after OK" in printed) == (True, True), printed
    composed.wait(*NODES, *ROLES)
    until(lambda: "3 of every stream, all current" in composed.cutor("admin", "doctor").stdout.decode())


def test_a_role_that_dies_comes_again(composed: Composed) -> None:
    before = composed.inspect("runner")["State"]["StartedAt"]
    composed.inside("runner", "kill -9 $(cat /proc/1/task/1/children)", check=False)  # exec may end with it
    until(lambda: composed.inspect("runner")["State"]["StartedAt"] != before)
    composed.wait("runner")
    assert composed.inspect("runner")["RestartCount"] > 0
    assert composed.submit("another-life")["outcome"] == "OK"


def test_nothing_is_left_after_down(composed: Composed) -> None:
    instances = [composed.inside(role, f"cat /var/lib/cutor/{role}/instance").strip() for role in ("builder", "runner")]
    assert any(container_ids(f"label={INSTANCE_LABEL}={one}") for one in instances), (
        "the runner has containers that wait for work"
    )
    composed.follow(STOP)
    assert [container_ids(f"label={INSTANCE_LABEL}={one}") for one in instances] == [[], []]
    assert composed.left() == {"container": "", "volume": "", "network": ""}


def until(holds: Callable[[], bool]) -> None:
    """Wait for what is to come."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.3)
