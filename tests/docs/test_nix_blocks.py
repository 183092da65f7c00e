"""Blocks of Nix in the pages are Nix: that of the child image reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.child_image import IMAGE
from tests.docs.snippets import PAGES, fences

READER = ["docker", "run", "--rm", "--network", "none", "--tmpfs", "/nix", "--tmpfs", "/tmp", "--env", "HOME=/tmp"]
READER += ["--env", "NIX_REMOTE=local", "--entrypoint", "nix-instantiate"]


def read(directory: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = [*READER, "--volume", f"{directory}:/given:ro", IMAGE, "--parse", *(f"/given/{name}" for name in names)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_block_of_nix_in_the_pages_is_nix(tmp_path: Path, nix_set_up: None) -> None:
    blocks = {f"{n}.nix": one.text for n, one in enumerate(one for page in PAGES for one in fences(page) if one.kind == "nix")}
    assert len(blocks) >= 3
    for name, text in blocks.items():
        (tmp_path / name).write_text(text)
    done = read(tmp_path, *blocks)
    assert done.returncode == 0, done.stderr
    (tmp_path / "0.nix").write_text(f"{blocks['0.nix']} }}")
    assert read(tmp_path, "0.nix").returncode != 0, "it finds what is none"
