"""A directory as a request: every regular file in it, and ``submission.toml`` for the rest.

Every path is opened beneath the directory, name by name, without following a link: what is sent is what lies in the directory,
also while somebody changes it. A link, a FIFO, a socket or a device is refused by name; nothing is skipped.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cutor.model.content import encode_text
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Bounds
from cutor.model.quoting import visible
from cutor.model.request import Request, check_file_name, explain_toml, request_from

SETTINGS_FILE: Final = "submission.toml"
SHOWN_PATH_CHARACTERS: Final = 200
_CHUNK_BYTES: Final = 1 << 20
_KINDS: Final = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_directory(path: Path, bounds: Bounds) -> Request:
    """Return the request that a directory holds; ``submission.toml`` without test cases, or none, means one with empty input.

    Raises `InvalidRequest` that names the file, also for more files or bytes than ``bounds`` allows: not more is read.
    """
    with _opened(path) as directory:
        reader = _Reader(bounds)
        files = dict(reader.walk(directory, ""))
    settings = _parse_settings(files.pop(SETTINGS_FILE, b""))
    document = {"test_cases": [{}]} | settings
    document["files"] = [_file(name, content) for name, content in sorted(files.items())]
    try:
        return request_from(document)
    except InvalidRequest as error:
        raise InvalidRequest(f"{SETTINGS_FILE}: {str(error).removeprefix('request: ')}") from error


def shown_path(path: Path) -> str:
    """Return a path as messages have it: escaped, its beginning where it is longer than a line takes."""
    text = visible(str(path)[: SHOWN_PATH_CHARACTERS + 1])
    return text if len(text) <= SHOWN_PATH_CHARACTERS else f"{text[:SHOWN_PATH_CHARACTERS]}…"


def _file(name: str, content: bytes) -> dict[str, str]:
    encoding, text = encode_text(content)
    return {"name": name, "content": text, "encoding": encoding}


def _parse_settings(raw: bytes) -> dict[str, Any]:
    try:
        settings = tomllib.loads(raw.decode())
    except ValueError as error:
        raise InvalidRequest(f"{SETTINGS_FILE}: {explain_toml(error)}") from error
    except RecursionError as error:
        raise InvalidRequest(f"{SETTINGS_FILE}: nested too deeply") from error
    if "files" in settings:
        raise InvalidRequest(f"{SETTINGS_FILE}: files: the files are those of the directory; remove this key")
    return settings


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequest(f"{shown_path(path)}: the directory cannot be read: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what the system says against reading into an `InvalidRequest` that names it: others may change the directory."""
    try:
        yield
    except OSError as error:
        raise InvalidRequest(f"files: {name!r} cannot be read: {error.strerror}") from error


class _Reader:
    """Walks a directory and counts what it reads."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._files = 0
        self._bytes = 0

    def walk(self, directory: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of every file beneath an open directory."""
        with _readable(prefix or "."):
            entries = sorted(os.listdir(directory))
        for entry in entries:
            name = prefix + entry
            self._check_name(name)
            with _readable(name):
                mode = os.stat(entry, dir_fd=directory, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                with self._open(directory, entry, name, os.O_DIRECTORY) as beneath:
                    yield from self.walk(beneath, f"{name}/")
            else:
                refuse_special(mode, name)
                with self._open(directory, entry, name, os.O_NONBLOCK) as file:
                    yield name, self._read(file, name)

    def _check_name(self, name: str) -> None:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"files: the name {os.fsencode(name)!r} is not UTF-8") from error
        check_file_name(name, self._bounds.file_name_bytes)

    @contextmanager
    def _open(self, directory: int, entry: str, name: str, flags: int) -> Iterator[int]:
        with _readable(name):
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, file: int, name: str) -> bytes:
        """Return the content; the file is looked at again now that it is open, and read no further than the bound."""
        found = os.fstat(file)
        refuse_special(found.st_mode, name)
        self._files += name != SETTINGS_FILE
        if self._files > self._bounds.files:
            raise InvalidRequest(f"files: at least {self._files}, more than the maximum of {self._bounds.files} files")
        pieces: list[bytes] = []
        expected = self._bytes + found.st_size
        while piece := self._piece(file, name):
            self._bytes += len(piece)
            self._check_bytes(expected)
            pieces.append(piece)
        return b"".join(pieces)

    def _check_bytes(self, expected: int) -> None:
        """Raise `InvalidRequest` where more was read than is allowed; ``expected`` with the rest of the file that is read."""
        if self._bytes > (most := self._bounds.request_bytes):
            found = max(self._bytes, expected)
            raise InvalidRequest(f"files: together at least {found} bytes, more than the maximum of {most} bytes")

    @staticmethod
    def _piece(file: int, name: str) -> bytes:
        with _readable(name):
            return os.read(file, _CHUNK_BYTES)


def refuse_special(mode: int, name: str) -> None:
    """Raise `InvalidRequest` for anything that is no regular file."""
    if not stat.S_ISREG(mode):
        kind = next((kind for holds, kind in _KINDS if holds(mode)), "no regular file")
        raise InvalidRequest(f"files: {name!r} is {kind}; only regular files are sent: remove it from the directory")
