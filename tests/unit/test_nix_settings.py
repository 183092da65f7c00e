"""Settings of environment builds, and which versions of Nix are safe."""

import msgspec
import pytest

from cutor.model.errors import InvalidPolicy
from cutor.nix.settings import (
    NixSettings,
    check_settings,
    daemon_configuration,
    evaluation_options,
    nix_version,
    nix_version_ok,
)


def test_the_defaults_are_valid() -> None:
    check_settings(NixSettings())
    check_settings(NixSettings(store_volume="a-store", var_volume="a-database"))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"sandbox": False}, NixSettings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (NixSettings(image=""), r"nix\.image is ''"),
        (NixSettings(store_volume="/etc"), r"nix\.store_volume is '/etc'"),
        (NixSettings(network="a b"), r"nix\.network"),
        (NixSettings(network="host"), r"nix\.network is 'host': it must be the name of a Docker network, or none"),
        (NixSettings(network="container:cutor-x"), r"nix\.network is 'container:cutor-x'"),
        (NixSettings(network=""), r"nix\.network is ''"),
        (NixSettings(refused_networks=("198.51.100.1/24",)), r"nix\.refused_networks: 198\.51\.100\.1/24 has host bits"),
        (NixSettings(refused_networks=("example.org",)), r"nix\.refused_networks: 'example\.org' does not appear to be"),
        (NixSettings(system="linux"), r"nix\.system is 'linux': it must look like x86_64-linux"),
        (NixSettings(nix_path="nixpkgs=/a b"), r"without spaces"),
        (NixSettings(allowed_uris=("https://a\n",)), r"plain text"),
        (NixSettings(substituters=("https://a\nsandbox = false",)), r"plain text"),
        (
            NixSettings(store_volume="mine"),
            r"nix\.store_volume is 'mine' .* go together, each in a volume of its own",
        ),
        (NixSettings(var_volume="mine"), r"nix\.var_volume 'mine': a store and its database go together"),
        (NixSettings(store_volume="mine", var_volume="mine"), r"each in a volume of its own"),
        (NixSettings(cores=0), r"nix\.cores must be positive, found 0"),
        (NixSettings(start_timeout_ms=-1), r"nix\.start_timeout_ms"),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: NixSettings, message: str) -> None:
    with pytest.raises(InvalidPolicy, match=message):
        check_settings(settings)


def test_options_say_what_the_settings_say() -> None:
    options = evaluation_options(NixSettings(restrict_eval=False, allowed_uris=("https://a/", "https://b/")))
    pairs = dict(zip(options[1::3], options[2::3], strict=False))
    assert pairs["restrict-eval"] == "false"
    assert pairs["allow-import-from-derivation"] == "true"
    assert pairs["allowed-uris"] == "https://a/ https://b/"
    assert pairs["eval-system"] == "x86_64-linux"


def test_the_daemon_is_told_of_substituters_and_processors() -> None:
    settings = NixSettings(cores=3, substituters=("https://a", "https://b"), trusted_public_keys=("k:1",))
    assert daemon_configuration(settings).splitlines() == [
        "cores = 3",
        "max-jobs = 3",
        "substituters = https://a https://b",
        "trusted-public-keys = k:1",
    ]


@pytest.mark.parametrize(
    ("text", "version", "ok"),
    [
        ("nix (Nix) 2.34.8\n", (2, 34, 8), True),
        ("nix (Nix) 2.34.5", (2, 34, 5), True),
        ("nix (Nix) 2.35.0pre20260101_abcdef", (2, 35, 0), True),
        ("nix (Nix) 3.0", (3, 0, 0), True),
        ("2.34.8", (2, 34, 8), True),
        ("nix (Nix) 2.34.4", (2, 34, 4), False),
        ("nix (Nix) 2.34", (2, 34, 0), False),
        ("nix (Nix) 2.8.0", (2, 8, 0), False),
        ("bash: nix: command not found", None, False),
        ("", None, False),
    ],
)
def test_versions(text: str, version: tuple[int, int, int] | None, ok: bool) -> None:
    assert nix_version(text) == version
    assert nix_version_ok(text) is ok
