"""The page on tenants: what it declares is what the stack serves."""

from __future__ import annotations

from pathlib import Path

from cutor.nix.settings import NixSettings
from tests.docs.snippets import HOW_TO, run, script_of, snippets
from tests.live_stack import surroundings
from tests.stores import write_config


def test_tenants_are_declared_and_served(tmp_path: Path, nix_settings: NixSettings) -> None:
    environment = surroundings(tmp_path)
    config = write_config(Path(environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml", nix_settings)
    declared, _ = snippets(HOW_TO / "tenants.md", "toml")
    before = "cutor up --detach"
    declare = f"printf '%s' \"$DECLARED\" >> '{config}'"
    refused = "cutor submit examples/python-three-tests && exit 1 || test $? = 2"
    script = f"trap 'cutor down > /dev/null' EXIT\n{before}\n{declare}\n{script_of(HOW_TO / 'tenants.md')}\n{refused}"
    done = run(script, environment | {"DECLARED": declared.text})
    assert done.returncode == 0, (done.stdout, done.stderr)
    for said in ("interactive/", " OK", "streams and consumers as wanted"):
        assert said in done.stdout, (said, done.stdout)
    assert "tenant" in done.stderr
