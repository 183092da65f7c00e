"""Builds every package of the offline set into the store volume and roots it, so that the first submission does not wait.

Runs in the child image as the owner of the store, with no network and no capability. The builders are the project's own, so
neither daemon nor sandbox stands between; user code never runs this way. Argument: the digest of the set, noted at the end.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "/opt/cutor")  # where the image keeps cutor's own files

from cutor.nix.inside.store import hold_lock

PACKAGES = "/packages/nixpkgs/warm.nix"
ROOTS = Path("/nix/var/nix/gcroots/cutor-packages")
BUILT = Path("/nix/var/cutor-packages")
SETTINGS = "sandbox = false\nbuild-users-group =\nsubstituters =\nbuild-dir = /build\n"
ENVIRONMENT = {"HOME": "/tmp", "PATH": os.environ["PATH"], "NIX_REMOTE": "local", "NIX_CONFIG": SETTINGS}  # noqa: S108


def nix(*arguments: str) -> list[str]:
    """Run one of Nix's programs; the lines it prints."""
    printed = subprocess.run(arguments, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return printed.split()


def root(paths: set[str]) -> None:
    """Keep exactly `paths` from garbage collection."""
    ROOTS.mkdir(parents=True, exist_ok=True)
    links = {ROOTS / Path(path).name: path for path in paths}
    for link, path in links.items():
        if not link.is_symlink():
            link.symlink_to(path)
    for link in set(ROOTS.iterdir()) - set(links):
        link.unlink()


def main(digest: str) -> int:
    """Build, root, note. Returns the exit code; what failed is Nix's last word on standard error."""
    hold_lock(lambda: print("waiting for a garbage collection, or removing what dead builds left", flush=True))
    try:
        derivations = nix("nix-instantiate", PACKAGES)
        outputs = nix("nix-store", "--realise", *derivations)
    except subprocess.CalledProcessError as error:
        return error.returncode
    # Derivations are rooted too: each evaluation would otherwise copy the archives into the store again.
    root({*derivations, *outputs})
    BUILT.write_text(digest)
    return 0


sys.exit(main(sys.argv[1]))
