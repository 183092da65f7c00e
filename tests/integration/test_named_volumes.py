"""Volumes and networks that a configuration names: a store of one's own needs no set-up, somebody else's volume is refused."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiodocker import Docker

from cutor.containers.engine import Engine
from cutor.nix.settings import NixSettings
from tests.bare_stack import User, bare_stack, one_line
from tests.live_stack import Stack
from tests.stores import builder_container, own_volumes, remove_store, run_in_store, section

pytestmark = pytest.mark.usefixtures("nix_set_up")

PATIENCE_S: Final = 180.0
SHELL: Final = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"


@pytest.fixture
def named() -> Iterator[NixSettings]:
    """Volumes that are not there; those that a test has made by its end are removed."""
    settings = own_volumes("named-")
    yield settings
    asyncio.run(remove_store(settings))


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack to which nobody submits, for roles by themselves: what they found there they would build into the store."""
    with bare_stack(tmp_path_factory.mktemp("unused")) as user:
        yield user


def config(user: User, settings: NixSettings, **nix: str) -> str:
    file = user.home / "c.toml"
    file.write_text(section(settings, **nix))
    return str(file)


def findings(user: User, config: str, what: str) -> list[dict[str, Any]]:
    said = json.loads(user.cutor("doctor", "--json", "--config", config).stdout)
    return [finding for finding in said if finding["what"] == what]


def verdicts(user: User, config: str) -> list[str]:
    return [finding["verdict"] for finding in findings(user, config, "volume")]


def volume(name: str) -> dict[str, str] | None:
    async def look() -> dict[str, str] | None:
        async with Engine.connect() as engine:
            return await engine.volume_labels(name)

    return asyncio.run(look())


def make_volume(name: str) -> None:
    """As `docker volume create` does."""

    async def make() -> None:
        async with Docker() as docker:
            await docker.volumes.create({"Name": name})

    asyncio.run(make())


def put_something_into(settings: NixSettings) -> None:
    """Have something of root's in the volume of the store; Docker makes both volumes."""

    async def put() -> None:
        spec = builder_container(["/usr/bin/bash", "-euc", "echo precious > /nix/store/theirs"], settings)
        async with Engine.connect() as engine:
            child = await engine.start(spec)
            while await child.receive():
                pass
            assert (await child.state()).exit_code == 0, child.stderr_tail
            await child.remove()

    asyncio.run(put())


def owner(settings: NixSettings) -> str:
    async def look() -> str:
        async with Engine.connect() as engine:
            return await run_in_store(engine, "stat -c %u /nix/store; ls /nix/store", settings)

    return asyncio.run(look())


def test_a_store_that_is_named_is_made_and_builds(named: NixSettings, user: User) -> None:
    make_volume(named.store_volume)  # by hand, as root's; that of the database is made by `up`
    file = config(user, named)
    (missing, packages) = findings(user, file, "volume")
    assert (missing["verdict"], packages["verdict"]) == ("warn", "ok")
    assert f"{named.var_volume} (nix.var_volume) is not there yet" in missing["detail"]
    assert volume(named.var_volume) is None, "who looks makes nothing"
    started = user.up("--config", file, roles=["builder", "runner", "projector"])
    assert started.returncode == 0, started.stderr
    said = next(user.stack.data.rglob("supervisor.log")).read_text()
    assert f"made the Docker volume {named.var_volume} (nix.var_volume)" in said
    assert f"made the Docker volume {named.store_volume}" not in said
    assert verdicts(user, file) == ["ok", "ok", "ok"]
    shell = user.home / "shell.nix"
    shell.write_text(SHELL)
    built = user.cutor("env", "build", str(shell), "--json")
    assert built.returncode == 0, (built.stdout, built.stderr)


def test_a_volume_that_holds_somebodys_things_is_refused_and_left_alone(named: NixSettings, user: User) -> None:
    put_something_into(named)
    file = config(user, named)
    line = one_line(user.up("--config", file, roles=["builder"]), 3)
    assert f"the Docker volume {named.store_volume!r} (nix.store_volume) holds something" in line
    assert "name another one" in line
    assert owner(named).split() == ["0", "theirs"]
    found = findings(user, file, "volume")
    assert found[0]["verdict"] == "fail"
    assert "holds something" in found[0]["detail"]


def test_a_volume_that_is_nobodys_yet_is_told_of_and_looked_at_alone(named: NixSettings, user: User) -> None:
    make_volume(named.store_volume)
    make_volume(named.var_volume)
    file = config(user, named)
    first, second, _ = findings(user, file, "volume")
    assert "is empty, and not the store's yet" in first["detail"]
    assert first["verdict"] == second["verdict"] == "warn"
    assert owner(named).split() == ["0"]


def test_a_directory_of_a_cache_and_a_key_that_are_missing_are_told_of_at_the_start(
    unused: User, nix_settings: NixSettings, user: User
) -> None:
    there, gone = user.home / "closed", user.home / "gone"
    there.mkdir(0o700)
    remedy = f"on the host of this Docker Engine: `install -d -m 755 -o 200000 -g 200000 {gone}`"
    keys = ["courses-1:etpt38ZrpRWvJQ/PNaeAFaqCaSzbUB9SUEVJitf30Y0="]
    nix: dict[str, Any] = {
        "cache_url": f"file://{gone}",
        "cache_public_keys": keys,
        "cache_secret_key_file": str(user.home / "key"),
    }
    file = user.home / "c.toml"
    file.write_text(section(nix_settings, **nix))
    started = user.up("--config", str(file), roles=["builder", "runner"])
    assert started.returncode == 0, started.stderr
    key, directory = [
        line for line in started.stderr.splitlines() if line.startswith("warning: the binary cache can't be used")
    ]
    assert "`cutor env cache-key NAME " in key
    assert directory.endswith(f": there is no directory {gone}: {remedy}")
    assert directory in next(user.stack.data.rglob("supervisor.log")).read_text()
    assert {found["remedy"] for found in findings(user, str(file), "binary cache")} == {remedy}
    assert {found["detail"].partition(", which fails: ")[2] for found in findings(user, str(file), "binary cache")} == {
        f"there is no directory {gone}"
    }
    file.write_text(section(nix_settings, **nix | {"cache_url": f"file://{there}"}))
    role = by_itself(unused, user, str(file))
    try:
        wait_for(user.home / "log", "the builder is ready")
    finally:
        role.terminate()
        assert role.wait(PATIENCE_S) == 0
    assert (
        f"uid 200000 of the host, the owner of the store, has no access to it: {remedy.replace('gone', 'closed')}"
        in (user.home / "log").read_text()
    )


def by_itself(unused: User, user: User, file: str) -> subprocess.Popen[bytes]:
    environment = Stack(user.stack.data, user.stack.environment).environment | {"CUTOR_SERVER": unused.stack.server}
    command = [sys.executable, "-m", "cutor", "builder", "--config", file, "--data", str(user.home / "role")]
    with (user.home / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def test_a_builder_by_itself_makes_its_store_or_refuses_it(unused: User, named: NixSettings, user: User) -> None:
    role = by_itself(unused, user, config(user, named))
    try:
        wait_for(user.home / "log", "the builder is ready")
    finally:
        role.terminate()
        assert role.wait(PATIENCE_S) == 0
    assert f"made the Docker volume {named.store_volume} (nix.store_volume)" in (user.home / "log").read_text()
    assert owner(named).split() == ["200000"]
    asyncio.run(remove_store(named))
    put_something_into(named)
    assert by_itself(unused, user, config(user, named)).wait(PATIENCE_S) == 3
    last = (user.home / "log").read_text().splitlines()[-1]
    assert last.startswith(f"cutor: the Docker volume {named.store_volume!r}")


def wait_for(file: Path, text: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while text not in file.read_text():
        assert time.monotonic() < until, file.read_text()
        time.sleep(0.1)


def test_a_package_set_that_is_missing_is_not_for_set_up_to_make(named: NixSettings, user: User) -> None:
    file = config(user, named, packages_volume="cutor-no-such-set")
    line = one_line(user.up("--config", file, roles=["builder"]), 3)
    assert "'cutor-no-such-set' (nix.packages_volume) is missing" in line
    assert "docs/how-to/nixpkgs.md" in line
    assert "make setup" not in line
    (told,) = [one for one in findings(user, file, "volume") if one["verdict"] == "fail"]
    assert told["detail"] in line
    assert volume(named.store_volume) is volume("cutor-no-such-set") is None, "nothing was made on the way"


def test_a_network_that_is_missing_is_told_before_the_first_build(named: NixSettings, user: User) -> None:
    network = f"cutor-test-no-such-{secrets.token_hex(4)}"
    file = config(user, named, network=network)
    line = one_line(user.up("--config", file, roles=["builder"]), 3)
    assert f"there is no Docker network {network!r} (nix.network)" in line
    assert f"docker network create {network}" in line
    (told,) = findings(user, file, "network")
    assert (told["verdict"], told["detail"]) == ("fail", f"there is no Docker network {network!r} (nix.network)")
    started = user.up("--config", file, roles=["runner"])
    assert started.returncode == 0, "no build is made there"


def test_the_network_of_a_cache_is_looked_for_too(named: NixSettings, user: User) -> None:
    network = f"cutor-test-no-such-{secrets.token_hex(4)}"
    keys = ["courses-1:etpt38ZrpRWvJQ/PNaeAFaqCaSzbUB9SUEVJitf30Y0="]
    file = user.home / "c.toml"
    file.write_text(section(named, cache_url="http://cache.example.org", cache_network=network, cache_public_keys=keys))
    line = one_line(user.up("--config", str(file), roles=["runner"]), 3)
    assert f"there is no Docker network {network!r} (nix.cache_network)" in line
    assert findings(user, str(file), "network")[0]["verdict"] == "fail"
