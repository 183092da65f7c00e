#!/usr/bin/env python3
"""Makes what compose.yaml needs and no repository may hold, into `made` beside this file: docs/how-to/compose.md.

Credentials and certificates are made where there are none, by deploy/nats/cluster/make-secrets. The rest is written anew:
to be run again after a change of cutor.toml or of the nodes. `made` is closed to other users of the machine.
What is in it for a service can be read by whoever has it mounted, because a service's user is none of this machine.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit("prepare.py: Python 3.11 or newer is needed")

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP))
from cutor.containers.seccomp import container_profile  # noqa: E402 - of this checkout, which need not be installed

CLUSTER = HERE.parent / "nats" / "cluster"
MADE = HERE / "made"
SECRETS = MADE / "secrets"
SETTINGS = HERE / ".env"
SYSTEM_CALLS = MADE / "projector" / "system-calls.json"
"""What the projector may call: with Docker's own profile, the processes that answer questions could not be shut in."""
SOCKET = Path("/var/run/docker.sock")
NODES = ("n1", "n2", "n3")
ROLES = ("builder", "runner", "projector", "archiver")
IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", re.ASCII)
LAST_PORT = 65535
STANDARD_PORTS = {"CUTOR_CLIENT_PORT": "4222", "CUTOR_ROUTE_PORT": "6222"}


def fail(message: str) -> NoReturn:
    """End with one line."""
    print(f"prepare.py: {message}", file=sys.stderr)
    sys.exit(2)


def settings() -> dict[str, str]:
    """What an earlier run noted for compose."""
    lines = SETTINGS.read_text().splitlines() if SETTINGS.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def options() -> argparse.Namespace:
    """What is asked for. Ports are remembered from run to run."""
    try:
        noted = {name: int(port) for name, port in (STANDARD_PORTS | settings()).items() if name.endswith("_PORT")}
    except ValueError as error:
        fail(f"{SETTINGS}: a port is no number ({error}): mend the line, or remove the file, which is written anew")
    parser = argparse.ArgumentParser(prog="prepare.py", description="Makes what compose.yaml needs, into deploy/compose/made.")
    parser.add_argument("image", nargs="?", help="the child image; else the one of `make setup` in this checkout")
    first = "the first of three ports on 127.0.0.1, for"
    parser.add_argument("--client-port", type=int, default=noted["CUTOR_CLIENT_PORT"], help=f"{first} clients: %(default)s")
    parser.add_argument(
        "--route-port", type=int, default=noted["CUTOR_ROUTE_PORT"], help=f"{first} the other nodes: %(default)s"
    )
    metrics = "the first of four ports, for metrics; else those of cutor.toml"
    parser.add_argument("--metrics-port", type=int, default=noted.get("CUTOR_METRICS_PORT"), help=metrics)
    given = parser.parse_args()
    for name, count in (("client_port", 3), ("route_port", 3), ("metrics_port", 4)):
        port = getattr(given, name)
        if port is not None and not 0 < port <= LAST_PORT - count + 1:
            fail(f"--{name.replace('_', '-')} {port}: {count} ports from there have to be within 1 to {LAST_PORT}")
    return given


def child_image(asked: str | None) -> str:
    """The name of the child image: what is asked for, or what set-up noted."""
    note = TOP / ".setup" / "child-image"
    name = asked or (note.read_text().strip() if note.exists() else "")
    if not name:
        fail("no child image yet: run `make setup` first, or name one: ./prepare.py IMAGE")
    if not IMAGE_NAME.fullmatch(name):
        fail(f"{name!r} is no name of an image")
    return name


def replaced(text: str, pattern: str, line: str, file: Path) -> str:
    """`text` with the one line that `pattern` matches replaced."""
    new, count = re.subn(f"^{pattern}$", lambda _found: line, text, flags=re.MULTILINE)
    if count != 1:
        fail(f"{file} has {count} lines that match {pattern}: one is needed")
    return new


def write(path: Path, text: str) -> None:
    """Write a file for a service: it can be read by any user who is let into `made`, and that is a service."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o644)


def make_secrets(client_port: int) -> None:
    """Passwords, certificates and addresses, where there are none."""
    nodes = [f"{name}=127.0.0.1:{client_port + number},localhost" for number, name in enumerate(NODES)]
    done = subprocess.run([CLUSTER / "make-secrets", SECRETS, *nodes], check=False, capture_output=True, text=True)
    if done.returncode:
        fail(done.stderr.strip() or f"make-secrets ended with {done.returncode}")


def routes_to(ports: list[int]) -> str:
    """The file of routes, with those of this machine."""
    file = CLUSTER / "routes.conf"
    routes = "".join(f'  "nats-route://127.0.0.1:{port}",\n' for port in ports)
    text, count = re.subn(r"^routes: \[[^\]]*\]", f"routes: [\n{routes}]", file.read_text(), flags=re.MULTILINE)
    if count != 1:
        fail(f"{file} has no routes: [...]")
    return text


def make_node(name: str, client_port: int, route_ports: list[int], own_route: int) -> None:
    """All that one node reads: its configuration, its own key, and no other node's."""
    directory = MADE / name
    shutil.rmtree(directory, ignore_errors=True)
    own = CLUSTER / f"{name}.conf"
    text = replaced(own.read_text(), "client_address:.*", f'client_address: "127.0.0.1:{client_port}"', own)
    text = replaced(text, "route_address:.*", f'route_address:  "127.0.0.1:{own_route}"', own)
    text = replaced(text, "store:.*", 'store:          "/var/lib/cutor/nats"', own)
    write(directory / own.name, text)
    for shared in CLUSTER.glob("*.conf"):
        if shared.stem not in NODES and shared.name != "routes.conf":
            write(directory / shared.name, shared.read_text())
    write(directory / "routes.conf", routes_to(route_ports))
    for secret in ("ca.pem", f"{name}.pem", f"{name}.key", "passwords.conf"):
        write(directory / "secrets" / secret, (SECRETS / secret).read_text())


def configuration(image: str, metrics_port: int | None) -> tuple[str, dict[str, Any]]:
    """What all roles read, as text and as values."""
    template = HERE / "cutor.toml"
    text = template.read_text().replace('"CHILD_IMAGE"', f'"{image}"')
    for number, role in enumerate(ROLES if metrics_port is not None else ()):
        text = replaced(text, f"{role}_port *=.*", f"{role}_port = {(metrics_port or 0) + number}", template)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        fail(f"{template}: {error}")
    for role in ROLES:
        if not isinstance(values.get("metrics", {}).get(f"{role}_port"), int):
            fail(f"{template}: [metrics] has no {role}_port, at which compose.yaml asks whether the role works")
    return text, values


def check_ports(*groups: list[int]) -> None:
    """Fail where two services would have one port."""
    if len({port for group in groups for port in group}) < sum(map(len, groups)):
        fail(f"two of the ports {', '.join(f'{group[0]} to {group[-1]}' for group in groups)} are one")


def make_credentials() -> None:
    """For each user of the cluster a file with CUTOR_SERVER, which compose reads: for its owner alone."""
    for url in SECRETS.glob("*.url"):
        (MADE / f"{url.stem}.env").write_text(f"CUTOR_SERVER={url.read_text()}")


def note_settings(given: argparse.Namespace) -> None:
    """What compose.yaml has variables for, where compose looks for them."""
    if not SOCKET.is_socket():
        fail(f"{SOCKET} is missing: builder and runner need the Docker Engine of this machine there")
    if SOCKET.stat().st_mode & 0o060 != 0o060:
        fail(f"{SOCKET} is closed to its group, which the builder is in: chgrp it to one that may use Docker, and chmod g+rw")
    base = TOP / ".setup" / "compose-base"
    lines = [
        "# Written by prepare.py. A variable of the shell wins over its line here.",
        f"DOCKER_GID={SOCKET.stat().st_gid}",
        f"CUTOR_SYSTEM_CALLS={SYSTEM_CALLS}",
        f"CUTOR_CLIENT_PORT={given.client_port}",
        f"CUTOR_ROUTE_PORT={given.route_port}",
        *([f"CUTOR_METRICS_PORT={given.metrics_port}"] if given.metrics_port is not None else []),
        *([f"CUTOR_BASE={base.read_text().strip()}"] if base.exists() else []),
    ]
    SETTINGS.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Make all of it, and say where it is."""
    os.umask(0o077)
    given = options()
    text, values = configuration(child_image(given.image), given.metrics_port)
    client_ports, route_ports = (
        [first + number for number in range(len(NODES))] for first in (given.client_port, given.route_port)
    )
    check_ports(client_ports, route_ports, [values["metrics"][f"{role}_port"] for role in ROLES])
    MADE.mkdir(mode=0o700, exist_ok=True)
    MADE.chmod(0o700)
    make_secrets(given.client_port)
    for name, client_port, own_route in zip(NODES, client_ports, route_ports, strict=True):
        make_node(name, client_port, route_ports, own_route)
    write(MADE / "cutor" / "cutor.toml", text)
    write(MADE / "cutor" / "ca.pem", (SECRETS / "ca.pem").read_text())
    write(SYSTEM_CALLS, container_profile())
    make_credentials()
    note_settings(given)
    print(f"child image: {values.get('docker', {}).get('image')}\nconfiguration and credentials are in {MADE}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(str(error))
