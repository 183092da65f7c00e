"""The key of an environment: the same for the same inputs, another for any other, on every machine."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from cutor.nix.key import EnvironmentInputs, environment_key, private_key
from cutor.nix.settings import NixSettings

INPUTS = EnvironmentInputs(
    files={"shell.nix": b"{ }", "lib/a.nix": b"1"},
    settings=NixSettings(),
    packages_digest="p1",
    nix_version="2.34.8",
    nix_configuration="c1",
)
TRUST = ("substituters", "trusted_public_keys")
KEY = "1b71be3c1f29a5b42212bb758d975e51802b43487729f2447bd38dccb5b565b2"


def test_the_key_never_changes_by_itself() -> None:
    assert environment_key(INPUTS) == KEY
    assert re.fullmatch(r"[0-9a-f]{64}", KEY)


def test_a_substituter_is_no_key() -> None:
    one, other = (environment_key(replace(INPUTS, settings=NixSettings(**{name: ("k:1",)}))) for name in TRUST)
    assert one != other


def test_the_order_of_files_is_no_input() -> None:
    turned = dict(reversed(list(INPUTS.files.items())))
    assert environment_key(replace(INPUTS, files=turned)) == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"shell.nix": b"{  }", "lib/a.nix": b"1"}},
        {"files": {"shell.nix": b"{ }", "lib/b.nix": b"1"}},
        {"files": {"shell.nix": b"{ }"}},
        {"files": {"shell.nix": b"{ }", "lib/a.nix": b"1", "c": b""}},
        {"files": {"shell.nix": b"{ }lib/a.nix1"}},
        {"packages_digest": "p2"},
        {"packages_digest": "p12", "nix_version": ".34.8"},
        {"nix_version": "2.34.9"},
        {"nix_configuration": "c2"},
        {"nix_version": "2.34.8c", "nix_configuration": "1"},
        {"settings": NixSettings(system="aarch64-linux")},
        {"settings": NixSettings(nix_path="nixpkgs=/elsewhere")},
        {"settings": NixSettings(restrict_eval=False)},
        {"settings": NixSettings(allow_import_from_derivation=False)},
        {"settings": NixSettings(allowed_uris=("https://example.org",))},
        {"settings": NixSettings(cores=1)},
        {"settings": NixSettings(substituters=("https://cache.example.org",))},
        {"settings": NixSettings(trusted_public_keys=("k:1",))},
    ],
)
def test_every_input_counts(change: dict[str, Any]) -> None:
    assert environment_key(replace(INPUTS, **change)) != KEY


@pytest.mark.parametrize(
    "settings",
    [
        NixSettings(image="other:1"),
        NixSettings(store_volume="other"),
        NixSettings(start_timeout_ms=1),
        NixSettings(network="builds", refused_networks=("198.51.100.0/24",)),
        NixSettings(store_bytes=1, min_free_bytes=1, build_directory_bytes=1),
        NixSettings(cache_url="file:///cache", cache_public_keys=("k:1",)),
    ],
)
def test_what_decides_nothing_does_not_count(settings: NixSettings) -> None:
    assert environment_key(replace(INPUTS, settings=settings)) == KEY


def test_a_private_key_belongs_to_one_lease() -> None:
    keys = {
        KEY,
        private_key(KEY, "token-a"),
        private_key(KEY, "token-b"),
        private_key(environment_key(INPUTS), "token-a"),
    }
    assert len(keys) == 3
    assert re.fullmatch(r"[0-9a-f]{64}", private_key(KEY, "token-a"))
