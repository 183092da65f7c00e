"""The init's end of the pipe to the host: commands in on stdin, frames out on stdout."""

from __future__ import annotations

import os

from cutor.jail.inside.lean import Any, Final, Literal, NamedTuple, Sequence
from cutor.jail.inside.protocol import FrameReader, ProtocolError, decode_header, encode_prefix

_READ_BYTES: Final = 1 << 18
"""Four times what a pipe of Linux holds by default, so one call empties it. More changes nothing."""


class Command(NamedTuple):
    """What the host asks for: the decoded header, and the body in the one buffer it was read into."""

    header: dict[str, Any]
    data: bytes | bytearray

    @property
    def body(self) -> bytes:
        """A copy of the body, for who has memory enough."""
        return bytes(self.data)

    @property
    def name(self) -> str:
        """The header's ``type``."""
        return str(self.header["type"])

    def field(self, name: str, kind: type) -> Any:
        """Return a field of the header. Raises `ProtocolError` where it is missing or of another type."""
        value = self.header.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ProtocolError(f"a command {self.name} needs a field {name} of type {kind.__name__}")
        return value


class HostLink:
    """Reads commands and sends frames. The stage routine watches `fileno` and asks `interrupted` when there is something.

    End-of-file says that the host is gone, which cancels the running stage. No command is held once it is handed out.
    """

    def __init__(self, read_fd: int = 0, write_fd: int = 1) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._reader = FrameReader()
        self._waiting: list[Command] = []
        self._closed = False
        self.cancelled = False

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the host sends something or goes away."""
        return self._read_fd

    def next(self) -> Command | None:
        """Wait for the next command; null once the host closed its end. Raises `ProtocolError`."""
        while not self._waiting:
            if self._closed:
                return None
            self._read()
        return self._waiting.pop(0)

    def interrupted(self) -> Literal["cancel"] | None:
        """Take what can be read now; return what to do where the host has gone. Call when `fileno` is readable."""
        self._read()
        return "cancel" if self.cancelled else None

    def _read(self) -> None:
        data = os.read(self._read_fd, _READ_BYTES)
        if not data:
            self._closed = self.cancelled = True
        for header, body in self._reader.feed_once(data):
            self._waiting.append(Command(decode_header(header), body))

    def send(self, header: dict[str, Any], body: Sequence[bytes | bytearray] = ()) -> None:
        """Send one frame, its body in pieces that are written one after the other. Blocks while the host does not read."""
        self._write(encode_prefix(header, sum(map(len, body))))
        for piece in body:
            self._write(piece)

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._write_fd, view) :]
