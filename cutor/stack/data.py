"""The data directory of a stack: what is in it and who may read it.

```
<data>/instance      the stack's random name, kept for ever: the label of its containers
<data>/place         for which directory that name was made: a copy has the name, and is another one (`place`)
<data>/lock          held, as this directory itself is, by the supervisor and every role process for as long as it lives
<data>/config.toml   the configuration that the running stack was started with
<data>/images.json   the ids of the images that its containers have
<data>/nats/         the server's store: the streams, which are the truth
<data>/restoring     there while a backup is being restored (`restoring`)
<data>/power-failed  there until deliveries that a power failure may have taken are seen to (`cutor.journal.redelivery`)
<data>/in-hand/      what each role has in hand, and environments that are to go, for its next life
<data>/metrics/      where each role has its metrics, for a scraper (`cutor.process.exposing`)
<data>/log/          one log a process
```
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from cutor.errors import REFUSED, CutorError
from cutor.private_files import write_privately
from cutor.stack import place
from cutor.stack.ownership import objection
from cutor.stack.place import Place

INSTANCE: Final = re.compile(r"[0-9a-f]{12}", re.ASCII)
PRIVATE: Final = 0o700
"""Mode of a data directory: nobody but its owner comes in."""


class DataDirectoryUnusable(CutorError):
    """The data directory cannot be made, read or written; the message names it."""

    exit_code = REFUSED


class DataDirectory:
    """The paths under one data directory. Nothing is made or read before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "lock"
        self.place_file = path / "place"
        self.instance_file = path / "instance"
        self.config_file = path / "config.toml"
        self.images_file = path / "images.json"
        self.server = path / "nats"
        self.restoring = path / "restoring"
        self.power_failed = path / "power-failed"
        self.logs = path / "log"
        self.supervisor_log = self.logs / "supervisor.log"

    def exists(self) -> bool:
        """Whether a stack was ever here; one that lost its lock file is one, too."""
        return self.lock.is_file() or self.instance_file.is_file()

    def check(self) -> None:
        """Raise `DataDirectoryUnusable` where the directory is there and is not this user's alone (`ownership`)."""
        try:
            why = objection(self.path)
        except OSError as error:
            why = error.strerror
        if why is not None:
            raise DataDirectoryUnusable(f"{self.path} cannot be the data directory: {why}")

    def prepare(self) -> None:
        """Make the directory, for its owner alone. Raises `DataDirectoryUnusable`, before anything is made, as `check` does."""
        self.check()
        try:
            self.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            self.logs.mkdir(mode=PRIVATE, exist_ok=True)
        except OSError as error:
            raise DataDirectoryUnusable(f"{self.path} cannot be the data directory: {error.strerror}") from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise DataDirectoryUnusable(f"{self.path} cannot be the data directory: not writable for this user")

    def instance(self) -> str | None:
        """Return the stack's name, None where there is none yet, or that of the directory which this one is a copy of.

        Raises `DataDirectoryUnusable` for a damaged one.
        """
        return None if self.is_copy() else self._named()

    def is_copy(self) -> bool:
        """Whether the name that stands here is another directory's, whose containers and leases are not this one's."""
        recorded = place.read(self.place_file)
        return recorded is not None and self.path.is_dir() and not recorded.is_same(Place.of(self.path))

    def make_instance(self, say: Callable[[str], None] | None = None) -> str:
        """Return the stack's name, made up at the first time, and in a copy, of which ``say`` is told. To be called under the
        lock. Raises `DataDirectoryUnusable`.
        """
        name, former = self.instance(), self._named()
        if name is None:
            name = secrets.token_hex(6)
            write_privately(self.instance_file, f"{name}\n".encode())
            if former is not None and say is not None:
                say(
                    f"{self.path} is a copy of the data directory of the stack {former}, was moved to another disk or mounted "
                    f"anew: it is the stack {name} now; should {former} have left containers, `cutor doctor` tells of them"
                )
        self._record_place()  # last: a copy is one until then
        return name

    def _record_place(self) -> None:
        here = Place.of(self.path)
        if place.read(self.place_file) != here:
            write_privately(self.place_file, msgspec.json.encode(here))

    def _named(self) -> str | None:
        try:
            name = self.instance_file.read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise DataDirectoryUnusable(f"{self.instance_file} cannot be read: {error}") from error
        if not INSTANCE.fullmatch(name):
            raise DataDirectoryUnusable(f"{self.instance_file} holds {name[:40]!r} instead of twelve hexadecimal digits")
        return name


def command_for(command: str, data: Path) -> str:
    """Return the command that does something with the stack of this data directory, whichever was started last."""
    return f"cutor {command} --data {shlex.quote(str(data))}"
