"""A directory as a request: every regular file in it, and ``submission.toml`` for the rest; or of its environment alone.

Every path is opened beneath the directory, name by name, without following a link: what is sent is what lies in the directory,
also while somebody changes it. A link, a FIFO, a socket or a device is refused by name; nothing is skipped.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cutor.model.content import encode_text
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Bounds, RequestedLimits
from cutor.model.quoting import visible
from cutor.model.request import SHELL_NIX, File, Request, explain_toml, request_from
from cutor.model.request_checks import check_file_name

SETTINGS_FILE: Final = "submission.toml"
SHOWN_PATH_CHARACTERS: Final = 200
"""Two lines of a terminal: enough to know a path by. A choice."""
_CHUNK_BYTES: Final = 1 << 20
"""Read at one time: most files are shorter. A choice."""
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
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
    document["files"] = [file_of(name, content) for name, content in sorted(files.items())]
    return _request(document)


def read_environment(path: Path, bounds: Bounds, also: Iterable[str] = ()) -> Request:
    """Return a request without a script: what decides an environment, and nothing else of what lies beside it is read.

    ``path`` is a ``shell.nix``, whatever it is called before ``.nix``, or a directory that holds one. The names ``also``,
    and those that a ``submission.toml`` beside a ``shell.nix`` has as `environment_files`, are environment files; tenant,
    labels and limits of the dependencies are those of that file, too. So its key is that of the directory's submissions.
    Raises `InvalidRequest`.
    """
    directory, name = (path, SHELL_NIX) if path.is_dir() else (path.parent, path.name)
    if not name.endswith(".nix"):
        raise InvalidRequest(
            f"{shown_path(path)} is no shell.nix: name a file that ends with .nix, or a directory with a shell.nix"
        )
    reader = _Reader(bounds)
    with _opened(directory) as beneath:
        files = {SHELL_NIX: reader.pick(beneath, name, directory / name)}
        rest = _request({"files": (), "test_cases": ()} | (reader.settings(beneath) if name == SHELL_NIX else {}))
        names = dict.fromkeys((*rest.environment_files, *also))
        names.pop(SHELL_NIX, None)
        files |= {other: reader.pick(beneath, other, directory / other) for other in names}
    return Request(
        files=tuple(file_of(*file) for file in files.items()),
        test_cases=(),
        tenant=rest.tenant,
        labels=rest.labels,
        environment_files=tuple(names),
        limits=RequestedLimits(dependencies=rest.limits.dependencies),
    )


def shown_path(path: Path) -> str:
    """Return a path as messages have it: escaped, its beginning where it is longer than a line takes."""
    text = visible(str(path)[: SHOWN_PATH_CHARACTERS + 1])
    return text if len(text) <= SHOWN_PATH_CHARACTERS else f"{text[:SHOWN_PATH_CHARACTERS]}…"


def _request(document: dict[str, Any]) -> Request:
    """Return the request in what a ``submission.toml`` says. Raises `InvalidRequest` that names the file."""
    try:
        return request_from(document)
    except InvalidRequest as error:
        raise InvalidRequest(f"{SETTINGS_FILE}: {str(error).removeprefix('request: ')}") from error


def file_of(name: str, content: bytes) -> File:
    """Return a file of a request: as text where it is UTF-8."""
    encoding, text = encode_text(content)
    return File(name=name, content=text, encoding=encoding)


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

    def pick(self, directory: int, name: str, shown: Path) -> bytes:
        """Return the content of one file beneath an open directory; no link on the way to it is followed.

        Raises `InvalidRequest`, also where it is not there: ``shown`` is how the message has it.
        """
        self._check_name(name)
        try:
            return self._picked(directory, name, name)
        except FileNotFoundError as error:
            raise InvalidRequest(f"{shown_path(shown)}: there is no such file") from error

    def _picked(self, directory: int, rest: str, name: str) -> bytes:
        above, _, beneath = rest.partition("/")
        mode = os.stat(above, dir_fd=directory, follow_symlinks=False).st_mode
        if beneath:
            with self._open(directory, above, name, os.O_DIRECTORY) as next_directory:
                return self._picked(next_directory, beneath, name)
        refuse_special(mode, name, _instead(mode, name))
        with self._open(directory, rest, name, os.O_NONBLOCK) as file:
            return self._read(file, name)

    def settings(self, directory: int) -> dict[str, Any]:
        """Return what a directory's ``submission.toml`` says; nothing where it has none. Raises `InvalidRequest`."""
        try:
            os.stat(SETTINGS_FILE, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return {}
        return _parse_settings(self.pick(directory, SETTINGS_FILE, Path(SETTINGS_FILE)))

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


def refuse_special(mode: int, name: str, instead: str = "remove it from the directory") -> None:
    """Raise `InvalidRequest` for anything that is no regular file; ``instead`` is what to do about it."""
    if not stat.S_ISREG(mode):
        kind = next((kind for holds, kind in _KINDS if holds(mode)), "no regular file")
        raise InvalidRequest(f"files: {name!r} is {kind}; only regular files are sent: {instead}")


def _instead(mode: int, name: str) -> str:
    """Return what to do about a file that was named and is none."""
    if stat.S_ISDIR(mode) and name not in {SHELL_NIX, SETTINGS_FILE}:
        return "name the files in it, each by itself"
    return "put a regular file in its place"
