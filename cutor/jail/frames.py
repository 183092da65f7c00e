"""The frames that the init of a child container sends, one by one, of whatever kind they are."""

from __future__ import annotations

from cutor.containers.child import Child
from cutor.jail.inside.protocol import Frame, FrameReader


class Frames:
    """What came of one container and was not asked for yet. ``reader`` has the bounds of a frame, which may be changed."""

    def __init__(self, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self.reader = FrameReader(max_header_bytes=max_header_bytes, max_body_bytes=max_body_bytes)
        self._come: list[Frame] = []

    async def next(self, child: Child) -> Frame | None:
        """Return the next frame; None where the container ended instead. Raises `ProtocolError` for what is no frame."""
        while not self._come:
            data = await child.receive()
            if not data:
                return None
            self._come += self.reader.feed(data)
        return self._come.pop(0)
