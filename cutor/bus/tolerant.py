"""The library's client, made to live through messages that no client of cutor's would send.

A subject is any bytes without white space to the server, and headers are whatever their sender wrote. The library's reader ends
for good at a subject that is not UTF-8 or a block of headers that ends too early: one such message in a stream, and whoever is
to read it hears nothing any more.
"""

from __future__ import annotations

from nats.aio.client import Client
from nats.aio.msg import Msg

from cutor.bus.message import without_doubt
from cutor.bus.readable import LIKE_THE_SERVER


class TolerantClient(Client):
    """Hands out every message, whatever its subject and headers are."""

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None) -> Msg:
        return super()._build_message(sid, _readable(subject), _readable(reply), data, headers)  # type: ignore[no-any-return]

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """Return the headers; none where the block is none."""
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError):
            return None
        return found and without_doubt(headers, found)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Return the headers of a block, as the library does, which looks at each character of a name, in twice the time."""
        found: dict[str, str] = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon or not name.isascii():
                continue
            key = name.strip().decode()
            if not key or key.split() == [key]:
                found[key] = value.strip().decode(errors="replace")
        return found


def _readable(name: bytes) -> bytes:
    """Return a subject that the library can decode; all but hostile ones are returned as they are."""
    return name if name.isascii() else name.decode(errors=LIKE_THE_SERVER).encode()
