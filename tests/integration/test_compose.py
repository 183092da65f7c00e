"""The compose file against what it starts: commands, users, ports, files that there are. Its page has what a run printed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from cutor.config import Config, parse
from cutor.stack.stop_times import StopTimes
from tests.cluster import DEPLOYED, DeployedCluster
from tests.docs.command_lines import check
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
FILE: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
NODES = ("n1", "n2", "n3")
ROLES = ("builder", "runner", "projector", "archiver")
SOCKET = "/var/run/docker.sock"
IMAGE = "cutor-child:some-tag"


def mounts(service: str) -> dict[str, str]:
    """Where a service has what: place in the container, source."""
    return {words[1]: words[0] for words in (one.split(":") for one in SERVICES[service].get("volumes", []))}


def health(service: str) -> list[str]:
    """What asks whether a service works, behind the script: kind, port."""
    cmd, python, script, *rest = SERVICES[service]["healthcheck"]["test"]
    assert (cmd, python, mounts(service)[script]) == ("CMD", "python3", "./health.py")
    return [str(word) for word in rest]


def run_health(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(COMPOSE / "health.py"), *words]
    return subprocess.run(script, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`deploy` with what `prepare` makes in it."""
    deploy = tmp_path_factory.mktemp("compose") / "deploy"
    for part in ("compose", "nats"):
        ignored = shutil.ignore_patterns("secrets", "store", "made")
        shutil.copytree(ROOT / "deploy" / part, deploy / part, ignore=ignored)
    subprocess.run([deploy / "compose" / "prepare", IMAGE], check=True, capture_output=True, timeout=60)
    return deploy


@pytest.fixture(scope="module")
def config(prepared: Path) -> Config:
    file = prepared / "compose" / "made" / "cutor.toml"
    return parse(file.read_bytes(), str(file))


def test_every_service_is_a_node_a_role_or_the_streams() -> None:
    assert set(SERVICES) == {*NODES, *ROLES, "streams"}


@pytest.mark.parametrize("service", [*ROLES, "streams"])
def test_a_command_of_cutor_is_one(service: str) -> None:
    program, *args = SERVICES[service]["command"]
    assert program == "cutor"
    check(args)
    assert args[0] == service


@pytest.mark.parametrize("service", [*ROLES, "streams"])
def test_a_service_has_the_credential_of_its_user_alone(service: str, prepared: Path) -> None:
    user = "admin" if service == "streams" else service
    file = prepared / "compose" / SERVICES[service]["env_file"]
    address = (prepared / "nats" / "cluster" / "secrets" / f"{user}.url").read_text()
    assert file.read_text() == f"CUTOR_SERVER={address}"
    assert f"tls://{user}:" in address
    assert file.stat().st_mode & 0o077 == 0
    assert [source for source in mounts(service).values() if "secrets" in source] == ["../nats/cluster/secrets/ca.pem"]


@pytest.mark.parametrize("node", NODES)
def test_a_node_is_asked_where_it_listens(node: str) -> None:
    assert SERVICES[node]["command"] == ["nats-server", "-c", f"{node}.conf"]
    found = re.search(r'^client_address: "127\.0\.0\.1:(\d+)"$', (DEPLOYED / f"{node}.conf").read_text(), re.MULTILINE)
    assert found is not None
    assert health(node) == ["node", found[1]]
    assert mounts(node)[SERVICES[node]["working_dir"]] == "../nats/cluster"
    assert mounts(node)[f"{SERVICES[node]['working_dir']}/store"] == node, "a volume of its own"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_asked_where_its_metrics_are(role: str, config: Config) -> None:
    assert health(role) == ["role", str(getattr(config.metrics, f"{role}_port"))]
    assert config.metrics.listen == "127.0.0.1"


def test_the_configuration_is_that_of_the_cluster(config: Config) -> None:
    assert config.server.replicas == len(NODES)
    assert (config.docker.image, config.nix.image) == (IMAGE, IMAGE)
    for service in (*ROLES, "streams"):
        assert mounts(service)[str(config.server.tls_ca)] == "../nats/cluster/secrets/ca.pem"
        assert mounts(service)[SERVICES[service]["environment"]["CUTOR_CONFIG"]] == "./made/cutor.toml"


def test_the_archive_that_is_offered_is_where_archiver_and_projector_have_it() -> None:
    text = (COMPOSE / "cutor.toml").read_text().replace("# [archive]", "[archive]").replace("# directory", "directory")
    archive = parse(text.encode(), "cutor.toml").archive.directory
    assert archive is not None
    assert {mounts(role)[archive] for role in ("archiver", "projector")} == {"archive"}


def test_builder_and_runner_alone_have_the_socket_of_docker() -> None:
    assert {service for service in SERVICES if SOCKET in mounts(service)} == {"builder", "runner"}
    assert not any(service.get("privileged") for service in SERVICES.values())


@pytest.mark.parametrize("role", ROLES)
def test_the_data_of_a_role_is_in_a_volume(role: str) -> None:
    command = SERVICES[role]["command"]
    assert mounts(role)[command[command.index("--data") + 1]] == role


def test_what_is_mounted_is_there(prepared: Path) -> None:
    named = {source for service in SERVICES for source in mounts(service).values()}
    volumes = {source for source in named if not source.startswith((".", "/"))}
    assert volumes == set(FILE["volumes"])
    assert [source for source in named if source.startswith(".") and not (prepared / "compose" / source).exists()] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_in_the_network_of_the_host_and_comes_again(service: str) -> None:
    assert SERVICES[service]["network_mode"] == "host", "uids are claimed in the network of the host"
    assert SERVICES[service]["restart"] == ("on-failure" if service == "streams" else "unless-stopped")


@pytest.mark.parametrize("role", ROLES)
def test_a_stop_waits_for_what_a_role_may_take(role: str, config: Config) -> None:
    assert float(SERVICES[role]["stop_grace_period"].removesuffix("s")) > StopTimes(config.shutdown_grace_s).kept_role_s


def test_the_image_is_made_of_what_the_context_has() -> None:
    build = SERVICES["n1"]["build"]
    assert (COMPOSE / build["context"]).resolve() == ROOT
    recipe = (ROOT / build["dockerfile"]).read_text()
    copied = [word for line in re.findall(r"^COPY (.+)$", recipe, re.MULTILINE) for word in line.split()[:-1]]
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == let_in
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {service["image"] for service in SERVICES.values()} == {"cutor-roles:local"}


def test_prepare_without_a_child_image_says_what_to_do(prepared: Path) -> None:
    done = subprocess.run([prepared / "compose" / "prepare"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "prepare: no child image yet: run `make setup` first, or name one: ./prepare IMAGE\n"


def test_a_node_is_healthy_while_it_runs(tmp_path: Path) -> None:
    cluster = DeployedCluster(tmp_path)
    words = ("node", str(cluster.port(0)))
    assert run_health(*words, cwd=cluster.home).returncode == 1
    cluster.start(0)
    try:
        answers = (run_health(*words, cwd=cluster.home) for _ in range(100))
        assert next((one for one in answers if one.returncode == 0), None), "within a hundred looks"
    finally:
        cluster.kill_all()
    assert "TLS handshake" not in cluster.log(0).read_text(), "a look leaves no error in the server's log"


class Answering(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_request(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def endpoint() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_role_is_healthy_while_it_says_that_it_serves(
    endpoint: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("role", str(endpoint.server_port))
    assert run_health(*words, cwd=tmp_path).returncode == 0
    monkeypatch.setattr(Answering, "status", 503)
    assert run_health(*words, cwd=tmp_path).returncode == 1
    assert run_health("role", str(free_port("127.0.0.1")), cwd=tmp_path).returncode == 1
