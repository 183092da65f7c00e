"""The compose file against what it starts: commands, users, ports, files. tests/docs/test_howto_compose.py starts it."""

from __future__ import annotations

import os
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


def writable(service: str) -> set[str]:
    """What is mounted so that a service can write there."""
    return {words[0] for words in (one.split(":") for one in SERVICES[service].get("volumes", [])) if words[2:] != ["ro"]}


def health(service: str) -> list[str]:
    """What asks whether a service works, behind the script: kind, configuration or role."""
    cmd, python, script, *rest = SERVICES[service]["healthcheck"]["test"]
    assert (cmd, python, mounts(service)[script]) == ("CMD", "python3", "./health.py")
    return [str(word) for word in rest]


def run_health(*words: str, cwd: Path, config: str = "") -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(COMPOSE / "health.py"), *words]
    environment = os.environ | {"CUTOR_CONFIG": config}
    return subprocess.run(script, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


def run_prepare(deploy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    prepare = [deploy / "compose" / "prepare.py", *words]
    return subprocess.run(prepare, capture_output=True, text=True, check=False, timeout=60)


def copied(directory: Path) -> Path:
    """Return a copy of `deploy` in which nobody prepared anything."""
    for part in ("compose", "nats"):
        ignored = shutil.ignore_patterns("secrets", "store", "made", ".env")
        shutil.copytree(ROOT / "deploy" / part, directory / "deploy" / part, ignore=ignored)
    (directory / "cutor").symlink_to(ROOT / "cutor")
    return directory / "deploy"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`deploy` with what `prepare.py` makes in it."""
    deploy = copied(tmp_path_factory.mktemp("compose"))
    done = run_prepare(deploy, IMAGE)
    assert done.returncode == 0, done.stderr
    return deploy


@pytest.fixture(scope="module")
def config(prepared: Path) -> Config:
    file = prepared / "compose" / "made" / "cutor" / "cutor.toml"
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
    address = (prepared / "compose" / "made" / "secrets" / f"{user}.url").read_text()
    assert file.read_text() == f"CUTOR_SERVER={address}"
    assert f"tls://{user}:" in address
    assert file.stat().st_mode & 0o077 == 0
    assert [source for source in mounts(service).values() if "secrets" in source or source == "./made"] == []


@pytest.mark.parametrize("node", NODES)
def test_a_node_is_asked_where_it_listens(node: str, prepared: Path) -> None:
    assert SERVICES[node]["command"] == ["nats-server", "-c", f"{node}.conf"]
    assert health(node) == ["node", f"{node}.conf"]
    assert mounts(node)[SERVICES[node]["working_dir"]] == f"./made/{node}"
    mine = (prepared / "compose" / "made" / node / f"{node}.conf").read_text()
    assert re.findall('^store: *"(.+)"$', mine, re.MULTILINE) == ["/var/lib/cutor/nats"]
    assert mounts(node)["/var/lib/cutor/nats"] == node, "a volume of its own"


@pytest.mark.parametrize("node", NODES)
def test_a_node_is_configured_as_that_of_the_cluster(node: str, prepared: Path) -> None:
    """But for where its store is."""
    made = prepared / "compose" / "made" / node
    delivered = {file.name for file in DEPLOYED.glob("*.conf") if file.stem not in NODES} | {f"{node}.conf"}
    assert {file.name for file in made.glob("*.conf")} == delivered
    for name in delivered:
        lines = [line for line in (DEPLOYED / name).read_text().splitlines() if not line.startswith("store:")]
        assert [line for line in (made / name).read_text().splitlines() if not line.startswith("store:")] == lines
    assert {file.name for file in (made / "secrets").iterdir()} == {"ca.pem", f"{node}.pem", f"{node}.key", "passwords.conf"}


def test_what_was_made_is_closed_to_other_users_of_the_machine(prepared: Path) -> None:
    assert (prepared / "compose" / "made").stat().st_mode & 0o077 == 0


def test_nothing_of_the_checkout_can_be_written() -> None:
    assert {source for service in SERVICES for source in writable(service) if source.startswith(".")} == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_held_down(service: str) -> None:
    known = SERVICES[service]
    assert known["read_only"] is True
    assert known["cap_drop"] == ["ALL"]
    assert "cap_add" not in known
    assert known["security_opt"][0] == "no-new-privileges:true"
    assert len(known["security_opt"]) == (2 if service == "projector" else 1), "else Docker's own profile"
    assert known["pids_limit"] > 0
    assert known["mem_limit"]
    assert known.get("user") == ("0:0" if service == "runner" else None), "that of the image"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_asked_where_its_metrics_are(role: str, config: Config) -> None:
    assert health(role) == ["role", role]
    assert getattr(config.metrics, f"{role}_port") is not None
    assert config.metrics.listen == "127.0.0.1"


def test_the_configuration_is_that_of_the_cluster(config: Config) -> None:
    assert config.server.replicas == len(NODES)
    assert (config.docker.image, config.nix.image) == (IMAGE, IMAGE)
    for service in (*ROLES, "streams"):
        home = mounts(service)["/etc/cutor"]
        assert (home, str(config.server.tls_ca)) == ("./made/cutor", "/etc/cutor/ca.pem")
        assert SERVICES[service]["environment"]["CUTOR_CONFIG"] == "/etc/cutor/cutor.toml"


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
    assert {service["image"] for service in SERVICES.values()} == {"${CUTOR_ROLES_IMAGE:-cutor-roles:local}"}


def test_prepare_without_a_child_image_says_what_to_do(tmp_path: Path) -> None:
    done = run_prepare(copied(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "prepare.py: no child image yet: run `make setup` first, or name one: ./prepare.py IMAGE\n"


@pytest.mark.parametrize("name", ['x"\n[nix]\nnetwork = true #', "a|b", "a&b", r"a\1", "-x/y z", "é", "a" * 300])
def test_prepare_takes_no_image_that_is_none(name: str, tmp_path: Path) -> None:
    deploy = copied(tmp_path)
    done = run_prepare(deploy, "--", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"prepare.py: {name!r} is no name of an image\n"
    assert not (deploy / "compose" / "made").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--client-port", "65534"], "--client-port 65534: 3 ports from there have to be within 1 to 65535"),
        (["--route-port", "0"], "--route-port 0: 3 ports from there have to be within 1 to 65535"),
        (["--metrics-port", "65533"], "--metrics-port 65533: 4 ports from there have to be within 1 to 65535"),
        (["--client-port", "6220"], "two of the ports 6220 to 6222, 6222 to 6224, 9111 to 9114 are one"),
    ],
)
def test_prepare_takes_no_port_that_is_none(words: list[str], said: str, tmp_path: Path) -> None:
    done = run_prepare(copied(tmp_path), IMAGE, *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"prepare.py: {said}\n")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("compose/cutor.toml", "[server]", "[server", "cutor.toml: Expected ']'"),
        ("compose/cutor.toml", "runner_port = 9112", "", "cutor.toml: [metrics] has no runner_port"),
        ("nats/cluster/n2.conf", "client_address:", "# client_address:", "n2.conf has 0 lines that match client_address:.*"),
        ("nats/cluster/routes.conf", "routes: [", "routes: {", "routes.conf has no routes"),
    ],
)
def test_prepare_says_what_it_cannot_read(file: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    deploy = copied(tmp_path)
    changed = deploy / file
    text = changed.read_text()
    assert old in text
    changed.write_text(text.replace(old, new))
    done = run_prepare(deploy, IMAGE)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr


def test_prepare_says_which_port_it_noted_is_none(tmp_path: Path) -> None:
    """The file is beside compose.yaml, so people edit it."""
    deploy = copied(tmp_path)
    (deploy / "compose" / ".env").write_text("CUTOR_CLIENT_PORT=one\n")
    done = run_prepare(deploy, IMAGE)
    assert done.returncode == 2
    assert done.stderr.startswith(f"prepare.py: {deploy / 'compose' / '.env'}: a port is no number")
    assert done.stderr.count("\n") == 1


def test_prepare_remembers_ports_and_keeps_credentials(tmp_path: Path) -> None:
    deploy = copied(tmp_path)
    made = deploy / "compose" / "made"
    assert run_prepare(deploy, IMAGE, "--client-port=14222", "--route-port=16222", "--metrics-port=19111").returncode == 0
    first = {file: file.read_bytes() for file in made.rglob("*") if file.is_file()}
    assert run_prepare(deploy, IMAGE).returncode == 0
    assert {file: file.read_bytes() for file in made.rglob("*") if file.is_file()} == first
    assert "127.0.0.1:14224" in (made / "secrets" / "producer.url").read_text()
    assert 'client_address: "127.0.0.1:14223"' in (made / "n2" / "n2.conf").read_text()
    assert 'route_address:  "127.0.0.1:16224"' in (made / "n3" / "n3.conf").read_text()
    assert re.findall(r"127\.0\.0\.1:(\d+)", (made / "n1" / "routes.conf").read_text()) == ["16222", "16223", "16224"]
    metrics = parse((made / "cutor" / "cutor.toml").read_bytes(), "cutor.toml").metrics
    assert (metrics.builder_port, metrics.archiver_port) == (19111, 19114)


def test_a_node_is_healthy_while_it_runs(tmp_path: Path) -> None:
    cluster = DeployedCluster(tmp_path)
    words = ("node", f"{cluster.name(0)}.conf")
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
    config = tmp_path / "cutor.toml"
    config.write_text(f"[metrics]\nrunner_port = {endpoint.server_port}\nbuilder_port = {free_port('127.0.0.1')}\n")
    assert run_health("role", "runner", cwd=tmp_path, config=str(config)).returncode == 0
    monkeypatch.setattr(Answering, "status", 503)
    assert run_health("role", "runner", cwd=tmp_path, config=str(config)).returncode == 1
    assert run_health("role", "builder", cwd=tmp_path, config=str(config)).returncode == 1
