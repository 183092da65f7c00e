"""The page on nixpkgs, as far as it goes without a network: what it makes in Docker, configurations that name it, the hash."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from cutor.nix.settings import NixSettings
from tests.docs.snippets import HOW_TO, run, snippets
from tests.live_stack import surroundings

PAGE = HOW_TO / "nixpkgs.md"
CHECKOUT = """
git init --quiet nixpkgs && echo '{ ... }: { }' > nixpkgs/default.nix && git -C nixpkgs add .
git -C nixpkgs -c user.name=n -c user.email=n@example.org commit --quiet --message first
"""
IN_THE_VOLUME = "docker run --rm --volume my-nixpkgs:/packages:ro --entrypoint cat cutor-child /packages/nixpkgs/default.nix\n"


def test_doctor_finds_the_network_and_the_volume_that_it_makes(tmp_path: Path, nix_settings: NixSettings) -> None:
    token = secrets.token_hex(4)
    names = {"cutor-build": f"cutor-test-network-{token}", "my-nixpkgs": f"cutor-test-packages-{token}"}

    def renamed(text: str) -> str:
        for name, own in names.items():
            text = text.replace(name, own)
        return text

    config, texts = tmp_path / "config.toml", [one.text for one in snippets(PAGE, "toml")]
    [checkout] = [text for text in texts if "packages_volume" in text]
    config.write_text(renamed(checkout + texts[0].removeprefix("[nix]\n")))
    network, volume = names.values()
    *made, undone = [one.text for one in snippets(PAGE, "sh")]
    doctor = f"cutor --config '{config}' doctor | grep -E 'network|volume' || true"
    steps = [doctor, "echo between", CHECKOUT, *made, IN_THE_VOLUME, doctor, "echo afterwards", undone, doctor]
    script = renamed("\n".join([f"cd '{tmp_path}'", *steps]))
    removal = f"docker network rm {network}; docker volume rm {volume}"
    done = run(f"trap '{{ {removal}; }} > /dev/null 2>&1 || true' EXIT\n{script}", surroundings(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    before, _, rest = done.stdout.partition("between\n")
    after, _, undone = rest.partition("afterwards\n")
    for said in (before, undone):
        assert f"FAIL  network         there is no Docker network '{network}' (nix.network)" in said, said
        assert f"FAIL  volume          the Docker volume '{volume}' (nix.packages_volume) is missing" in said, said
    assert "{ ... }: { }\n" in after, "the checkout is where <nixpkgs> is looked for"
    assert f"ok    volume          {volume}" in after, after
    assert network not in "".join(line for line in after.splitlines() if line.startswith("FAIL")), after


def test_the_hash_of_a_tarball_is_told(tmp_path: Path, nix_settings: NixSettings) -> None:
    """One that lies in a volume of packages, in the place of what the page fetches; its hash is the one on the page."""
    volume = f"cutor-test-packages-{secrets.token_hex(4)}"
    [shell] = [one for one in re.findall(r"```nix\n(.*?)```", PAGE.read_text(), re.DOTALL) if "fetchTarball" in one]
    [address] = re.findall(r'"(https://[^"]+)"', shell)
    (tmp_path / "tarball").mkdir()
    (tmp_path / "tarball" / "shell.nix").write_text(shell.replace(address, "file:///packages/nixpkgs.tar.gz"))
    config = tmp_path / "config.toml"
    config.write_text(f'[nix]\npackages_volume = "{volume}"\nallowed_uris = ["file:///packages/"]\n')
    script = f"""
        trap 'cutor down > /dev/null; docker volume rm {volume} > /dev/null' EXIT
        cd '{tmp_path}' && mkdir nixpkgs && echo '{{ ... }}: {{ }}' > nixpkgs/default.nix && tar -czf nixpkgs.tar.gz nixpkgs
        docker volume create --label cutor.packages=none {volume} > /dev/null
        container=$(docker create --volume {volume}:/packages cutor-child true)
        docker cp nixpkgs.tar.gz "$container:/packages/" && docker rm "$container" > /dev/null
        cutor up --detach --config '{config}'
        cutor env test tarball || test $? = 1
    """
    done = run(script, surroundings(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    [shown] = [one for one in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL) if "mismatch" in one]
    told = re.escape(shown.replace(address, "file:///packages/nixpkgs.tar.gz"))
    assert re.search(re.sub(r"(got:(?:\\ )+sha256:)\w+", r"\1\\w{52}", told), done.stdout + done.stderr), (told, done.stdout)
