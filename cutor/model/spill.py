"""Which contents of an event go to BODIES: the large ones, and as many more as keep the event small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cutor.model.content import INLINE_BYTES

EVENT_BYTES: Final = 8 << 20
"""The largest message that the stream EVENTS takes (``max_msg_size`` in streams.yaml), headers included."""

EVENT_INLINE_BYTES: Final = 1 << 20
"""Contents that one event holds at the most. With base64's third and JSON's escapes (six bytes for a control character) they
take up to 6 MiB of its `EVENT_BYTES`."""

EVENT_RECORD_BYTES: Final = 3 << 19
"""What else a ``submitted`` event holds at the most, 1.5 MiB as JSON: names, arguments, labels, limits, and a `REFERENCE_BYTES`
for every content. None of it can go to BODIES. The last half of a MiB is for headers and the rest of the event."""

REFERENCE_BYTES: Final = 192
"""A content in an event without its bytes: its reference (at most 148 bytes) and the field names around it."""


def spilled(sizes: Sequence[int]) -> frozenset[int]:
    """Return the positions of the contents that go to BODIES, given their sizes in bytes.

    Every content over `INLINE_BYTES` goes; then the largest of the rest, until the others fit into `EVENT_INLINE_BYTES`.
    """
    apart = {position for position, size in enumerate(sizes) if size > INLINE_BYTES}
    inline = sum(size for position, size in enumerate(sizes) if position not in apart)
    for position in sorted(range(len(sizes)), key=lambda position: -sizes[position]):
        if inline <= EVENT_INLINE_BYTES:
            break
        if position not in apart:
            apart.add(position)
            inline -= sizes[position]
    return frozenset(apart)
