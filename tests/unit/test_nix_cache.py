"""Settings of the binary cache: what they mean together, and what is said of those that can't work; keys and their file."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from cutor.config import InvalidConfig, parse
from cutor.model.errors import InvalidPolicy
from cutor.nix.cache import CachePlace, place_of, public_half, public_key_name
from cutor.nix.secret_key import SecretKeyUnusable, read_secret_key
from cutor.nix.settings import NixSettings, check_cache, download_from, upload_to

PAIR = bytes(range(64))
SECRET = f"cache-1:{base64.b64encode(PAIR).decode()}"
PUBLIC = f"cache-1:{base64.b64encode(PAIR[32:]).decode()}"


def settings(**more: Any) -> NixSettings:
    return NixSettings(**more)


def test_without_settings_there_is_no_cache() -> None:
    check_cache(settings())
    assert download_from(settings()) is None
    assert upload_to(settings()) is None


def test_a_runner_needs_keys_to_trust_and_a_builder_one_to_sign_with() -> None:
    runner = settings(cache_url="http://cache:8080/nix", cache_public_keys=(PUBLIC,), cache_network="caches")
    builder = settings(cache_url="volume:shared", cache_secret_key_file="/etc/cutor/key")
    for one in (runner, builder):
        check_cache(one)
    assert download_from(runner) == CachePlace("http://cache:8080/nix", None, "", "caches")
    assert upload_to(runner) is None
    assert upload_to(builder) == CachePlace("file:///cache", "volume", "shared", "none")
    assert download_from(builder) is None


def test_a_builder_may_publish_elsewhere_than_runners_fetch() -> None:
    both = settings(
        cache_url="https://cache.example.org",
        cache_upload_url="file:///srv/cache",
        cache_secret_key_file="/key",
        cache_public_keys=(PUBLIC,),
        cache_network="web",
    )
    check_cache(both)
    assert download_from(both) == CachePlace("https://cache.example.org", None, "", "web")
    assert upload_to(both) == CachePlace("file:///cache", "directory", "/srv/cache", "none")


KEYS: dict[str, Any] = {"cache_public_keys": (PUBLIC,)}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cache_url": "s3://bucket", **KEYS}, "nix.cache_url is 's3://bucket': it must be volume:NAME"),
        ({"cache_url": "/srv/cache", **KEYS}, "nix.cache_url is '/srv/cache': it must be volume:NAME"),
        ({"cache_url": "file://host/srv", **KEYS}, "it must be volume:NAME"),
        ({"cache_url": "file:///", **KEYS}, "must be another than /"),
        ({"cache_url": "file:///srv/../etc", **KEYS}, "no .. in it"),
        ({"cache_url": "file:///srv/..", **KEYS}, "no .. in it"),
        ({"cache_url": "file:///srv?secret-key=/x", **KEYS}, "it must be volume:NAME"),
        ({"cache_url": "volume:../x", **KEYS}, "it must be volume:NAME"),
        ({"cache_url": "http://h:99999/", "cache_network": "n", **KEYS}, "it must be volume:NAME"),
        ({"cache_url": "http:///x", "cache_network": "n", **KEYS}, "it must be volume:NAME"),
        ({"cache_url": "http://h/a b", "cache_network": "n", **KEYS}, "it must be volume:NAME"),
        ({"cache_url": "http://[::1", "cache_network": "n", **KEYS}, "it must be volume:NAME"),
        ({"cache_url": "http://h/?compression=none", "cache_network": "n", **KEYS}, "it must have no ?"),
        ({"cache_url": "http://u:p@h/", "cache_network": "n", **KEYS}, "nix.cache_url holds a user name"),
        ({"cache_url": "http://h/", **KEYS}, "nix.cache_network must name the Docker network"),
        ({"cache_url": "volume:v"}, "nix.cache_url needs nix.cache_public_keys"),
        ({"cache_url": "volume:v", "cache_public_keys": ("cache-1",)}, "nix.cache_public_keys holds 'cache-1'"),
        ({"cache_url": "volume:v", "cache_public_keys": (SECRET,)}, "nix.cache_public_keys holds 'cache-1'…"),
        ({"cache_url": "volume:v", "cache_public_keys": ("a:b=c",)}, "nix.cache_public_keys holds"),
        ({"cache_public_keys": (PUBLIC,)}, "nix.cache_public_keys has no use without nix.cache_url"),
        (
            {"cache_url": "volume:v", "cache_secret_key_file": "key"},
            "nix.cache_secret_key_file is 'key': it must be an absolute",
        ),
        ({"cache_secret_key_file": "/key"}, "nix.cache_secret_key_file has no use without"),
        ({"cache_upload_url": "volume:v"}, "nix.cache_upload_url has no use without nix.cache_secret_key_file"),
        ({"cache_upload_url": "ftp://x", "cache_secret_key_file": "/key"}, "nix.cache_upload_url is 'ftp://x'"),
    ],
)
def test_what_cannot_work_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        check_cache(settings(**wrong))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_secret_key_among_public_ones_is_not_repeated() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        check_cache(settings(cache_url="volume:v", cache_public_keys=(SECRET,)))
    assert SECRET.partition(":")[2] not in str(caught.value)


def test_the_file_of_the_configuration_is_named() -> None:
    with pytest.raises(InvalidConfig, match=r"^c\.toml: nix\.cache_url is"):
        parse(b'[nix]\ncache_url = "http://h/"\ncache_public_keys = ["%s"]' % PUBLIC.encode(), "c.toml")
    with pytest.raises(InvalidConfig, match=r"nix\.cache_timeout_ms"):
        parse(b"[nix]\ncache_timeout_ms = 0", "c.toml")


def test_a_place_says_what_is_mounted() -> None:
    assert place_of("x", "file:///srv/cache-1/", "n").source == "/srv/cache-1/"


def test_a_public_key_is_half_of_a_secret_one() -> None:
    assert public_half(SECRET) == PUBLIC
    assert public_key_name(PUBLIC) == "cache-1"
    for other in (PUBLIC, "", "x", "x:" + "A" * 400):
        with pytest.raises(ValueError, match="no secret key"):
            public_half(other)


def key_file(directory: Path, content: str, mode: int = 0o600) -> str:
    file = directory / "key"
    file.write_text(content)
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize("content", [SECRET, f"{SECRET}\n"])
def test_a_key_is_read_from_its_file(tmp_path: Path, content: str) -> None:
    assert read_secret_key(key_file(tmp_path, content)) == SECRET


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (SECRET, 0o640, "others have access to"),
        (SECRET, 0o604, "chmod 0600"),
        (PUBLIC, 0o600, "holds no secret key of Nix's"),
        ("", 0o600, "holds no secret key of Nix's"),
        ("\xff" * 100_000, 0o600, "holds no secret key of Nix's"),
    ],
)
def test_a_file_that_is_no_key_is_refused_without_its_content(tmp_path: Path, content: str, mode: int, said: str) -> None:
    file = key_file(tmp_path, content, mode)
    with pytest.raises(SecretKeyUnusable, match=r"nix\.cache_secret_key_file") as caught:
        read_secret_key(file)
    assert said in str(caught.value)
    assert file in str(caught.value)
    assert base64.b64encode(PAIR).decode() not in str(caught.value)


def test_no_file_and_no_regular_one(tmp_path: Path) -> None:
    with pytest.raises(SecretKeyUnusable, match=r"No such file or directory.*cutor env cache-key"):
        read_secret_key(str(tmp_path / "nowhere"))
    with pytest.raises(SecretKeyUnusable, match="can't be read"):
        read_secret_key(str(tmp_path))
    with pytest.raises(SecretKeyUnusable, match="is no regular file"):
        read_secret_key(os.devnull)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SecretKeyUnusable, match="is no regular file"):
        read_secret_key(str(tmp_path / "pipe"))
