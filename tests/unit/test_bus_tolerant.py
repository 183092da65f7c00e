"""Our reading of headers is the library's, for whatever a sender writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from cutor.bus.tolerant import TolerantClient

PARTS = [b"a", b"Nats-Msg-Id", b" ", b"\t", b":", b"\r\n", b"\n", b"\r", b"\xc3\xbc", b"\xff", b"\x1c", b"x y", b"\x85"]


@given(st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join))
def test_headers_are_what_the_library_reads(block: bytes) -> None:
    assert TolerantClient._parse_header_lines(block) == Client._parse_header_lines(block)
