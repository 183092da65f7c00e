"""The page on nixpkgs, as far as it goes without a network: what it makes in Docker, and the configurations that name it."""

from __future__ import annotations

import secrets
from pathlib import Path

from cutor.nix.settings import NixSettings
from tests.docs.snippets import HOW_TO, run, script_of, snippets
from tests.live_stack import surroundings

PAGE = HOW_TO / "nixpkgs.md"


def test_doctor_finds_the_network_and_the_volume_that_it_makes(tmp_path: Path, nix_settings: NixSettings) -> None:
    token = secrets.token_hex(4)
    names = {"cutor-build": f"cutor-test-network-{token}", "my-nixpkgs": f"cutor-test-packages-{token}"}

    def renamed(text: str) -> str:
        for name, own in names.items():
            text = text.replace(name, own)
        return text

    config = tmp_path / "config.toml"
    tables = [one.text.replace("[nix]\n", "") for one in snippets(PAGE, "toml") if "network =" in one.text][:1]
    tables += [one.text.replace("[nix]\n", "") for one in snippets(PAGE, "toml") if "packages_volume" in one.text]
    config.write_text("[nix]\n" + renamed("".join(tables)))
    network, volume = names.values()
    doctor = f"cutor --config '{config}' doctor | grep -E 'network|volume' || true"
    end = f"docker network rm {network} > /dev/null; docker volume rm {volume} > /dev/null"
    done = run(f"{doctor}\necho between\n{renamed(script_of(PAGE))}\n{doctor}\n{end}", surroundings(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    before, _, after = done.stdout.partition("between\n")
    for name in (network, volume):
        assert f"FAIL  volume          {name}" in before or name in before, before
    assert f"ok    volume          {volume}" in after, after
    assert network not in "".join(line for line in after.splitlines() if line.startswith("FAIL")), after
