"""Bytes in JSON: text where it is text, base64 where it is not, a reference where it is large."""

from __future__ import annotations

import base64
from typing import Final, Literal

import msgspec

from cutor.model.errors import InvalidRequest

INLINE_BYTES: Final = 64 << 10
"""Contents over this size live in the stream BODIES; the event that names them holds a `BodyRef`."""

RequestEncoding = Literal["utf8", "base64", "hex"]
StoredEncoding = Literal["utf8", "base64"]


class BodyRef(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A body in the stream BODIES: subject ``cutor.body.<sha256>.<chunk>``, chunks numbered from 0.

    With a ``salt`` (16 hexadecimal digits) it stands under other names, which follow from it: its usual one was taken.
    """

    sha256: str
    """of the whole content, 64 hexadecimal digits"""
    size_bytes: int
    """bytes of the whole content"""
    chunks: int
    """number of chunks, each of 524288 bytes but the last"""
    salt: str | None = None
    """16 hexadecimal digits, where its usual name was taken; else left out"""


class Content(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Bytes in an event: ``data`` in ``encoding``, or ``body`` where they are stored apart."""

    encoding: StoredEncoding = "utf8"
    """`base64` where the bytes are not UTF-8"""
    data: str = ""
    """the bytes, in that encoding; left out where there are none, or where they are a `body`"""
    body: BodyRef | None = None
    """where the bytes are, over 64 KiB; else left out"""


class BodyNotResolvedError(LookupError):
    """A content's bytes live in BODIES and were not fetched: a mistake of the caller."""


def pack(data: bytes) -> Content:
    """Return bytes as an inline content: UTF-8 where they are that, else base64."""
    encoding, text = encode_text(data)
    return Content(encoding=encoding, data=text)


def unpack(content: Content) -> bytes:
    """Return the bytes of an inline content. Raises `BodyNotResolvedError` where they live in BODIES, ValueError."""
    if content.body is not None:
        raise BodyNotResolvedError(f"the body {content.body.sha256} was not fetched")
    return decode_text(content.encoding, content.data)


def encode_text(data: bytes) -> tuple[StoredEncoding, str]:
    """Return encoding and text for bytes: ``utf8`` where they are valid UTF-8, else ``base64``."""
    try:
        return "utf8", data.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(data).decode()


def decode_text(encoding: StoredEncoding, text: str) -> bytes:
    """Return the bytes that `encode_text` was given. Raises ValueError for a text that it does not make."""
    return text.encode() if encoding == "utf8" else _decode_base64(text)


def decode_request_text(where: str, encoding: RequestEncoding, text: str) -> bytes:
    """Return the bytes of a request's text; raises `InvalidRequest` that names ``where`` it stands."""
    if encoding == "utf8":
        return _encode_utf8(where, text)
    try:
        return _decode_base64(text) if encoding == "base64" else _decode_hex(text)
    except ValueError as error:
        raise InvalidRequest(f"{where} is not valid {encoding}: {error}") from error


def _encode_utf8(where: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(not_text(where, error)) from error


def not_text(where: str, error: UnicodeEncodeError) -> str:
    """Return what is wrong with a string that no bytes stand for; ``where`` says where it stands."""
    return f"{where} is not Unicode text: it holds the lone surrogate {error.object[error.start]!a}"


def _decode_base64(text: str) -> bytes:
    """Return the bytes of RFC 4648 base64 in its one canonical form. Raises ValueError.

    The standard library also takes padding in excess and set bits behind the last byte: other texts for the same bytes.
    """
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("its padding or its last character is not that of any bytes")
    return data


def _decode_hex(text: str) -> bytes:
    """Return the bytes of pairs of hexadecimal digits; no blanks, as the standard library takes them. Raises ValueError."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = None
    if data is None or 2 * len(data) != len(text):
        raise ValueError("it must be pairs of the digits 0-9 and a-f, and nothing else")
    return data
