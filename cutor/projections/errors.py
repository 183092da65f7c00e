"""What can go wrong with the views, as one line for people."""

from __future__ import annotations

import re
from typing import Final

from cutor.errors import REFUSED, CutorError, WaitedTooLong


class ProjectorBusy(CutorError):
    """Another projector writes the same file."""


class ViewsUnwritable(CutorError):
    """The file of the views, or its directory, cannot be made or written."""


class RebuildFailed(CutorError):
    """The views could not be made anew; those that were there are as they were."""


class ViewsRejected(Exception):
    """A file of views that cannot be continued: damaged, made by other rules, or of another stream. It is to be made anew."""


class StreamLetGo(Exception):
    """A stream's limits took messages before they were read: the archive may have them."""

    def __init__(self, stream: str, first: int, position: int) -> None:
        super().__init__(f"{stream} begins at {first} by now: what came after {position} was let go of before it was read")


_LEFT_OUT: Final = re.compile(r"reading \S+ left out ")


def is_left_out(reason: str) -> bool:
    """Whether what keeps views from going on is what readings leave out (`LeftOut`), and not an archive."""
    return _LEFT_OUT.match(reason) is not None


class LeftOut(Exception):
    """A reading of a stream left out what the stream has: it is to be read again, behind what is folded in."""

    def __init__(self, stream: str, missing: str, sequence: int) -> None:
        super().__init__(f"reading {stream} left out {missing}, and the stream has {sequence}: it is read again from there")
        self.stream = stream
        self.sequence = sequence
        """The first that the stream has of it."""


class QueryError(CutorError):
    """The question cannot be answered as it stands: wrong SQL, a statement that is not allowed, or too large an answer."""

    exit_code = REFUSED


class AnswerNotWritten(CutorError):
    """The answer could not be written as a Parquet file."""


class SnapshotFailed(CutorError):
    """No snapshot of the views was made; the message says why, and names the path where that is at fault."""


class QueryUnavailable(CutorError):
    """No projector answers questions at this server."""


class QueryTimeout(WaitedTooLong):
    """The question took longer than it was given."""
