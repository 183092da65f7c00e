"""Where this cutor is: in a checkout of the project, or installed. Messages name what sets up the one or the other.

Standard library alone: the machine's own Python imports this before there is an environment.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
"""What holds the package: the top of a checkout, or the directory that an installer put it into."""


def is_checkout(root: Path = ROOT) -> bool:
    """Return whether the package lies in a checkout, with the Makefile that sets it up."""
    return (root / "Makefile").is_file() and (root / "pyproject.toml").is_file()


def setup_command(root: Path = ROOT) -> str:
    """Return what sets this machine up for this cutor, as one types it."""
    return "make setup" if is_checkout(root) else "cutor setup"


def purge_command(root: Path = ROOT) -> str:
    """Return what undoes set-up, as one types it."""
    return "make purge" if is_checkout(root) else "cutor setup --purge"


def image_notes(state_home: Path) -> Path:
    """Return the directory in which installed cutors of a user note their child images."""
    return state_home / "cutor" / "child-images"


def image_note(state_home: Path, root: Path = ROOT) -> Path:
    """Return the file in which set-up notes the name of the image that it made for this very package.

    In a checkout that is ``.setup/child-image``. An installed package may not be writable: its note lies in the user's state
    directory, under a digest of the package's place, so that installations of different versions have images of their own.
    """
    if is_checkout(root):
        return root / ".setup" / "child-image"
    return image_notes(state_home) / hashlib.sha256(bytes(root)).hexdigest()[:16]
