"""The binary cache on the command line: a key pair made, and what ``cutor doctor`` finds of keys and places."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cutor.nix.cache import public_half
from tests.bare_stack import User, one_line
from tests.child_image import IMAGE
from tests.integration.test_cache_copies import open_directory

pytestmark = pytest.mark.usefixtures("nix_set_up")


@pytest.fixture
def keys(tmp_path: Path, user: User) -> tuple[Path, str]:
    """A secret key's file, and the public key."""
    file = tmp_path / "key"
    made = user.cutor("env", "cache-key", "cache-1", str(file), CUTOR_CONFIG=str(config(user, "")))
    assert made.returncode == 0, made.stderr
    return file, made.stdout.strip()


def config(user: User, nix: str) -> Path:
    file = user.home / "config.toml"
    file.write_text(f'[docker]\nimage = "{IMAGE}"\n[nix]\n{nix}')
    return file


def doctor(user: User, nix: str) -> dict[str, list[dict[str, Any]]]:
    """What doctor says of the cache under some settings, by what it is about."""
    said = user.cutor("doctor", "--json", CUTOR_CONFIG=str(config(user, nix)))
    found: dict[str, list[dict[str, Any]]] = {"binary cache": [], "cache key": []}
    for finding in json.loads(said.stdout):
        found.setdefault(finding["what"], []).append(finding)
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return open_directory(tmp_path / "cache")


def test_a_key_pair_is_made_once_and_never_overwritten(user: User, keys: tuple[Path, str], tmp_path: Path) -> None:
    file, public = keys
    secret = file.read_text()
    assert file.stat().st_mode & 0o7777 == 0o600
    assert public_half(secret.strip()) == public
    assert secret.strip() not in public
    assert "is there already" in one_line(user.cutor("env", "cache-key", "cache-1", str(file)), 2)
    assert file.read_text() == secret
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "is there already" in one_line(user.cutor("env", "cache-key", "cache-1", str(tmp_path / "link")), 2)
    assert not (tmp_path / "elsewhere").exists()
    assert "make it first" in one_line(user.cutor("env", "cache-key", "cache-1", str(tmp_path / "no" / "key")), 2)
    assert "no name of a key" in one_line(user.cutor("env", "cache-key", "a:b", str(tmp_path / "other")), 2)
    assert not (tmp_path / "other").exists()


def test_doctor_finds_a_cache_as_it_should_be(user: User, keys: tuple[Path, str], directory: Path) -> None:
    file, public = keys
    found = doctor(
        user, f'cache_url = "file://{directory}"\ncache_secret_key_file = "{file}"\ncache_public_keys = ["{public}"]'
    )
    assert [one["verdict"] for one in found["cache key"] + found["binary cache"]] == ["ok"] * 3
    assert public in found["cache key"][0]["detail"]
    assert f"what is signed by {public}" in found["binary cache"][1]["detail"], "the whole key: it may have the right name"
    assert list(directory.iterdir()) == [], "nothing is changed"
    (none,) = doctor(user, "")["binary cache"]
    assert (none["verdict"], none["detail"].partition(":")[0]) == ("ok", "none")


def test_doctor_finds_what_is_wrong_with_a_cache(user: User, keys: tuple[Path, str], directory: Path) -> None:
    file, public = keys
    secret = file.read_text().strip()
    other = public[:-4] + "AAA="
    settings = f'cache_url = "file://{directory}/gone"\ncache_secret_key_file = "{file}"\ncache_public_keys = ["{other}"]'
    found = doctor(user, settings)
    assert [one["verdict"] for one in found["cache key"]] == ["warn"]
    assert public in found["cache key"][0]["detail"]
    assert [one["verdict"] for one in found["binary cache"]] == ["fail", "fail"]
    assert all("install -d" in one["remedy"] for one in found["binary cache"])
    file.chmod(0o644)
    found = doctor(user, settings)
    assert [one["verdict"] for one in found["cache key"]] == ["fail"]
    assert f"chmod 0600 {file}" in found["cache key"][0]["detail"]
    assert secret.partition(":")[2] not in json.dumps(found)
    (reach,) = doctor(user, f'cache_url = "http://127.0.0.1:9"\ncache_network = "bridge"\ncache_public_keys = ["{public}"]')[
        "binary cache"
    ]
    assert (reach["verdict"], "cache_network" in reach["remedy"]) == ("fail", True)
    (volume,) = doctor(user, f'cache_url = "volume:cutor-test-nowhere-{os.getpid()}"\ncache_public_keys = ["{public}"]')[
        "binary cache"
    ]
    assert (volume["verdict"], "no such volume yet" in volume["detail"]) == ("warn", True)


def test_doctor_finds_a_key_that_has_the_right_name_alone(user: User, keys: tuple[Path, str], directory: Path) -> None:
    _, public = keys
    digest, path = "0" * 52, f"/nix/store/{'0' * 32}-made"
    told = (
        *(f"StorePath: {path}", f"URL: nar/{digest}.nar", "Compression: none", f"NarHash: sha256:{digest}", "NarSize: 1"),
        f"Sig: cache-1:{base64.b64encode(bytes(64)).decode()}",
    )
    (directory / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    (directory / f"{'0' * 32}.narinfo").write_text("".join(f"{line}\n" for line in told))
    (found,) = doctor(user, f'cache_url = "file://{directory}"\ncache_public_keys = ["{public}"]')["binary cache"]
    assert found["verdict"] == "fail"
    assert "none of the 1 store paths that were looked at is signed by a trusted key" in found["detail"]
    assert "nix.cache_public_keys" in found["remedy"]


def test_a_configuration_that_cannot_work_is_one_line(user: User) -> None:
    said = one_line(user.cutor("env", "cache-key", "a", "b", CUTOR_CONFIG=str(config(user, 'cache_url = "/srv"'))), 2)
    assert "nix.cache_url is '/srv': it must be volume:NAME" in said
