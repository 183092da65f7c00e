"""Both ends of a program's pipes: feeding its stdin, taking its output. Neither ever blocks; epoll says when to go on."""

from __future__ import annotations

import os

from cutor.jail.inside.lean import Final

_PIECE_BYTES: Final = 1 << 17
"""Twice what a pipe of Linux holds by default: one call takes all that is there. More changes nothing."""
_PIECE: Final = memoryview(bytearray(_PIECE_BYTES))
"""What every read goes into: an object for each would be mapped and unmapped each time, and the kernel, which frees what it
held for a mapping only after a while, would count thousands of them as memory of a container whose program prints byte by byte.
"""


class Pipe:
    """Our end of one of a program's pipes."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._open = True

    def close(self) -> None:
        """Close it; nothing happens the second time."""
        if self._open:
            self._open = False
            os.close(self.fd)


class Sink(Pipe):
    """Takes what a program prints: keeps the first ``limit_bytes``, or the last ones (``keep_tail``), counts everything."""

    def __init__(self, fd: int, limit_bytes: int, *, keep_tail: bool = False) -> None:
        super().__init__(fd)
        self.total_bytes = 0
        self.kept = bytearray()
        """One buffer: an object for each read would cost a program's byte by byte output fifty times its size."""
        self.ended = False
        self._limit_bytes = limit_bytes
        self._keep_tail = keep_tail

    @property
    def over(self) -> bool:
        """Whether more was printed than is kept."""
        return self.total_bytes > self._limit_bytes

    def take(self) -> None:
        """Read once; sets `ended` at the pipe's end."""
        try:
            read_bytes = os.readv(self.fd, (_PIECE,))
        except BlockingIOError:
            return
        data = _PIECE[:read_bytes]
        self.ended = not read_bytes
        if self._keep_tail:
            self.kept += data
            del self.kept[: max(len(self.kept) - self._limit_bytes, 0)]
        elif room := max(self._limit_bytes - self.total_bytes, 0):
            self.kept += data[:room]
        self.total_bytes += read_bytes


class Feed(Pipe):
    """Gives a program its input. A program that reads none of it, or closes it early, is no failure."""

    def __init__(self, fd: int, data: bytes | bytearray) -> None:
        super().__init__(fd)
        self._rest = memoryview(data)

    @property
    def done(self) -> bool:
        """Whether everything was written, or nobody will read any more."""
        return not self._rest

    def give(self) -> None:
        """Write once."""
        try:
            self._rest = self._rest[os.write(self.fd, self._rest[:_PIECE_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._rest = memoryview(b"")

    def close(self) -> None:
        """Close the pipe and let go of the input."""
        super().close()
        self._rest = memoryview(b"")
