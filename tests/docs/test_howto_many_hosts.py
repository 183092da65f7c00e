"""The page on many hosts: a binary cache, set up as it says, and two hosts on one machine."""

from __future__ import annotations

import secrets
from pathlib import Path

from cutor.nix.settings import NixSettings
from tests.docs.snippets import MANY_HOSTS, ROOT, run, snippets
from tests.live_stack import surroundings
from tests.stores import section, write_config


def test_a_builder_publishes_what_stands(tmp_path: Path, nix_settings: NixSettings) -> None:
    """The key, the directory, the configuration, a look, and what was built before there was a cache."""
    environment = surroundings(tmp_path)
    config = write_config(Path(environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml", nix_settings)
    _, _, key, directory, look, publish, *_ = [one.text for one in snippets(MANY_HOSTS, "sh")]
    builder, *_ = [one.text.removeprefix("[nix]\n") for one in snippets(MANY_HOSTS, "toml")]
    before = "trap 'cutor down > /dev/null' EXIT; cutor up --detach; cutor env build examples/shell-hook; cutor down"
    configure = f"cat >> '{config}' <<'EOF'\n{builder}EOF\ncutor up --detach"
    script = "\n".join([before, key, directory, configure, look, publish])
    script = script.replace("/etc/cutor/", f"{tmp_path}/").replace("/srv/", f"{tmp_path}/")
    done = run(script, environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "courses-1:" in done.stdout
    assert f"file://{tmp_path}/cutor-cache" in done.stdout, "what doctor says of it"
    assert list((tmp_path / "cutor-cache").glob("*.narinfo")), done.stdout


def test_what_one_host_built_runs_on_the_other(tmp_path: Path, nix_settings: NixSettings) -> None:
    environment = surroundings(tmp_path)
    trial, clean, *_ = [one.text for one in snippets(MANY_HOSTS, "sh")]
    host_a = '[nix]\ncache_url = "volume:trial-cache"\ncache_secret'
    assert host_a in trial
    trial = trial.replace(host_a, f'{section(nix_settings)}cache_url = "volume:trial-cache"\ncache_secret')
    script = f"{trial}\n{clean}".replace("cp -r examples", f"cp -r '{ROOT}/examples'")
    token = secrets.token_hex(4)
    for name in ("host-b-store", "host-b-var", "trial-cache"):
        script = script.replace(name, f"cutor-test-{name}-{token}")
    done = run(f"cd '{tmp_path}'\n{script}", environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "default/trial OK" in done.stdout
    assert "cache-lost" not in done.stdout
    assert "is stopped" in done.stdout
    assert not (tmp_path / "host-b").exists()
