"""Frames between the host and the init of a child container, over the container's stdin and stdout.

A frame is: header length (u32, big-endian), body length (u32, big-endian), header, body. The header is a JSON object with a
string ``type``; the body is bytes, their meaning is the header's. Used on both sides; imports the standard library only.

Neither side trusts a length: `FrameReader` refuses a frame over its bounds as soon as its eight bytes are there. The host
decodes headers strictly into typed values besides, because user code runs on the other side of the pipe.
"""

from __future__ import annotations

import struct

from cutor.jail.inside.lean import Any, Final, NamedTuple, json_text, json_value

PROTOCOL_VERSION = 5
"""Of the frames' contents. The child image carries it as its label ``cutor.protocol``, and an init's first frame as a field."""

MAX_HEADER_BYTES: Final = 1 << 20
"""The hard maximum of a header; readers set lower ones where they can."""

MAX_BODY_BYTES: Final = 256 << 20
"""The hard maximum of a body; readers set lower ones where they can."""

CHANGING: Final = "compile"
"""The kind of stage whose changes to the box stay. Those of any other go with its jail, whatever it is called."""

_LENGTHS: Final = struct.Struct(">II")


class ProtocolError(Exception):
    """The peer sent what is no frame, or a frame that is not allowed; the connection is of no more use."""


class Frame(NamedTuple):
    """One frame as it was sent. ``header`` is still the JSON text: `decode_header` parses it."""

    header: bytes
    body: bytes


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
    """Return a frame's bytes. Raises `ProtocolError` where ``header`` or ``body`` are over the hard maxima."""
    return encode_prefix(header, len(body)) + body


def encode_prefix(header: dict[str, Any], body_bytes: int) -> bytes:
    """Return a frame's bytes up to its body, for a sender that holds the body in pieces; errors as in `encode`.

    What UTF-8 can't carry (half a surrogate pair, as in an odd name of a file) becomes a question mark.
    """
    text = json_text(header).encode("utf-8", "replace")
    if len(text) > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise ProtocolError(f"a frame with {len(text)} bytes of header and {body_bytes} of body is too large to be sent")
    return _LENGTHS.pack(len(text), body_bytes) + text


def decode_header(header: bytes) -> dict[str, Any]:
    """Return a header as an object that has a string ``type``. Raises `ProtocolError` for anything else."""
    try:
        value = json_value(header.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a header is not JSON: {type(error).__name__}") from error
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ProtocolError("a header is not an object with a type")
    return value


class FrameReader:
    """Cuts a stream of bytes into frames, whatever the pieces it comes in.

    Bounds are inclusive. It holds one incomplete frame at the most, once, so its memory is bounded by them plus one piece.
    """

    def __init__(self, *, max_header_bytes: int = MAX_HEADER_BYTES, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.max_header_bytes = max_header_bytes
        self.max_body_bytes = max_body_bytes
        self._lengths: tuple[int, int] | None = None
        self._head = bytearray()  # the lengths until they are known, then the header
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next piece and return the frames now complete. Raises `ProtocolError` for lengths over the bounds."""
        return [Frame(header, bytes(body)) for header, body in self.feed_once(data)]

    def feed_once(self, data: bytes) -> list[tuple[bytes, bytearray]]:
        """Do what `feed` does, and hand out each body as the buffer that it was read into: a copy less, for small memories."""
        frames: list[tuple[bytes, bytearray]] = []
        rest = memoryview(data)
        while True:
            rest = self._take(rest)
            if not self._complete:
                return frames
            frames.append((bytes(self._head), self._body))
            self._lengths, self._head, self._body = None, bytearray(), bytearray()

    @property
    def _complete(self) -> bool:
        return self._lengths == (len(self._head), len(self._body))

    def _take(self, data: memoryview) -> memoryview:
        """Take what belongs to the present frame; return the rest."""
        if self._lengths is None:
            data = _fill(self._head, _LENGTHS.size, data)
            if len(self._head) < _LENGTHS.size:
                return data
            self._lengths = self._checked(*_LENGTHS.unpack(self._head))
            self._head = bytearray()
        header_bytes, body_bytes = self._lengths
        data = _fill(self._head, header_bytes, data)
        return _fill(self._body, body_bytes, data) if len(self._head) == header_bytes else data

    def _checked(self, header_bytes: int, body_bytes: int) -> tuple[int, int]:
        if header_bytes > self.max_header_bytes:
            raise ProtocolError(f"a header of {header_bytes} bytes: more than {self.max_header_bytes}")
        if body_bytes > self.max_body_bytes:
            raise ProtocolError(f"a body of {body_bytes} bytes: more than {self.max_body_bytes}")
        return header_bytes, body_bytes

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an incomplete frame are held: 0 between frames."""
        return len(self._head) + len(self._body) + (0 if self._lengths is None else _LENGTHS.size)


def _fill(buffer: bytearray, size: int, data: memoryview) -> memoryview:
    """Move bytes from the front of ``data`` into ``buffer`` until that has ``size`` of them; return the rest.

    A buffer that grows this way is moved by the kernel (``mremap``), not copied.
    """
    missing = size - len(buffer)
    buffer += data[:missing]
    return data[missing:]
